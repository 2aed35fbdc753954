//! Reads the JSON that Python's `json.dumps` writes: with `NaN`, `Infinity` and lone surrogates.
//!
//! Only the values of a few top-level keys are parsed. Other values need valid syntax, but may be out of range, such as
//! the number `1e999`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// Values that Python's `json` module writes, although JSON does not allow them.
const NOT_JSON: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Returns the values of the top-level `keys` of a JSON object, in the order of `keys`.
///
/// `NaN` and infinite values become `null`. If a key occurs twice, the last value counts, as in Python. If the JSON is
/// not an object, all values are `None`.
pub(super) fn values<const N: usize>(
    bytes: &[u8],
    keys: [&str; N],
) -> serde_json::Result<[Option<Value>; N]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bytes = &*without_nan(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let found = if bytes.trim_ascii_start().starts_with(b"{") {
        deserializer.deserialize_map(Wanted(keys))?
    } else {
        IgnoredAny::deserialize(&mut deserializer)?;
        [const { None }; N]
    };
    deserializer.end()?;
    Ok(found)
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings with `null`.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    let has = |word: &[u8]| memchr::memmem::find(bytes, word).is_some();
    if !has(b"NaN") && !has(b"Infinity") {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut rest, mut in_string) = (Vec::with_capacity(bytes.len() + 64), bytes, false);
    while let [byte, after @ ..] = rest {
        let word = NOT_JSON.iter().find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        let length = if in_string && *byte == b'\\' && !after.is_empty() { 2 } else { 1 };
        in_string ^= *byte == b'"';
        out.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(out)
}

struct Wanted<'k, const N: usize>([&'k str; N]);

impl<'de, const N: usize> Visitor<'de> for Wanted<'_, N> {
    type Value = [Option<Value>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(Key(key)) = map.next_key()? {
            match self.0.iter().position(|wanted| wanted.as_bytes() == key) {
                Some(place) => found[place] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// A JSON key as bytes, because Python may write keys that are not valid UTF-8 (lone surrogates).
struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes.to_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text.as_bytes().to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::values;

    fn label(json: &[u8]) -> Option<String> {
        values(json, ["label"]).ok().map(|[label]| label.map_or("-".to_owned(), |l| l.to_string()))
    }

    #[test]
    fn python_json_is_read() {
        // Written by Python's json.dumps.
        let read: [(&[u8], &str); 12] = [
            (br#"{"label": 3, "punsafe": NaN}"#, "3"),
            (br#"{"a": [Infinity, -Infinity, {"label": NaN}], "label": 3}"#, "3"),
            (br#"{"label": NaN}"#, "null"),
            (br#"{"caption": "NaN \" Infinity \\", "label": "NaN"}"#, "\"NaN\""),
            (br#"{"caption": "\ud83d \udc00x", "\ud800": 1, "label": 3}"#, "3"),
            (br#"{"label": 1, "label": 2}"#, "2"),
            (br#"{"big": 123456789012345678901234567890, "huge": 1e999, "label": 3}"#, "3"),
            (b"\xef\xbb\xbf{\"label\": 3}", "3"),
            (br#"{"meta": {"label": 7}}"#, "-"),
            (br#"[{"label": 7}]"#, "-"),
            (b" null ", "-"),
            (b"{}", "-"),
        ];
        for (json, expected) in read {
            let text = String::from_utf8_lossy(json);
            assert_eq!(label(json).as_deref(), Some(expected), "{text}");
        }
        let deep = format!(r#"{{"deep": {}{}, "label": 3}}"#, "[".repeat(900), "]".repeat(900));
        assert_eq!(label(deep.as_bytes()).as_deref(), Some("3"));
        for json in ["", "{", "{\"label\": 3} x", "{\"a\": NaNa}", "{'label': 3}", "NaN NaN"] {
            assert_eq!(label(json.as_bytes()), None, "{json}");
        }
    }
}
