//! Reads and writes small CSV tables, such as `bad_files.csv`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::durable;

use super::error::DataError;

/// Unusable files: maps each file name to its problem.
pub(super) type Problems = BTreeMap<String, String>;

/// Reads the CSV table of unusable files at `path`. Skips damaged rows. Returns an empty map if the file is missing.
pub(super) fn problems(path: &Path) -> Problems {
    let Ok(reader) = csv::Reader::from_path(path) else { return Problems::new() };
    let rows = reader.into_records().filter_map(Result::ok);
    rows.filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()))).collect()
}

/// Writes the CSV table of unusable files to `path`.
pub(super) fn write_problems(path: &Path, problems: &Problems) -> Result<(), DataError> {
    let header = ["file", "problem"].map(str::to_owned);
    let rows = problems.iter().map(|(name, problem)| [name.clone(), problem.clone()]);
    let bytes = csv(std::iter::once(header).chain(rows));
    durable::write(path, &bytes).map_err(|e| DataError::unwritable(path, e))
}

/// Returns `rows` as CSV (RFC 4180).
pub(super) fn csv<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("a vector takes every row");
    }
    writer.into_inner().expect("a vector takes every byte")
}
