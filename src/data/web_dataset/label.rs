//! The class of a sample: a whole number in a `.cls` file, or `label` or `cls` of a `.json` one.

use serde_json::Value;

/// More than any of them has.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// Keys of a `.json` file that hold a class.
const KEYS: [&str; 2] = ["label", "cls"];

/// Whether members with this ending may hold a class.
pub(super) fn is_label(ending: &str) -> bool {
    matches!(ending, "cls" | "json")
}

/// Reads a class; `None` where a `.json` file has none, as those of captions.
pub(super) fn parse(ending: &str, bytes: &[u8]) -> Result<Option<u32>, String> {
    if ending == "cls" {
        let text = String::from_utf8_lossy(bytes);
        let label = text.trim().parse();
        return label
            .map(Some)
            .map_err(|_| format!("{:?} is no class: a whole number was expected", shown(&text)));
    }
    let json: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("this is no JSON: {error}"))?;
    let Some(value) = KEYS.iter().find_map(|key| json.get(key)).filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let label = value.as_u64().and_then(|label| u32::try_from(label).ok());
    label.map(Some).ok_or_else(|| format!("{value} is no class: a whole number was expected"))
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
        assert!(parse("cls", b"cat").unwrap_err().contains("\"cat\" is no class"));
        assert!(parse("json", br#"{"cls": -1}"#).unwrap_err().contains("-1 is no class"));
        assert!(parse("json", b"{").unwrap_err().contains("no JSON"));
    }
}
