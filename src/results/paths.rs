//! Paths below a run folder.

use std::path::{Path, PathBuf};

/// Joins a folder and a relative path with `/` between its parts, on any operating system.
pub fn job_path(run: &Path, dir: &str) -> PathBuf {
    dir.split('/').fold(run.to_path_buf(), |path, part| path.join(part))
}
