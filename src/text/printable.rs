//! Names and messages without control characters, for terminals and logs.

use std::borrow::Cow;

/// Escapes control characters, including line breaks.
pub fn one_line(name: &str) -> Cow<'_, str> {
    escaped(name, char::is_control)
}

/// Escapes control characters except line breaks and tabs.
///
/// Control characters can move the cursor or change colours.
pub fn printable(message: &str) -> Cow<'_, str> {
    escaped(message, |character| character.is_control() && !matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::{one_line, printable};

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\nb\u{1b}[31m\tü"), "a\\nb\\u{1b}[31m\\tü");
        assert_eq!(printable("a\nb\u{1b}[31m\tü"), "a\nb\\u{1b}[31m\tü");
    }
}
