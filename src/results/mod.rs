//! The run folder: what a run leaves for people and spreadsheets.
//!
//! [`RunFolder`] is a run's place on the disk: locked while a process works in it, marked with the resolved recipe and
//! its provenance. [`EpochsCsv`] is a job's table, a row an epoch; [`accuracy`] makes of all jobs' tables the one that
//! the project exists for; [`TensorBoard`] says the same to TensorBoard. Every table is replaced atomically, so it can be
//! opened while the run goes on. [`read_results`] reads a run or a sweep back, [`write_report`] makes one page of it, and
//! [`Comparison`] holds several against each other.
//! Nothing here computes a metric.

mod accuracy;
mod compare;
mod contents;
mod epochs;
mod error;
mod folder;
mod provenance;
mod published;
mod read_back;
mod report;
mod seeds;
mod tensorboard;
mod trash;

pub use accuracy::{AccuracyRow, JobCells, accuracy, write_accuracy};
pub use compare::{CompareError, Comparison};
pub use contents::{check_sweep, open_sweep};
pub use epochs::{EpochRow, EpochsCsv, Validation};
pub use error::{Remedy, RunError};
pub use folder::{Moved, RunFolder, check_folder, refuse_other_data};
pub use provenance::Provenance;
pub use published::published_names;
pub use read_back::{JobResults, Results, read_provenance, read_results};
pub use report::{count, write_report, write_report_to};
pub use tensorboard::{EpochSteps, TensorBoard};
pub use trash::{TRASH, Trashed, remove_trashed, trashed};

use std::path::{Path, PathBuf};

/// Joins a path that has `/` between its parts: a job's folder below a run's, or a run's below all runs'.
pub fn job_path(run: &Path, dir: &str) -> PathBuf {
    dir.split('/').fold(run.to_path_buf(), |path, part| path.join(part))
}
