use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with the data, by what the reader can do about it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Change the recipe: a key's value cannot be served, or contradicts the data.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    /// Repair the data set's folder.
    #[error("{}: {problem}\nhint: {hint}", .path.display())]
    Layout { path: PathBuf, problem: String, hint: String },
    /// Fetch this image again, or delete it.
    #[error("{}: {problem}\nhint: fetch the file again, or delete it", .path.display())]
    BadImage { path: PathBuf, problem: String },
    /// Look at permissions, mounts and cables.
    #[error("{}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// Tell the authors: a loader thread panicked.
    #[error(
        "a data loader thread panicked: {message}\nhint: this is a bug of mae; please report it"
    )]
    Panicked { message: String },
}

impl DataError {
    pub(super) fn setting(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Setting { problem: problem.into(), hint: hint.into() }
    }

    pub(super) fn layout(path: &Path, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), problem: problem.into(), hint: hint.into() }
    }

    pub(super) fn bad_image(path: &Path, problem: impl Into<String>) -> Self {
        Self::BadImage { path: path.to_owned(), problem: problem.into() }
    }

    /// The file that cannot be used, and why; nothing where the error is of another kind.
    pub(super) fn bad_file(&self) -> Option<(&Path, String)> {
        match self {
            Self::BadImage { path, .. } | Self::Unreadable { path, .. } => {
                Some((path, self.problem()))
            }
            _ => None,
        }
    }

    /// What is wrong, without where and what to do.
    pub(super) fn problem(&self) -> String {
        match self {
            Self::Setting { problem, .. }
            | Self::Layout { problem, .. }
            | Self::BadImage { problem, .. } => problem.clone(),
            Self::Unreadable { source, .. } => source.to_string(),
            Self::Panicked { message } => message.clone(),
        }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }
}
