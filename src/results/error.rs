//! Errors of the run folder.

use super::report::utc;
use crate::durable::{self, Holder};
use std::io;
use std::path::{Path, PathBuf};

/// An error of a run folder, such as a lock or a changed recipe.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot use {}: {} is working in this run\n\
             hint: wait until this process ends, or choose another name (`--set name=...`)", path.display(), process(holder.as_ref()))]
    Busy { path: PathBuf, holder: Option<Holder> },
    #[error("cannot use {}: {} has locked this run and has not released the lock\n\
             hint: wait until this process ends. If the process has already ended, add `--break-lock` to take over the run", path.display(), process(Some(holder)))]
    LockedElsewhere { path: PathBuf, holder: Holder },
    #[error("cannot use {}: the folder contains a run with a different recipe:\n\
             {differences}hint: choose another name (`--set name=...`), or start over with `--fresh`", path.display())]
    OtherRecipe { path: PathBuf, differences: String },
    #[error("cannot use {}: the updates of this run would change:\n\
             {misfits}hint: add `{restoring}`, or choose another name (`--set name=...`). `devices`, `accum_iter` and the `batch_size` of \
             pre-training may change only if each update keeps its number of images", path.display())]
    OtherUpdates { path: PathBuf, misfits: String, restoring: String },
    #[error("cannot find a run in {}: this is not the folder of a run or a sweep\n\
             hint: pass a folder that `mae run` created, for example `runs/quickstart`", .0.display())]
    NoRun(PathBuf),
    #[error("cannot write one report for {}: the folder contains runs with different names\n\
             hint: pass the folder of one run or one sweep, or compare several runs with `mae compare`", .0.display())]
    ManyRuns(PathBuf),
    #[error("cannot use {}: {problem}\nhint: restore the file{}. To start the whole run over, use `--fresh`", path.display(), .way_on.hint(path))]
    Damaged { path: PathBuf, problem: String, way_on: Remedy },
    #[error("cannot use {} as a run folder: the folder contains files, but no `mae-manifest.jsonl` of a run\n\
             hint: choose another name (`--set name=...`) or another folder (`--runs DIR`), or move the files away", .0.display())]
    Foreign(PathBuf),
    #[error("cannot write {}: this file already exists and is not listed in `mae-manifest.jsonl`, so it may be from another program\n\
             hint: move the file away, or choose another name (`--set name=...`). If mae wrote the file, restore \
             `mae-manifest.jsonl` from a backup. Without a backup, remove `mae-manifest.jsonl` and start the run again", .0.display())]
    ForeignFile(PathBuf),
    #[error("cannot move the files of {} to {}: {source}\nhint: run the same command again to finish the move. mae has deleted no file", path.display(), to.display())]
    NoTrash { path: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot use {}: the data has changed since this run started (fingerprint {began}, now {now})\n\
             hint: restore the data, choose another name (`--set name=...`), or start over with `--fresh`. With \
             `finetune.from`, a run with another name can start from the checkpoints of this run", path.display())]
    OtherData { path: PathBuf, began: String, now: String },
    #[error("cannot use {}: {} has changed since this run started (BLAKE3 hash {began}..., now {now}...)\nhint: restore the file, choose another name \
             (`--set name=...`), or start over with `--fresh`", path.display(), file.display())]
    OtherStartFile { path: PathBuf, file: PathBuf, began: String, now: String },
    #[error("cannot check {}: an older version of mae wrote this run without checksums\n\
             hint: start `mae run` with the `recipe.toml` of this run, to add checksums of the current files", .0.display())]
    NoChecksums(PathBuf),
    #[error("cannot read {}: {source}\nhint: make the file readable, then run the same command again", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot use the run: {0}")]
    BadManifest(io::Error),
    #[error("cannot use {}: {source}{}", path.display(), durable::hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot create the run folder {}: {source}\nhint: choose another folder with `--runs DIR`", path.display())]
    NoFolder { path: PathBuf, source: io::Error },
}

/// What the hint about a damaged file suggests, besides restoring the file or using `--fresh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Only restore the file, or use `--fresh`.
    None,
    /// Remove the file, so that the run repeats the job that wrote the file.
    RemoveIt,
    /// Remove the file, so that the next start writes the file again.
    WrittenAnew,
    /// Remove the folder that contains the file, so that the run repeats the job.
    RemoveItsFolder,
}

impl Remedy {
    fn hint(self, path: &Path) -> String {
        let folder = path.parent().unwrap_or(path).display();
        match self {
            Self::None => String::new(),
            Self::RemoveIt => ", or remove the file to repeat the job".to_owned(),
            Self::WrittenAnew => {
                ", or remove the file, so that the next start writes a new file".to_owned()
            }
            Self::RemoveItsFolder => format!(", or remove {folder} to repeat the job"),
        }
    }
}

/// Describes the process that holds a lock.
fn process(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |Holder { host, pid, since_unix_s, .. }| {
            format!("process {pid} on host {host}, since {},", utc(*since_unix_s))
        },
    )
}

impl RunError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn broken_table(path: PathBuf, problem: String) -> Self {
        Self::Damaged { path, problem, way_on: Remedy::WrittenAnew }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    /// Returns whether the user's input caused the error.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::NoTrash { .. } | Self::BadManifest(_))
    }
}
