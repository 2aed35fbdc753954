//! Training goes on past files that cannot be used, as long as they are few, and says which they are.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::DataError;
use super::table::{self, Problems};

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
    met: Mutex<Problems>,
}

impl BadFiles {
    /// Allows `max_bad_fraction` of `files` training files to be bad; `table` is the CSV file that will name them.
    pub fn new(max_bad_fraction: f64, files: usize, table: PathBuf) -> Self {
        let allowed = (max_bad_fraction * files as f64) as usize;
        Self { allowed, files, max_bad_fraction, table, met: Mutex::default() }
    }

    /// Takes note of a file that cannot be used. An error where there are now too many, or it cannot be written down.
    pub(super) fn note(&self, file: &Path, problem: &str) -> Result<(), DataError> {
        let name = file.display().to_string();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.contains_key(&name) {
            return Ok(());
        }
        met.insert(name.clone(), problem.to_owned());
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
    fn write(&self, met: &Problems) -> Result<(), DataError> {
        let mut all = table::problems(&self.table);
        all.extend(met.clone());
        table::write_problems(&self.table, &all)
    }
}
