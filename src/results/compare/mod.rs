//! `mae compare`: the different settings of runs, and their accuracies side by side.
//!
//! Three steps:
//!
//! 1. `input` reads the arguments into `Run`s. Its formats are in `table`, `log` and `published`; `text_file` and
//!    `spreadsheet` read what other programs save.
//! 2. [`Comparison`] finds the settings that differ, groups the runs that differ only in their seed, and compares each
//!    group with the first one. `seeds::noise` decides which differences may be chance.
//! 3. `text`, `sheet` (CSV) and `xlsx` print or write the result.

mod charts;
mod comparison;
mod curve;
mod error;
mod grid;
mod groups;
mod input;
mod log;
mod notes;
mod published;
mod run;
mod sheet;
mod spreadsheet;
mod table;
mod text;
mod text_file;
mod xlsx;

pub use comparison::Comparison;
pub use error::CompareError;

use std::path::Path;

impl Comparison {
    /// Returns the comparison as text for a terminal.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Writes a CSV table with one row per run and pre-training epoch.
    pub fn write_csv(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        sheet::write_csv(path, &sheet::summary(self))
    }

    /// Writes an Excel workbook with charts.
    ///
    /// The sheets contain the table of [`Self::write_csv`], the settings that differ, the means over seeds, and the
    /// results of every epoch.
    pub fn write_xlsx(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        xlsx::write(path, self)
    }
}
