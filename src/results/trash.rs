//! The trash: where `--fresh` moves the files of earlier runs. Nothing in it is removed before the user asks for it.

use super::RunError;
use super::contents::foreign;
use super::folder::Moved;
use super::report::utc_compact;
use crate::durable::{MANIFEST, Manifest};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder below `--runs` that holds the trash.
pub const TRASH: &str = ".trash";

/// Moves the listed files of the run in `run` to a new folder of the trash below `runs`, the manifest last.
///
/// A process that is killed in between leaves the manifest with a note; the next start of the run finishes the move.
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
        let folder = to.file_name().expect("it was just joined").to_string_lossy();
        manifest.begin_move(&folder).map_err(RunError::io(run))?;
        to
    };
    let failed = |source| RunError::NoTrash { path: run.to_owned(), to: to.clone(), source };
    fs::create_dir_all(&to).map_err(failed)?;
    for file in manifest.files() {
        move_file(run, &to, file).map_err(failed)?;
    }
    let stayed = foreign(run, manifest).map_err(failed)?;
    fs::rename(run.join(MANIFEST), to.join(MANIFEST)).map_err(failed)?;
    remove_empty_folders(run, manifest);
    Ok(Moved { to, stayed })
}

/// Moves `run/file` to `to/file`. A link on the way, as to a larger disk, is moved itself: what it points to stays.
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
    let folder = target.parent().expect("it is below the trash");
    fs::create_dir_all(folder)?;
    fs::rename(&from, &target)
}

/// Removes the folders that held listed files and hold nothing now.
fn remove_empty_folders(run: &Path, manifest: &Manifest) {
    let mut folders: Vec<&Path> =
        manifest.files().flat_map(|file| Path::new(file).ancestors().skip(1)).collect();
    folders.retain(|folder| !folder.as_os_str().is_empty());
    folders.sort();
    folders.dedup();
    for folder in folders.iter().rev() {
        // A folder that still holds something stays.
        let _ = fs::remove_dir(run.join(folder));
    }
}

/// A folder's name that is not in use: the run's name and the time, `quickstart-20261128T172334Z`.
fn unused(trash: &Path, name: &str) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{}-{}", name.replace('/', "+"), utc_compact(since.as_secs()));
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| trash.join(name));
    names.find(|path| path.symlink_metadata().is_err()).expect("numbers do not end")
}

/// A run in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Its folder's name in the trash.
    pub folder: String,
    pub path: PathBuf,
    /// The run's name.
    pub name: String,
    pub files: usize,
    pub bytes: u64,
    /// Time since the run was moved here.
    pub age: Duration,
}

/// Lists the runs in the trash below `runs`, by name. Folders without a manifest are passed over: they are not ours.
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
            super::job_path(&path, file).symlink_metadata().ok().map(|found| found.len())
        });
        let sizes: Vec<u64> = sizes.collect();
        // The manifest moved last: its folder has not changed since.
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

/// Removes a run from the trash: its listed files, its manifest, and the folders that are empty then.
///
/// Gives whether anything stayed because this program did not write it.
pub fn remove_trashed(trashed: &Trashed) -> Result<bool, RunError> {
    let path = &trashed.path;
    let Some(manifest) = Manifest::read(path).map_err(RunError::io(path))? else { return Ok(true) };
    for file in manifest.files() {
        let file = super::job_path(path, file);
        let inside = file.parent().and_then(|folder| folder.canonicalize().ok());
        // A link that was moved here with the run points to files that are not in the trash.
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
        // A lock file may be there; then the empty folder stays.
        let _ = fs::remove_dir(path);
    }
    Ok(stayed)
}
