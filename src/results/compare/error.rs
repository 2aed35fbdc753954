//! Why there is nothing to compare.

use crate::durable;
use crate::results::RunError;
use std::io;
use std::path::PathBuf;

/// An argument, or a file, that a comparison cannot use.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{path}: no such folder or file\nhint: {hint}")]
    NotThere { path: String, hint: String },
    #[error("{pattern}: no run matches\nhint: {hint}")]
    NoMatch { pattern: String, hint: String },
    /// A table or a log that is not one.
    #[error("{place}: {problem}\nhint: {hint}")]
    Table { place: String, problem: String, hint: &'static str },
    #[error("nothing published is called `{name}`; there are {known}{}", near.map(|near| format!("\nhint: did you mean `{near}`?")).unwrap_or_default())]
    UnknownPublished { name: String, known: String, near: Option<&'static str> },
    #[error(
        "one run alone is nothing to compare: {0}\nhint: name another run, or put published figures beside it: --published NAME"
    )]
    Alone(String),
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Output { path: PathBuf, problem: String, hint: &'static str },
    #[error("cannot use {}: {source}{}", path.display(), durable::hint(source))]
    Io { path: PathBuf, source: io::Error },
}
