//! Reads a file of a run and compares the content with the checksum.

use super::error::{Remedy, RunError};
use crate::durable::{self, MANIFEST, Manifest};
use std::path::Path;

/// Reads a file and verifies its checksum.
///
/// If the checksum is wrong, the hint of the error suggests `way_on`.
pub(super) fn read_checked(file: &Path, way_on: Remedy) -> Result<Vec<u8>, RunError> {
    durable::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            RunError::Damaged { path: file.to_owned(), problem: error.to_string(), way_on }
        }
        _ => RunError::unreadable(file, error),
    })
}

/// Reads the manifest in `folder`; `None` if mae wrote no manifest there.
pub(super) fn read_manifest(folder: &Path) -> Result<Option<Manifest>, RunError> {
    Manifest::read(folder).map_err(|error| match error.kind() {
        // The message names the line and the way out.
        std::io::ErrorKind::InvalidData => RunError::BadManifest(error),
        _ => RunError::unreadable(&folder.join(MANIFEST), error),
    })
}
