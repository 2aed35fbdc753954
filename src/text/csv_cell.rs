//! CSV cells. Spreadsheets run text that starts like a formula. An apostrophe before the text prevents this.

use std::borrow::Cow;

/// Characters that start a formula in a spreadsheet.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];
const ESCAPE: char = '\'';

/// Returns rows as CSV (RFC 4180). Escapes text that a spreadsheet would run as a formula.
///
/// [`cell_text`] removes the escape. Panics if `rows` have different lengths.
pub fn csv_rows<R>(rows: impl IntoIterator<Item = R>, line_end: csv::Terminator) -> Vec<u8>
where
    R: IntoIterator,
    R::Item: AsRef<str>,
{
    let mut writer = csv::WriterBuilder::new().terminator(line_end).from_writer(Vec::new());
    for row in rows {
        for cell in row {
            let cell = escaped(cell.as_ref());
            writer.write_field(&*cell).expect("a vector takes every cell");
        }
        writer.write_record(None::<&[u8]>).expect("all rows have the same length");
    }
    writer.into_inner().expect("a vector takes every byte")
}

/// Puts an apostrophe before text that looks like a formula or like an escaped cell.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_number = || text.parse::<f64>().is_ok_and(f64::is_finite);
    if text.trim_start_matches(ESCAPE).starts_with(FORMULA) && !is_number() {
        Cow::Owned(format!("{ESCAPE}{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Removes the escape of [`csv_rows`] from a cell.
pub fn cell_text(cell: &str) -> &str {
    match cell.strip_prefix(ESCAPE) {
        Some(text) if text.trim_start_matches(ESCAPE).starts_with(FORMULA) => text,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::{cell_text, csv_rows};
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        let bytes = csv_rows([[text, "end"]], csv::Terminator::CRLF);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[..]);
        reader.records().next().unwrap().unwrap()[0].to_owned()
    }

    #[test]
    fn formulas_are_escaped_and_numbers_are_not() {
        for text in ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "\r=1", "-", "-inf", "'=1", "-1 2"] {
            assert_eq!(written(text), format!("'{text}"));
        }
        for text in ["-1.5e-3", "+2", "0", "a=b", "'quoted'", "", "1-2"] {
            assert_eq!(written(text), text);
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_unchanged(text in "['=+\\-@\t\r0-9a\",\n]{0,6}") {
            let cell = written(&text);
            prop_assert_eq!(cell_text(&cell), text);
        }
    }
}
