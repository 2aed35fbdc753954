//! The class of a sample: a number or a name in a `.cls` file, or under `label` or `cls` in a `.json` file.
//!
//! An unusable class is not an error here, because pre-training needs no classes.

use serde_json::Value;

use super::python_json;
use crate::data::formats::label;
use crate::data::formats::listing_cache::ListedClass;

/// Maximum size in bytes of a tar member that contains a class.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Returns whether a tar member may contain a class. For the member `a.Output.cls`, `suffix` is `output.cls`.
pub(super) fn is_label(suffix: &str) -> bool {
    matches!(extension(suffix), "cls" | "json")
}

/// Returns the part of `suffix` after the last dot.
pub(super) fn extension(suffix: &str) -> &str {
    suffix.rsplit('.').next().unwrap_or(suffix)
}

/// Reads the class from `bytes`, the content of a tar member. `suffix` is the end of the member's name, such as `cls`.
///
/// Returns `None` if a `.json` file contains no class, for example only captions.
pub(super) fn parse(suffix: &str, bytes: &[u8]) -> Option<ListedClass> {
    if extension(suffix) == "cls" {
        return Some(label::of_bytes(bytes));
    }
    match python_json::values(bytes, ["label", "cls"]) {
        Ok([label, cls]) => of_json(&label.or(cls)?),
        Err(error) => Some(label::invalid(format!("invalid JSON: {error}"))),
    }
}

/// Returns the class of a JSON value; `None` for `null`, which also stands for `NaN`.
fn of_json(value: &Value) -> Option<ListedClass> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => ListedClass::Number((*value).into()),
        Value::String(text) => label::of_text(text),
        Value::Number(value) => label::of_number(value.as_f64().unwrap_or(f64::NAN), value),
        Value::Array(_) => label::invalid(
            "a list is not a valid class: a class must be a whole number from 0, or a name",
        ),
        Value::Object(_) => label::invalid(
            "a JSON object is not a valid class: a class must be a whole number from 0, or a name",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{ListedClass, parse};

    #[test]
    fn classes_are_whole_numbers_or_names() {
        let json = |value: &str| parse("json", format!("{{\"label\": {value}}}").as_bytes());
        let cls = |text: &str| parse("output.cls", text.as_bytes());
        let name = |text: &str| Some(ListedClass::Name(text.to_owned()));
        assert_eq!(cls("12\n"), Some(ListedClass::TextNumber(12)));
        assert_eq!(cls("tabby cat\n"), name("tabby cat"));
        assert_eq!(cls("n01440764"), name("n01440764"));
        assert_eq!(json("3"), Some(ListedClass::Number(3)));
        assert_eq!(json("0.0"), Some(ListedClass::Number(0)));
        assert_eq!(json("true"), Some(ListedClass::Number(1)));
        assert_eq!(json("\"0\""), Some(ListedClass::TextNumber(0)));
        assert_eq!(json("\"tabby\""), name("tabby"));
        assert_eq!((json("null"), json("NaN")), (None, None));
        assert_eq!(parse("json", br#"{"caption": "x"}"#), None);
        assert_eq!(parse("json", br#"{"cls": 999999}"#), Some(ListedClass::Number(999_999)));
        let problem = |class: Option<ListedClass>| match class {
            Some(ListedClass::Invalid(problem)) => problem,
            other => panic!("{other:?}"),
        };
        for class in [json("-1"), json("1.5"), json("[3]"), json("{}"), cls("-1")] {
            assert!(problem(class.clone()).contains("is not a valid class"), "{class:?}");
        }
        for class in [json("1000000"), cls("4294967295"), json("1e300")] {
            let problem = problem(class);
            assert!(problem.contains("the largest supported class is 999999"), "{problem}");
        }
        assert!(problem(parse("json", b"{")).contains("invalid JSON"));
        assert!(problem(cls("")).contains("empty") && problem(cls("a\nb")).contains("one line"));
        assert!(problem(parse("cls", b"\xff")).contains("not valid UTF-8"));
    }
}
