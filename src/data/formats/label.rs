//! The class of an image as files store it: a number, a number as text, or a name.
//!
//! An unusable class is not an error here, because pre-training needs no classes.

use std::fmt::Display;

use crate::shape::MAX_CLASSES;

use super::listing_cache::ListedClass;

/// Maximum length of a class name in bytes.
const MAX_NAME: usize = 200;

/// Converts the text in `bytes` to a class.
pub(super) fn of_bytes(bytes: &[u8]) -> ListedClass {
    match std::str::from_utf8(bytes) {
        Ok(text) => of_text(text),
        Err(_) => invalid("the class is not valid UTF-8 text"),
    }
}

/// Converts `text` to a class: to a class number if possible, otherwise to a class name.
pub(super) fn of_text(text: &str) -> ListedClass {
    let text = text.trim();
    if text.is_empty() {
        return invalid("the class is empty");
    }
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    match text.parse::<f64>() {
        Ok(value) if is_number => match of_number(value, text) {
            ListedClass::Number(number) => ListedClass::TextNumber(number),
            other => other,
        },
        _ if text.len() > MAX_NAME || text.contains(char::is_control) => {
            let start: String = text.chars().take(20).collect();
            invalid(format!(
                "{start:?} is not a valid class: a class must be a number, or a name on one line"
            ))
        }
        _ => ListedClass::Name(text.to_owned()),
    }
}

/// Converts `value` to a class number. Error texts show the number as `shown`.
pub(super) fn of_number(value: f64, shown: impl Display) -> ListedClass {
    if value >= MAX_CLASSES as f64 {
        let largest = MAX_CLASSES - 1;
        return invalid(format!(
            "class {shown} is too large: the largest supported class is {largest}"
        ));
    }
    if value >= 0.0 && value.fract() == 0.0 {
        return ListedClass::Number(value as u32);
    }
    invalid(format!(
        "{shown} is not a valid class: a class must be a whole number from 0, or a name"
    ))
}

pub(super) fn invalid(problem: impl Into<String>) -> ListedClass {
    ListedClass::Invalid(problem.into())
}
