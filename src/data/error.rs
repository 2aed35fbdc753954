use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::durable;
use crate::text::one_line;

/// An error about the data set or the data settings.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A setting in the recipe has an unsupported value, or contradicts the data.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    /// The data set is damaged or does not have the expected layout.
    #[error("cannot use {}: {problem}\nhint: {hint}", shown(.path))]
    Layout { path: PathBuf, problem: String, hint: String },
    /// An image file is damaged.
    #[error("cannot read {}: {problem}\nhint: download the file again or delete it", shown(.path))]
    BadImage { path: PathBuf, problem: String },
    /// The format of an image file is not supported. The file may be undamaged.
    #[error(
        "cannot read {}: {problem}\nhint: convert the file to PNG or JPEG, or remove the file from the data",
        shown(.path)
    )]
    UnsupportedImage { path: PathBuf, problem: String },
    /// An image file does not fit the recipe's `data.in_chans` or `data.range`.
    #[error("cannot use {}: {problem}\nhint: {hint}", shown(.path))]
    MismatchedImage { path: PathBuf, problem: String, hint: String },
    /// Reading a file or folder failed.
    #[error("cannot read {}: {source}", shown(.path))]
    Unreadable { path: PathBuf, source: io::Error },
    /// Writing a file or folder failed.
    #[error("cannot write {}: {source}{}", shown(.path), durable::hint(source))]
    Unwritable { path: PathBuf, source: io::Error },
    /// A loader thread panicked. This is a bug in `mae`.
    #[error(
        "cannot load the data: a data loader thread panicked: {message}\nhint: report this bug in mae"
    )]
    Panicked { message: String },
}

/// Returns a path as one line of text, with escaped line breaks.
pub(super) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

/// Lists the first `most` names in backquotes, followed by the number of remaining names.
pub(super) fn first_of(names: &[&str], most: usize) -> String {
    let mut text: Vec<String> = names.iter().take(most).map(|name| format!("`{name}`")).collect();
    if names.len() > most {
        text.push(format!("and {} more", names.len() - most));
    }
    text.join(", ")
}

impl DataError {
    pub(super) fn setting(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Setting { problem: problem.into(), hint: hint.into() }
    }

    pub(super) fn layout(path: &Path, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), problem: problem.into(), hint: hint.into() }
    }

    pub(super) fn bad_image(path: &Path, problem: &(impl fmt::Display + ?Sized)) -> Self {
        Self::BadImage { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn unsupported_image(path: &Path, problem: &impl fmt::Display) -> Self {
        Self::UnsupportedImage { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn mismatched_image(path: &Path, problem: &impl fmt::Display, hint: String) -> Self {
        Self::MismatchedImage { path: path.to_owned(), problem: problem.to_string(), hint }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(super) fn unwritable(path: &Path, source: io::Error) -> Self {
        Self::Unwritable { path: path.to_owned(), source }
    }

    /// Returns the path if the error is about one damaged, unsupported, mismatched or unreadable file.
    ///
    /// Returns `None` for all other errors, such as an invalid setting.
    pub(super) fn bad_file(&self) -> Option<&Path> {
        match self {
            Self::BadImage { path, .. }
            | Self::UnsupportedImage { path, .. }
            | Self::MismatchedImage { path, .. }
            | Self::Unreadable { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns one line with the file name and the problem, for lists of files.
    pub(super) fn about(&self, file: &Path) -> String {
        format!("{}: {}", shown(file), one_line(&self.problem()))
    }

    /// Returns the text of the error without the path and the hint.
    pub(super) fn problem(&self) -> String {
        match self {
            Self::Setting { problem, .. }
            | Self::Layout { problem, .. }
            | Self::BadImage { problem, .. }
            | Self::UnsupportedImage { problem, .. }
            | Self::MismatchedImage { problem, .. } => problem.clone(),
            Self::Unreadable { source, .. } | Self::Unwritable { source, .. } => source.to_string(),
            Self::Panicked { message } => message.clone(),
        }
    }
}
