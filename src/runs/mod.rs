//! The run folder: what a run leaves for people and spreadsheets.
//!
//! [`RunFolder`] is a run's place on the disk: locked while a process works in it, marked with the resolved recipe and
//! its provenance. [`EpochsCsv`] is a job's table, a row an epoch; [`accuracy`] makes of all jobs' tables the one that
//! the project exists for. [`read_results`] reads a run back, [`Comparison`] holds several against each other. Every
//! table is replaced atomically, so it can be opened while the run goes on.
//! Nothing here computes a metric.

mod accuracy;
mod compare;
mod epochs;
mod error;
mod folder;
mod provenance;
mod results;
mod seeds;

pub use accuracy::AccuracyRow;
pub use accuracy::JobCells;
pub use accuracy::accuracy;
pub use accuracy::write_accuracy;
pub use compare::CompareError;
pub use compare::Comparison;
pub use epochs::EpochRow;
pub use epochs::EpochsCsv;
pub use epochs::Validation;
pub use error::RunError;
pub use folder::RunFolder;
pub use provenance::Provenance;
pub use results::JobResults;
pub use results::Results;
pub use results::read_results;
