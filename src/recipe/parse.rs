//! Parses TOML text into a table and the line of each key, and flattens `[sweep]`.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Where a key is written in a recipe file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourcePosition {
    /// Byte offset in the text.
    pub(super) byte: usize,
    /// Line number, counted from 1.
    pub(super) line: usize,
}

/// The values of a recipe file, and the position of each dotted key.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) table: Table,
    pub(super) places: BTreeMap<String, SourcePosition>,
}

/// A syntax error in a recipe file.
pub(super) struct NotToml {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Parses a recipe file. Nested keys in `[sweep]` become dotted keys.
pub(super) fn parse(text: &str) -> Result<Parsed, NotToml> {
    let not_toml = |error: &toml::de::Error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        let written = text.lines().nth(line - 1).unwrap_or_default();
        let message = short(error.message());
        NotToml { line, message: format!("{message}{}", meant(&message, written)) }
    };
    let spanned = DeTable::parse(text).map_err(|error| not_toml(&error))?;
    let mut table: Table = text.parse().map_err(|error| not_toml(&error))?;
    let mut places = BTreeMap::new();
    collect_places(text, "", spanned.get_ref(), &mut places)?;
    flatten_sweep(&mut table);
    Ok(Parsed { table, places })
}

/// Splits a dotted key into parts; `None` if the key is not valid TOML.
pub(super) fn parse_key(key: &str) -> Option<Vec<String>> {
    let table: Table = format!("{key} = 0").parse().ok()?;
    let mut parts = Vec::new();
    let mut rest = &table;
    loop {
        let (part, value) = rest.iter().next().filter(|_| rest.len() == 1)?;
        parts.push(part.clone());
        match value {
            Value::Table(inner) => rest = inner,
            _ => return (value.as_integer() == Some(0)).then_some(parts),
        }
    }
}

/// Parses a value from an environment variable or `--set`. Invalid TOML becomes a string.
pub(super) fn parse_value(text: &str) -> Value {
    match format!("v = {text}").parse::<Table>() {
        Ok(mut table) if table.len() == 1 => table.remove("v"),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Returns nested tables: `{"a": {"b": value}}` for the parts `a` and `b`.
pub(super) fn nest(parts: &[String], value: Value) -> Table {
    let value = parts[1..]
        .iter()
        .rev()
        .fold(value, |value, part| Value::Table(Table::from_iter([(part.clone(), value)])));
    let mut table = Table::from_iter([(parts[0].clone(), value)]);
    flatten_sweep(&mut table);
    table
}

fn flatten_sweep(table: &mut Table) {
    if let Some(Value::Table(sweep)) = table.get_mut("sweep") {
        *sweep = flat(std::mem::take(sweep));
    }
}

/// Flattens nested tables: `{"a": {"b": 1}}` becomes `{"a.b": 1}`.
pub(super) fn flat(table: Table) -> Table {
    let mut flat = Table::new();
    flatten(table, "", &mut flat);
    flat
}

fn flatten(table: Table, prefix: &str, flat: &mut Table) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(inner, &format!("{key}."), flat),
            leaf => {
                flat.insert(key, leaf);
            }
        }
    }
}

/// Adds the position of each key to `places`.
///
/// Fails if `[sweep]` has the same key twice, with and without quotes.
fn collect_places(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    places: &mut BTreeMap<String, SourcePosition>,
) -> Result<(), NotToml> {
    for (key, value) in table {
        let byte = key.span().start;
        let path = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            collect_places(text, &format!("{path}."), inner, places)?;
        }
        let place = SourcePosition { byte, line: line_of(text, byte) };
        let before = places.insert(path.clone(), place);
        if let Some(before) = before.filter(|_| path.starts_with("sweep.")) {
            let (first, line) = (before.line.min(place.line), before.line.max(place.line));
            return Err(NotToml {
                line,
                message: format!("`{path}` is already set in line {first}"),
            });
        }
    }
    Ok(())
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

/// Returns a hint on how to fix a line of invalid TOML, or an empty string.
fn meant(message: &str, line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else { return String::new() };
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return String::new();
    }
    if message.contains("duplicate") || ["true", "false"].contains(&value) {
        return format!(" (at `{key}`)");
    }
    let is_word = value.starts_with(|first: char| first.is_alphabetic() || "./~$".contains(first));
    let small = value.to_lowercase();
    if ["true", "false"].contains(&small.as_str()) {
        format!(" (write the value in lower case: {key} = {small})")
    } else if value.starts_with('.') && format!("0{value}").parse::<f64>().is_ok() {
        format!(" (start the number with a digit: {key} = 0{value})")
    } else if is_word && !value.contains(['"', '\'', '#']) {
        format!(" (put text in quotes: {key} = \"{value}\")")
    } else if value.starts_with('"') && value.contains('\\') && !value.contains('#') {
        format!(" (use single quotes around backslashes: {key} = '{}')", value.trim_matches('"'))
    } else if value.bytes().all(|byte| byte.is_ascii_digit()) && value.len() > 18 {
        " (the number is too large)".to_owned()
    } else {
        format!(" (at `{key}`)")
    }
}

/// Shortens an error message of the TOML parser to one line.
fn short(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_lines() {
        let parsed =
            parse("name = 'x'\n[pretrain]\nepochs = 3\n\naugment.hflip = true\n").ok().unwrap();
        assert_eq!(parsed.places["pretrain.epochs"].line, 3);
        assert_eq!(parsed.places["pretrain.augment.hflip"].line, 5);
    }

    #[test]
    fn invalid_toml_suggests_what_to_write() {
        let message = |text: &str| parse(text).err().unwrap().message;
        let quotes = "(put text in quotes: format = \"imagefolder\")";
        assert!(message("[data]\nformat = imagefolder").ends_with(quotes));
        let path = message("[data]\npath = \"C:\\Users\\me\"");
        assert!(path.ends_with("(use single quotes around backslashes: path = 'C:\\Users\\me')"));
        assert!(message("seed = 1\nseed = 2").ends_with("(at `seed`)"));
        assert!(message("hflip = True").ends_with("(write the value in lower case: hflip = true)"));
        assert!(message("mask_ratio = .5").ends_with("mask_ratio = 0.5)"));
        assert!(
            parse("[pretrain\r\n").is_err() && parse("=").is_err() && parse("\u{feff}").is_ok()
        );
        assert!(message("epochs = 99999999999999999999").ends_with("(the number is too large)"));
    }

    #[test]
    fn a_swept_key_in_two_spellings_is_refused() {
        let both = "[sweep]\n\"pretrain.mask_ratio\" = [0.5]\npretrain.mask_ratio = [0.7]";
        let twice = parse(both).err().unwrap();
        assert_eq!(twice.line, 3);
        assert_eq!(twice.message, "`sweep.pretrain.mask_ratio` is already set in line 2");
        // Two keys with a common prefix are not duplicates.
        let apart = "[sweep]\n\"pretrain.mask_ratio\" = [0.5]\npretrain.epochs = [1]";
        assert!(parse(apart).is_ok());
    }

    #[test]
    fn a_sweep_may_be_written_without_quotes() {
        let quoted = parse("[sweep]\n\"pretrain.mask_ratio\" = [0.5]").ok().unwrap();
        let nested = parse("[sweep]\npretrain.mask_ratio = [0.5]").ok().unwrap();
        assert_eq!(quoted.table, nested.table);
        assert_eq!(quoted.places["sweep.pretrain.mask_ratio"].line, 2);
        assert_eq!(nested.places["sweep.pretrain.mask_ratio"].line, 2);
    }

    #[test]
    fn a_value_that_is_not_toml_is_a_string() {
        assert_eq!(parse_value("1e-3"), Value::Float(1e-3));
        assert_eq!(parse_value("[1, 2]"), Value::Array(vec![Value::Integer(1), Value::Integer(2)]));
        for text in ["cuda", "", "[0.5", "1\nw = 2", "a # b"] {
            assert_eq!(parse_value(text), Value::String(text.to_owned()));
        }
    }

    #[test]
    fn a_key_is_a_toml_key() {
        assert_eq!(parse_key("pretrain.epochs").unwrap(), ["pretrain", "epochs"]);
        assert_eq!(parse_key("sweep.\"a.b\"").unwrap(), ["sweep", "a.b"]);
        for bad in ["", "a..b", "a b", "a = 1\nb"] {
            assert_eq!(parse_key(bad), None);
        }
    }
}
