//! What can be wrong with a run's folder.

use crate::durable;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// A run folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{}: another process is working in this run\nhint: wait for it, or give this run another `name`", .0.display())]
    Busy(PathBuf),
    #[error("{} holds a run of another recipe:\n{differences}hint: give this run another name (`--set name=...`), or start over with `--fresh`", path.display())]
    OtherRecipe { path: PathBuf, differences: String },
    #[error("{}: no run here, and no sweep of runs\nhint: name a folder that `mae run` made, as runs/quickstart", .0.display())]
    NoRun(PathBuf),
    #[error("{}: runs of several recipes\nhint: a report is about one run or one sweep; `mae compare` holds several against each other", .0.display())]
    ManyRuns(PathBuf),
    #[error("{}: {problem}\nhint: repair it, or remove it: then what it belongs to starts over; `--fresh` starts the whole run over", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{}: not a table of accuracies: {problem}\nhint: `mae run` with the recipe.toml beside it writes it anew", path.display())]
    Table { path: PathBuf, problem: String },
    #[error("cannot use {}: {source}{}", path.display(), durable::hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make the run's folder {}: {source}\nhint: choose another place with `--runs DIR`", path.display())]
    NoFolder { path: PathBuf, source: io::Error },
}

impl RunError {
    /// Names the path an I/O error happened at.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}
