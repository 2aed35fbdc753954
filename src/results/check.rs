//! Compares the files of a run with their recorded checksums.

use super::RunError;
use super::contents::{foreign, known};
use super::read_back::run_folders;
use super::read_checked::read_manifest;
use crate::durable::{self, Manifest, Verdict};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of `mae check` for one folder.
///
/// For a sweep, this result does not include the folders of its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunCheck {
    pub folder: PathBuf,
    /// Whether mae recorded checksums in this folder. Older versions of mae did not.
    pub has_checksums: bool,
    /// Number of files whose content matches the recorded checksum.
    pub verified: usize,
    /// Files for which mae records no checksum, such as TensorBoard files.
    pub unchecked: Vec<String>,
    /// Files and folders that mae did not write.
    pub foreign: Vec<PathBuf>,
    pub problems: Vec<FileProblem>,
}

/// A file that is missing, damaged, unreadable, or not listed in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// Path of the file relative to the checked folder, with `/` separators.
    pub file: String,
    pub kind: ProblemKind,
    pub problem: String,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The file is missing, or its content differs from the recorded checksum.
    Damaged,
    Unreadable,
    /// The file has a name that mae uses, but the manifest does not list the file.
    Unlisted,
}

/// Compares all files of the run or sweep in `path` with their checksums.
///
/// Returns one result per folder: the folder `path`, then the runs of the sweep. Fails if `path` has no manifest.
pub fn check_run(path: &Path) -> Result<Vec<RunCheck>, RunError> {
    let Some(manifest) = read_manifest(path)? else {
        return Err(if path.join("recipe.toml").is_file() {
            RunError::NoChecksums(path.to_owned())
        } else {
            RunError::NoRun(path.to_owned())
        });
    };
    let points: Vec<PathBuf> = match run_folders(path) {
        Err(RunError::NoRun(_)) => Vec::new(),
        found => found?.into_iter().filter(|point| point != path).collect(),
    };
    let mut checks = vec![check_files(path, &manifest)?];
    checks[0].foreign.retain(|entry| !points.contains(&path.join(entry)));
    for point in points {
        checks.push(match read_manifest(&point)? {
            Some(manifest) => check_files(&point, &manifest)?,
            None => RunCheck::new(&point, false),
        });
    }
    Ok(checks)
}

/// Returns the folders of runs without checksums. Older versions of mae wrote such runs.
pub fn without_checksums(path: &Path) -> Vec<PathBuf> {
    let mut runs = run_folders(path).unwrap_or_default();
    runs.retain(|run| matches!(read_manifest(run), Ok(None)));
    runs
}

impl RunCheck {
    fn new(folder: &Path, has_checksums: bool) -> Self {
        Self {
            folder: folder.to_owned(),
            has_checksums,
            verified: 0,
            unchecked: Vec::new(),
            foreign: Vec::new(),
            problems: Vec::new(),
        }
    }
}

fn check_files(folder: &Path, manifest: &Manifest) -> Result<RunCheck, RunError> {
    let mut check = RunCheck::new(folder, true);
    for file in manifest.files() {
        let (kind, problem) = match verify(folder, file) {
            Ok(Verdict::Verified) => {
                check.verified += 1;
                continue;
            }
            // The file has no checksum, or the run has removed it since the manifest was read.
            Ok(Verdict::Unchecked) => {
                if super::job_path(folder, file).is_file() {
                    check.unchecked.push(file.to_owned());
                }
                continue;
            }
            // A run in progress adds a file to the manifest just before it writes the file.
            Err(error) if error.kind() == ErrorKind::NotFound && durable::is_held(folder) => {
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (ProblemKind::Damaged, "missing".to_owned())
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                (ProblemKind::Damaged, format!("damaged: {error}"))
            }
            Err(error) => (ProblemKind::Unreadable, format!("cannot be read: {error}")),
        };
        check.problems.push(FileProblem { file: file.to_owned(), kind, problem });
    }
    find_unlisted(folder, &mut check)?;
    Ok(check)
}

fn find_unlisted(folder: &Path, check: &mut RunCheck) -> Result<(), RunError> {
    let named = known(folder)?;
    // Read the manifest after listing the folder: a running job adds a file to the manifest before it writes the file.
    let Some(manifest) = read_manifest(folder)? else { return Ok(()) };
    check.foreign = foreign(folder, &manifest).map_err(|e| RunError::unreadable(folder, e))?;
    if !check.foreign.is_empty() && durable::is_held(folder) {
        let Some(newer) = read_manifest(folder)? else { return Ok(()) };
        check.foreign.retain(|entry| entry.to_str().is_none_or(|entry| !newer.lists(entry)));
    }
    let unlisted: Vec<String> = named.into_iter().filter(|file| !manifest.lists(file)).collect();
    let is_named = |entry: &PathBuf| unlisted.iter().any(|file| Path::new(file).starts_with(entry));
    check.foreign.retain(|entry| !is_named(entry));
    check.problems.extend(unlisted.into_iter().map(|file| FileProblem {
        file,
        kind: ProblemKind::Unlisted,
        problem: "not listed in `mae-manifest.jsonl`".to_owned(),
    }));
    Ok(())
}

/// Verifies a checksum. Retries once if a running job may be replacing the file.
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
