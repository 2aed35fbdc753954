//! Running a recipe: from a resolved recipe to finished jobs and tables.
//!
//! The runner checks that every job can begin, does the jobs in order, resumes what is unfinished, and shares what several
//! points of a sweep have in common. It also puts checkpoints on checked devices, for evaluation and prediction.

mod accuracy_tables;
mod inference;
mod runner;
mod schedule;
mod shared_jobs;

pub use inference::{evaluate, load_autoencoder, load_classifier};
pub use runner::{FailedPoint, RunOptions, Runner};
pub use schedule::BenchDevices;
