use std::fmt;
use std::path::Path;

use crate::data::error::DataError;
use crate::data::panics;

/// The reason why an image cannot be decoded or encoded. Does not contain the file name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(in crate::data) enum ImageError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is truncated")]
    Truncated,
    #[error("corrupt or unsupported image: {0}")]
    Undecodable(String),
    /// `mae` does not support the image format, or this variant of the format. The file may be undamaged.
    #[error("{0}")]
    Unsupported(String),
    #[error("the file has {}, but data.in_chans is {recipe}{}", channels(*file), more_pages(*pages))]
    Channels { file: usize, recipe: usize, pages: bool },
    #[error("the file contains NaN, which data.range cannot scale")]
    NotANumber,
    #[error("cannot encode the image as JPEG: {0}")]
    Unencodable(String),
}

impl ImageError {
    pub(super) fn damaged(reason: impl fmt::Display) -> Self {
        Self::Undecodable(format!("{reason}"))
    }

    pub(super) fn too_large(width: u64, height: u64) -> Self {
        Self::Undecodable(format!("the image has too many pixels: {width}x{height}"))
    }

    /// Runs `decode`, and converts a panic to an error. Some decoders panic on damaged files.
    pub(super) fn catch<T>(decode: impl FnOnce() -> Result<T, Self>) -> Result<T, Self> {
        panics::catch(decode).unwrap_or_else(|_| Err(Self::damaged("the decoder panicked")))
    }

    /// Converts the reason to a [`DataError`] with the image name `name`.
    pub(in crate::data) fn of(&self, name: &Path) -> DataError {
        match self {
            Self::Unsupported(_) => DataError::unsupported_image(name, self),
            Self::Channels { file, .. } => {
                let hint = format!("set data.in_chans = {file}, or remove the file from the data");
                DataError::mismatched_image(name, self, hint)
            }
            Self::NotANumber => {
                let hint =
                    "replace NaN in the file with a number, or remove the file from the data";
                DataError::mismatched_image(name, self, hint.to_owned())
            }
            _ => DataError::bad_image(name, self),
        }
    }
}

fn channels(count: usize) -> String {
    if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") }
}

fn more_pages(pages: bool) -> &'static str {
    if pages { " (mae reads only the first page of a TIFF file)" } else { "" }
}
