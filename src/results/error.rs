//! What can be wrong with a run's folder.

use crate::durable;
use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{}: {problem}\nhint: put it back as it was{}; `--fresh` starts the whole run over", path.display(), .way_on.hint(path))]
    Damaged { path: PathBuf, problem: String, way_on: Remedy },
    #[error("cannot use {} as a run folder: it holds files, but no mae-manifest.jsonl of a run\nhint: choose another name (`--set name=...`) or another \
             `--runs DIR`, or move the files away", .0.display())]
    Foreign(PathBuf),
    #[error("cannot write {}: mae did not write the file that is there\nhint: move it away, or choose another name (`--set name=...`)", .0.display())]
    ForeignFile(PathBuf),
    #[error("cannot move the files of {} to {}: {source}\nhint: nothing was removed; the same command goes on with the move", path.display(), to.display())]
    NoTrash { path: PathBuf, to: PathBuf, source: io::Error },
    #[error("{}: the data is another than this run began with (fingerprint {began}, now {now})\nhint: put the data back as it was; or give a run \
             on this data another name (`--set name=...`), whose finetune.from may name this run's checkpoints, or start over with `--fresh`", path.display())]
    OtherData { path: PathBuf, began: String, now: String },
    #[error("{}: not a table of accuracies: {problem}\nhint: `mae run` with the recipe.toml beside it writes it anew", path.display())]
    Table { path: PathBuf, problem: String },
    #[error("cannot check {}: an older version of mae wrote it, without checksums\nhint: `mae run` with its recipe.toml adds them for the \
             content that the files have then", .0.display())]
    NoChecksums(PathBuf),
    #[error("cannot read {}: {source}\nhint: make it readable, then run the same command again", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot use {}: {source}{}", path.display(), durable::hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make the run's folder {}: {source}\nhint: choose another place with `--runs DIR`", path.display())]
    NoFolder { path: PathBuf, source: io::Error },
}

/// What else can be done about a damaged file than to put it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Only starting over.
    None,
    /// Without the file its job starts over.
    RemoveIt,
    /// Without the file it is written anew.
    WrittenAnew,
    /// Without its folder the job starts over.
    RemoveItsFolder,
}

impl Remedy {
    fn hint(self, path: &Path) -> String {
        let folder = path.parent().unwrap_or(path).display();
        match self {
            Self::None => String::new(),
            Self::RemoveIt => ", or remove it: then its job starts over".to_owned(),
            Self::WrittenAnew => ", or remove it: it is written anew".to_owned(),
            Self::RemoveItsFolder => format!(", or remove {folder}: then that job starts over"),
        }
    }
}

impl RunError {
    /// Names the path an I/O error happened at.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::NoTrash { .. })
    }
}
