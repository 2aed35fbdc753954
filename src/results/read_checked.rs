//! Reads a file of a run and compares it with its checksum.

use super::error::{Remedy, RunError};
use crate::durable;
use std::path::Path;

/// Reads a file. Content that differs from its checksum is reported as damaged, with a remedy. If the file cannot be read at all, no
/// remedy is offered: it may be whole.
pub(super) fn read_checked(file: &Path, way_on: Remedy) -> Result<Vec<u8>, RunError> {
    durable::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            RunError::Damaged { path: file.to_owned(), problem: error.to_string(), way_on }
        }
        _ => RunError::Unreadable { path: file.to_owned(), source: error },
    })
}
