//! Reads and writes small CSV tables, such as `bad_files.csv`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::durable;
use crate::text::{cell_text, csv_rows};

use super::error::DataError;

/// Maps the name of each unusable file to the problem.
pub(super) type Problems = BTreeMap<String, String>;

/// Reads a CSV file that lists unusable files. Skips invalid rows.
///
/// Returns an empty map if the CSV file does not exist.
pub(super) fn problems(path: &Path) -> Problems {
    let Ok(reader) = csv::Reader::from_path(path) else { return Problems::new() };
    let rows = reader.into_records().filter_map(Result::ok);
    let cell = |row: &csv::StringRecord, column| Some(cell_text(row.get(column)?).to_owned());
    rows.filter_map(|row| Some((cell(&row, 0)?, cell(&row, 1)?))).collect()
}

/// Writes a CSV file that lists unusable files.
pub(super) fn write_problems(path: &Path, problems: &Problems) -> Result<(), DataError> {
    let rows = problems.iter().map(|(name, problem)| [name.as_str(), problem]);
    let rows = std::iter::once(["file", "problem"]).chain(rows);
    let bytes = csv_rows(rows, csv::Terminator::Any(b'\n'));
    durable::write(path, &bytes).map_err(|e| DataError::unwritable(path, e))
}
