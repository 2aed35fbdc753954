//! The class of a sample: a whole number in a `.cls` file, or under `label` or `cls` in a `.json` file.

use serde_json::Value;

use crate::shape::MAX_CLASSES;

/// Maximum size of a tar member with a class, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;
const KEYS: [&str; 2] = ["label", "cls"];

#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum LabelError {
    #[error("{0} is not a valid class: a class must be a whole number")]
    NotANumber(String),
    #[error("invalid JSON: {0}")]
    Json(String),
    #[error("class {0} is too large: the largest supported class is {largest}", largest = MAX_CLASSES - 1)]
    TooLarge(u32),
}

impl LabelError {
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => {
                "number the classes from 0 without gaps, or download the shard again"
            }
            Self::NotANumber(_) | Self::Json(_) => super::AGAIN,
        }
    }
}

/// Returns whether tar members with the extension `ending` may hold a class.
pub(super) fn is_label(ending: &str) -> bool {
    matches!(ending, "cls" | "json")
}

/// Reads the class in a tar member with the extension `ending`.
///
/// Returns `None` if a `.json` member has no class.
pub(super) fn parse(ending: &str, bytes: &[u8]) -> Result<Option<u32>, LabelError> {
    let label = parse_number(ending, bytes)?;
    match label {
        Some(label) if label as usize >= MAX_CLASSES => Err(LabelError::TooLarge(label)),
        label => Ok(label),
    }
}

fn parse_number(ending: &str, bytes: &[u8]) -> Result<Option<u32>, LabelError> {
    if ending == "cls" {
        let text = String::from_utf8_lossy(bytes);
        let label = text.trim().parse();
        return label.map(Some).map_err(|_| LabelError::NotANumber(format!("{:?}", shown(&text))));
    }
    let json: Value =
        serde_json::from_slice(bytes).map_err(|error| LabelError::Json(error.to_string()))?;
    let Some(value) = KEYS.iter().find_map(|key| json.get(key)).filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let label = value.as_u64().and_then(|label| u32::try_from(label).ok());
    label.map(Some).ok_or_else(|| LabelError::NotANumber(value.to_string()))
}

fn shown(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn classes_are_whole_numbers() {
        assert_eq!(parse("cls", b"12\n"), Ok(Some(12)));
        assert_eq!(parse("json", br#"{"label": 3, "caption": "x"}"#), Ok(Some(3)));
        assert_eq!(parse("json", br#"{"caption": "x"}"#), Ok(None));
        let error = |ending, bytes| parse(ending, bytes).unwrap_err().to_string();
        assert!(error("cls", b"cat").contains("\"cat\" is not a valid class"));
        assert!(error("json", br#"{"cls": -1}"#).contains("-1 is not a valid class"));
        assert!(error("json", b"{").contains("invalid JSON"));
        assert_eq!(parse("cls", b"999999"), Ok(Some(999_999)));
        for (ending, bytes) in [("cls", &b"4294967295"[..]), ("json", br#"{"label": 1000000}"#)] {
            assert!(error(ending, bytes).contains("the largest supported class is 999999"));
        }
    }
}
