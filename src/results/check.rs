//! Compares the files of a run with their checksums.

use super::RunError;
use crate::durable::{self, Manifest, Verdict};
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result of comparing files with their checksums.
///
/// Covers the files of one run, or the files of a sweep that are not in the folder of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunCheck {
    pub folder: PathBuf,
    /// Number of files that match their checksum.
    pub verified: usize,
    pub problems: Vec<FileProblem>,
}

/// A file that is in the manifest, but is missing, damaged or unreadable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// Path of the file relative to the folder, with `/` between the parts.
    pub file: String,
    pub problem: String,
}

/// Compares the files of the run or sweep in `path` with their checksums.
///
/// Returns one result for a run. For a sweep, returns one result for the sweep's folder and one for each of its runs.
/// Fails if there is no manifest in `path`.
pub fn check_run(path: &Path) -> Result<Vec<RunCheck>, RunError> {
    let Some(manifest) = Manifest::read(path).map_err(RunError::io(path))? else {
        return Err(if path.join("recipe.toml").is_file() {
            RunError::NoChecksums(path.to_owned())
        } else {
            RunError::NoRun(path.to_owned())
        });
    };
    let mut checks = vec![check_files(path, &manifest)];
    if !path.join("recipe.toml").is_file() {
        let entries = fs::read_dir(path).map_err(RunError::io(path))?;
        let mut points: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        points.sort();
        for point in points {
            if let Some(manifest) = Manifest::read(&point).map_err(RunError::io(&point))? {
                checks.push(check_files(&point, &manifest));
            }
        }
    }
    Ok(checks)
}

fn check_files(folder: &Path, manifest: &Manifest) -> RunCheck {
    let (mut verified, mut problems) = (0, Vec::new());
    for file in manifest.files() {
        let problem = match verify(folder, file) {
            Ok(Verdict::Verified) => None,
            // The file has no checksum, or the run has removed it since the manifest was read.
            Ok(Verdict::Unchecked) => continue,
            // A run in progress adds a file to the manifest just before it writes the file.
            Err(error) if error.kind() == ErrorKind::NotFound && durable::is_held(folder) => {
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Some("missing".to_owned()),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Some(format!("damaged: {error}"))
            }
            Err(error) => Some(format!("cannot be read: {error}")),
        };
        match problem {
            Some(problem) => problems.push(FileProblem { file: file.to_owned(), problem }),
            None => verified += 1,
        }
    }
    RunCheck { folder: folder.to_owned(), verified, problems }
}

/// Compares a file with its checksum.
///
/// If the comparison fails while a run is in progress, tries once more, because the run may be replacing the file.
fn verify(folder: &Path, file: &str) -> std::io::Result<Verdict> {
    let path = super::job_path(folder, file);
    match durable::verify(&path) {
        Err(_) if durable::is_held(folder) => {
            std::thread::sleep(Duration::from_millis(200));
            durable::verify(&path)
        }
        verified => verified,
    }
}
