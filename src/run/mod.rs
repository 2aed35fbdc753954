//! Running a recipe: from a resolved recipe to finished jobs and tables.
//!
//! [`preflight()`] decides what is left to do and whether anything would make a run fail. The [`Runner`] executes its result:
//! it trains the jobs in order, resumes unfinished ones, and copies those that an earlier point of a sweep has finished.
//! The module also loads checkpoints onto checked devices, for evaluation and prediction.

mod accuracy_tables;
mod checked_source;
mod copied_jobs;
mod failed_jobs;
mod hosts;
mod inference;
mod inspector;
mod point_jobs;
mod preflight;
mod provenance;
mod runner;
mod schedule;
mod start_files;

pub use failed_jobs::{FailedJob, FailedJobs, FailedPoint, PointError};
pub use inference::{evaluate, load_autoencoder, load_classifier};
pub use preflight::{
    CheckedJob, CheckedPoint, DataCounts, JobState, Preflight, Problem, Problems, Purpose,
    preflight,
};
pub use runner::{RunOptions, Runner};
pub use schedule::BenchDevices;
