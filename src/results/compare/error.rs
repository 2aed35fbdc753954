//! Errors of `mae compare`.

use crate::durable;
use crate::results::RunError;
use std::io;
use std::path::PathBuf;

/// An error of `mae compare`.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot read {path}: no such folder or file\nhint: {hint}")]
    NotThere { path: String, hint: String },
    #[error("cannot find a run that matches {pattern}\nhint: {hint}")]
    NoMatch { pattern: String, hint: String },
    /// A table or a log that is not valid.
    #[error("cannot read {place}: {problem}\nhint: {hint}")]
    Table { place: String, problem: String, hint: &'static str },
    #[error("cannot find the published results `{name}`: the known names are {known}{}", near.map(|near| format!("\nhint: did you mean `{near}`?")).unwrap_or_default())]
    UnknownPublished { name: String, known: String, near: Option<&'static str> },
    #[error(
        "cannot compare a single run: {0}\nhint: pass a second run, or add published results with `--published NAME`"
    )]
    Alone(String),
    #[error("cannot write {}: {problem}\nhint: {hint}", path.display())]
    Output { path: PathBuf, problem: String, hint: &'static str },
    #[error("cannot use {}: {source}{}", path.display(), durable::hint(source))]
    Io { path: PathBuf, source: io::Error },
}
