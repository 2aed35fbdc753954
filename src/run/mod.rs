//! Running a recipe: from a resolved recipe to finished jobs and tables.
//!
//! [`preflight()`] finds what is left to do and what would make a run fail. The [`Runner`] then trains the jobs in
//! order, resumes unfinished jobs, and copies jobs that an earlier run of the sweep has finished. This module also
//! loads checkpoints onto checked devices, for evaluation and prediction.

mod accuracy_tables;
mod checked_source;
mod copied_jobs;
mod failed_jobs;
mod helper;
mod hosts;
mod inference;
mod inspector;
mod measures;
mod neighbours;
mod point_jobs;
mod preflight;
mod provenance;
mod rounds;
mod runner;
mod schedule;
mod shared_jobs;
mod start_files;
mod test_sets;
mod validation;

pub use failed_jobs::{FailedJob, FailedJobs, FailedPoint, PointError};
pub use hosts::build_name;
pub use inference::{
    EVAL_BATCH, EvalImages, evaluate, load_autoencoder, load_classifier, load_features,
};
pub use neighbours::measure_knn;
pub use preflight::{
    CheckedJob, CheckedPoint, DataCounts, JobState, Preflight, Problem, Problems, Purpose,
    preflight,
};
pub use runner::{RunOptions, Runner};
pub use schedule::BenchDevices;
pub use test_sets::{OpenedSet, TestResult, measure_set, open_set};
