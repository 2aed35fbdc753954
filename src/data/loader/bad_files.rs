//! Lets training skip unusable files, up to a limit, and lists them in a table.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::data::error::{self, DataError};
use crate::data::table::{self, Problems};

/// Collects the unusable files of a run. All loaders of the run share this list.
#[derive(Debug)]
pub struct BadFiles {
    /// Maximum number of unusable training files. One more file stops the run.
    allowed: usize,
    files: usize,
    max_bad_fraction: f64,
    /// Path of the CSV table, `bad_files.csv`; `None` to write no table.
    table: Option<PathBuf>,
    met: Mutex<Problems>,
}

impl BadFiles {
    /// Creates an empty list of unusable files.
    ///
    /// At most the fraction `max_bad_fraction` of the `files` training files may be unusable. `table` is the path of
    /// `bad_files.csv`; `None` writes no table.
    pub fn new(max_bad_fraction: f64, files: usize, table: Option<PathBuf>) -> Self {
        let allowed = (max_bad_fraction * files as f64) as usize;
        Self { allowed, files, max_bad_fraction, table, met: Mutex::default() }
    }

    /// Adds `file` to the list of unusable files.
    ///
    /// Fails if the list is longer than the limit, or if writing the CSV file fails.
    pub(super) fn note(&self, file: &Path, error: &DataError) -> Result<(), DataError> {
        let (name, problem) = (file.display().to_string(), error.problem());
        let shown = error::shown(file);
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.contains_key(&name) {
            return Ok(());
        }
        met.insert(name.clone(), problem.clone());
        if met.len() > self.allowed {
            return Err(DataError::setting(
                format!(
                    "cannot read {shown}: {problem}\n\
                     {} of {} training files are unreadable, but `data.max_bad_fraction = {}` allows only {}",
                    met.len(),
                    self.files,
                    self.max_bad_fraction,
                    self.allowed
                ),
                "run `mae data check` to list the unreadable files. Then download these files again or delete them, or \
                 set a higher `data.max_bad_fraction`",
            ));
        }
        let listed = self.table.as_ref().map(|table| format!("; see {}", table.display()));
        tracing::warn!(
            "cannot read {shown}: {problem}. Training uses a different image instead ({} of {} files are unreadable{})",
            met.len(),
            self.files,
            listed.unwrap_or_default()
        );
        self.write(&met)
    }

    /// Writes the CSV file. Keeps the rows that are already in the file.
    fn write(&self, met: &Problems) -> Result<(), DataError> {
        let Some(table) = &self.table else { return Ok(()) };
        let mut all = table::problems(table);
        all.extend(met.clone());
        table::write_problems(table, &all)
    }
}
