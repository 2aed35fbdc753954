//! The run folder: tables, reports and comparisons.
//!
//! A run writes:
//!
//! - [`RunFolder`]: the folder, with the resolved recipe and the provenance. A working process locks the folder.
//! - [`EpochsCsv`]: the table of one job, one row per epoch.
//! - [`accuracy`]: the main result, accuracy against pre-training epoch, computed from the tables of all jobs.
//! - [`TensorBoard`]: the same values as event files.
//!
//! [`read_results`] reads a run or a sweep. [`write_report`] writes an HTML page. [`Comparison`] compares several runs.
//! Tables are replaced atomically, so other programs can open a table during the run. This module does not compute
//! metrics.

mod accuracy;
mod check;
mod compare;
mod confusion;
mod contents;
mod epochs;
mod error;
mod features;
mod folder;
mod measure_tables;
mod paths;
mod provenance;
mod published;
mod read_back;
mod read_checked;
mod report;
mod seeds;
mod tensorboard;
mod trash;

pub use accuracy::{AccuracyRow, JobCells, accuracy, write_accuracy};
pub use check::{FileProblem, ProblemKind, RunCheck, check_run, without_checksums};
pub use compare::{CompareError, Comparison};
pub use confusion::Confusion;
pub use contents::{check_sweep, is_run, join_sweep, open_sweep};
pub use epochs::{EpochRow, EpochsCsv, EpochsWriter, Validation};
pub use error::{Remedy, RunError};
pub use features::{FeatureFile, FeatureFileError, FeatureRow};
pub use folder::{OpenOptions, RunFolder, check_folder, refuse_other_data};
pub use measure_tables::{KnnRow, MeasureTables, RobustnessRow, recipe_word};
pub use paths::job_path;
pub use provenance::{FailedJobNote, Provenance, StartFile, StartLayout};
pub use published::published_names;
pub use read_back::{JobResults, Results, read_provenance, read_results};
pub use report::{count, write_report, write_report_to};
pub use tensorboard::{EpochSteps, TensorBoard};
pub use trash::{Moved, TRASH, Trashed, remove_trashed, trashed};
