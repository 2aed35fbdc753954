//! The trash, into which `--fresh` moves earlier runs. `mae trash empty` empties it.

use super::contents::foreign;
use super::error::RunError;
use super::paths::job_path;
use super::report::utc_compact;
use crate::durable::{MANIFEST, Manifest};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the trash folder in the folder of all runs.
pub const TRASH: &str = ".trash";

/// What `--fresh` moved to the trash, and what stayed in the run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The new folder in the trash, which contains the moved files.
    pub to: PathBuf,
    /// Files and folders that mae did not write. They stay in the run folder.
    ///
    /// Paths are relative to the run folder.
    pub stayed: Vec<PathBuf>,
}

/// Moves all files in the manifest to a new folder in the trash.
///
/// After an interruption, the next start finishes the move.
pub(super) fn move_away(
    runs: &Path,
    name: &str,
    run: &Path,
    manifest: &mut Manifest,
) -> Result<Moved, RunError> {
    let trash = runs.join(TRASH);
    let to = if let Some(folder) = manifest.moving_to() {
        trash.join(folder)
    } else {
        let to = unused(&trash, name);
        let folder = to.file_name().expect("the path ends in a name").to_string_lossy();
        manifest.begin_move(&folder).map_err(RunError::io(run))?;
        to
    };
    let failed = |source| RunError::NoTrash { path: run.to_owned(), to: to.clone(), source };
    fs::create_dir_all(&to).map_err(failed)?;
    for file in manifest.files() {
        move_file(run, &to, file).map_err(failed)?;
    }
    let stayed = foreign(run, manifest).map_err(failed)?;
    remove_empty_folders(run, manifest);
    manifest.copy_to(&to).map_err(failed)?;
    manifest.restart(name).map_err(RunError::io(run))?;
    Ok(Moved { to, stayed })
}

/// Moves `run/file` to `to/file`. Does not follow symbolic links.
fn move_file(run: &Path, to: &Path, file: &str) -> io::Result<()> {
    let (mut from, mut target) = (run.to_path_buf(), to.to_path_buf());
    let mut parts = file.split('/').peekable();
    while let Some(part) = parts.next() {
        (from, target) = (from.join(part), target.join(part));
        let kind = match from.symlink_metadata() {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if parts.peek().is_none() || !kind.is_dir() {
            break;
        }
    }
    let folder = target.parent().expect("the target is below the trash");
    fs::create_dir_all(folder)?;
    fs::rename(&from, &target)
}

fn remove_empty_folders(run: &Path, manifest: &Manifest) {
    let mut folders: Vec<&Path> =
        manifest.files().flat_map(|file| Path::new(file).ancestors().skip(1)).collect();
    folders.retain(|folder| !folder.as_os_str().is_empty());
    folders.sort();
    folders.dedup();
    for folder in folders.iter().rev() {
        // This fails if a folder is not empty. Such a folder stays.
        let _ = fs::remove_dir(run.join(folder));
    }
}

/// Returns an unused path in the trash, such as `quickstart-20261128T172334Z`.
fn unused(trash: &Path, name: &str) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{}-{}", name.replace('/', "+"), utc_compact(since.as_secs()));
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| trash.join(name));
    names.find(|path| path.symlink_metadata().is_err()).expect("some number is unused")
}

/// A run in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Name of the folder in the trash, such as `quickstart-20261128T172334Z`.
    pub folder: String,
    pub path: PathBuf,
    /// Name of the run, such as `quickstart`.
    pub name: String,
    pub files: usize,
    pub bytes: u64,
    /// Time since mae moved the run to the trash.
    pub age: Duration,
}

/// Returns the runs in the trash, sorted by folder name. `runs` is the folder of all runs.
pub fn trashed(runs: &Path) -> Result<Vec<Trashed>, RunError> {
    let trash = runs.join(TRASH);
    let entries = match fs::read_dir(&trash) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RunError::io(&trash)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(RunError::io(&trash))?.path();
        let Some(manifest) = Manifest::read(&path).map_err(RunError::io(&path))? else { continue };
        let sizes = manifest.files().filter_map(|file| {
            job_path(&path, file).symlink_metadata().ok().map(|found| found.len())
        });
        let sizes: Vec<u64> = sizes.collect();
        // The manifest is written last, so its folder was last changed when the move ended.
        let moved =
            path.metadata().and_then(|found| found.modified()).map_err(RunError::io(&path))?;
        found.push(Trashed {
            folder: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            name: manifest.name().to_owned(),
            files: sizes.len(),
            bytes: sizes.iter().sum(),
            age: moved.elapsed().unwrap_or_default(),
            path,
        });
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// Removes a run from the trash. Keeps files that mae did not write.
///
/// Returns whether such files remain.
pub fn remove_trashed(trashed: &Trashed) -> Result<bool, RunError> {
    let path = &trashed.path;
    let Some(manifest) = Manifest::read(path).map_err(RunError::io(path))? else { return Ok(true) };
    for file in manifest.files() {
        let file = job_path(path, file);
        let inside = file.parent().and_then(|folder| folder.canonicalize().ok());
        // A moved link may point to files outside the trash: do not remove those.
        if inside
            .is_none_or(|folder| !path.canonicalize().is_ok_and(|path| folder.starts_with(path)))
        {
            continue;
        }
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RunError::io(&file)(error));
            }
            _ => {}
        }
    }
    remove_empty_folders(path, &manifest);
    let stayed = !foreign(path, &manifest).map_err(RunError::io(path))?.is_empty();
    if !stayed {
        let manifest = path.join(MANIFEST);
        fs::remove_file(&manifest).map_err(RunError::io(&manifest))?;
        // If a lock file is left, the folder stays.
        let _ = fs::remove_dir(path);
    }
    Ok(stayed)
}
