//! Paths below a run folder.

use std::path::{Path, PathBuf};

/// Returns the path of the folder `dir` in the run folder `run`.
///
/// `dir` has `/` separators on every operating system.
pub fn job_path(run: &Path, dir: &str) -> PathBuf {
    dir.split('/').fold(run.to_path_buf(), |path, part| path.join(part))
}
