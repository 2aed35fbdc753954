//! Training goes on past files that cannot be used, as long as they are few, and says which they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::durable;

use super::error::DataError;

/// The bad files that a job has met. Shared by its loaders.
#[derive(Debug)]
pub struct BadFiles {
    /// How many of the training files may be bad.
    allowed: usize,
    files: usize,
    max_bad_fraction: f64,
    /// The table that names them.
    table: PathBuf,
    /// What was wrong with each, by its name.
    met: Mutex<BTreeMap<String, String>>,
}

impl BadFiles {
    /// Allows `max_bad_fraction` of `files` training files to be bad; `table` is the CSV file that will name them.
    pub fn new(max_bad_fraction: f64, files: usize, table: PathBuf) -> Self {
        let allowed = (max_bad_fraction * files as f64) as usize;
        Self { allowed, files, max_bad_fraction, table, met: Mutex::default() }
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes note of a file that cannot be used. An error where there are now too many, or it cannot be written down.
    pub(super) fn note(&self, error: &DataError) -> Result<(), DataError> {
        let (DataError::BadImage { path, .. } | DataError::Unreadable { path, .. }) = error else {
            unreachable!("files alone are bad");
        };
        let name = path.display().to_string();
        let problem = error.problem();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.contains_key(&name) {
            return Ok(());
        }
        met.insert(name.clone(), problem.clone());
        if met.len() > self.allowed {
            return Err(DataError::setting(
                format!(
                    "{name}: {problem}\n{} of {} training files cannot be used, and data.max_bad_fraction = {} allows {}",
                    met.len(),
                    self.files,
                    self.max_bad_fraction,
                    self.allowed
                ),
                "`mae data check` names all of them: fetch them again or delete them; or raise data.max_bad_fraction",
            ));
        }
        tracing::warn!(
            "{name}: {problem}; another image takes its place ({} bad of {} files; {})",
            met.len(),
            self.files,
            self.table.display()
        );
        self.write(&met)
    }

    /// Writes the table: what an earlier start named, and what is new.
    fn write(&self, met: &BTreeMap<String, String>) -> Result<(), DataError> {
        let mut all = earlier(&self.table);
        all.extend(met.iter().map(|(name, problem)| (name.clone(), problem.clone())));
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = std::iter::once(["file", "problem"].map(str::to_owned))
            .chain(all.into_iter().map(|(name, problem)| [name, problem]));
        for row in rows {
            writer.write_record(row).expect("text always fits a row");
        }
        let bytes = writer.into_inner().expect("a vector takes every byte");
        durable::write(&self.table, &bytes).map_err(|e| DataError::unreadable(&self.table, e))
    }
}

/// The rows of a table that is there; a damaged one is written anew.
fn earlier(table: &std::path::Path) -> BTreeMap<String, String> {
    let Ok(reader) = csv::Reader::from_path(table) else { return BTreeMap::new() };
    let rows = reader.into_records().filter_map(Result::ok);
    rows.filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()))).collect()
}
