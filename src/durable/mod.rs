//! Atomic writes, locks, and the manifest of a run folder.
//!
//! A file or a checkpoint folder is written under a temporary name (`.tmp-…`) in the same folder, flushed to the disk
//! and then renamed. So the file or folder is complete or missing, even if the process or the machine stops.
//!
//! In a folder with a [`Manifest`], a path is added to the manifest before it is written. Unlisted files are never
//! replaced.

mod appended_file;
mod checked;
mod folders;
mod holder;
mod lock;
mod manifest;
mod manifest_lines;
mod output_file;
mod pause;
mod read_manifests;
mod redirect;
mod temporary;

pub use appended_file::AppendedFile;
pub use checked::{GrowingFile, Verdict, read, read_text, verify};
pub use folders::{publish_folder, share_folder};
pub use holder::{Holder, host_name, now_unix_s};
pub use lock::{Lock, NotTaken, SharedLock, is_held, remove_names};
pub use manifest::{MANIFEST, Manifest};
pub use manifest_lines::Content;
pub use output_file::OutputFile;
pub use pause::{DiskPause, wait_on_full_disks};
pub use redirect::{
    Change, Redirected, SendChange, Writer, is_existing_folder, is_redirected, redirect,
};
pub use temporary::remove_temporaries;

use appended_file::append_to;
use folders::{begin_folder, end_folder};
use pause::patiently;
use read_manifests::with_manifest;
use redirect::sent;
use temporary::{is_temporary, temporary, temporary_of};

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const LOCK: &str = ".lock";

/// Writes a file atomically to a path that the user chose.
///
/// Fails if the folder of `path` is missing. Does not change a [`Manifest`]. Writes directly to pipes and devices.
pub fn write_output(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => File::options().write(true).open(path)?.write_all(bytes),
        Ok(_) => write_unlisted(&path.canonicalize()?, bytes),
        Err(_) if folder_of(path).is_dir() => write_unlisted(path, bytes),
        Err(_) => {
            let problem = "the folder of this file does not exist\nhint: create the folder, or choose another path";
            Err(io::Error::new(io::ErrorKind::NotFound, problem))
        }
    }
}

/// Writes a file atomically. Creates the folder of `path` if it is missing.
///
/// If a parent folder has a [`Manifest`], adds the file to the manifest first. Fails if the file exists but is not in
/// the manifest.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(written) = sent(path, |path| Change::Write { path }, bytes) {
        return written;
    }
    let is_new = with_manifest(path, |manifest, relative| {
        if is_temporary(relative) {
            // `publish_folder` adds the files of a temporary folder when it renames the folder.
            return Ok(false);
        }
        refuse_foreign(manifest, path, relative)?;
        let is_new = !manifest.lists(relative);
        manifest.list([(relative.to_owned(), Content::of(bytes))])?;
        Ok(is_new)
    })?;
    let written = write_unlisted(path, bytes);
    if written.is_err() && is_new == Some(true) && path.symlink_metadata().is_err() {
        // Remove the entry, because `mae check` would report a missing file. Ignore errors, to report the first one.
        let _ = with_manifest(path, Manifest::removed);
    }
    written
}

/// Writes a file as [`write()`] does, but adds the file to the manifest without a checksum.
pub fn write_unchecked(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(written) = sent(path, |path| Change::WriteUnchecked { path }, bytes) {
        return written;
    }
    with_manifest(path, |manifest, relative| {
        refuse_foreign(manifest, path, relative)?;
        manifest.list_unchecked(relative)
    })?;
    write_unlisted(path, bytes)
}

/// Fails if `path` exists, but the manifest does not list it.
fn refuse_foreign(manifest: &Manifest, path: &Path, relative: &str) -> io::Result<()> {
    if manifest.lists(relative) || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "this file already exists and is not from mae\nhint: move this file away",
    ))
}

/// Writes a file as [`write()`] does, but without a manifest.
fn write_unlisted(path: &Path, bytes: &[u8]) -> io::Result<()> {
    patiently(path, bytes.len(), || write_once(path, bytes))
}

fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let temporary = temporary(path);
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The disk may be full, so free the space. If this fails, the next start removes the file.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder)
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Appends all bytes or none, and flushes the file to the disk.
fn append_synced(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    append_and(file, path, bytes, File::sync_data)
}

fn append_and(
    file: &mut File,
    path: &Path,
    bytes: &[u8],
    then: impl Fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    patiently(path, bytes.len(), || {
        let written = file.write_all(bytes).and_then(|()| then(file));
        if written.is_err() {
            // If this fails, the next start removes the incomplete bytes.
            let _ = file.set_len(length);
        }
        written
    })
}

/// Creates a folder and all missing parent folders.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if let Some(created) = sent(path, |path| Change::CreateFolders { path }, &[]) {
        return created;
    }
    patiently(path, 0, || fs::create_dir_all(path))
}

/// Returns a hint for a full disk or a missing permission. Empty for other errors.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: free some disk space, then run the same command again. A run resumes from its last saved state"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: choose a folder where this account has write permission"
        }
        _ => "",
    }
}

/// Renames a file of this program. Does nothing if `from` is missing.
///
/// Fails if `to` exists, but the [`Manifest`] of a parent folder does not list it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let change = |from| Change::Rename { from, to: to.to_owned() };
    if let Some(renamed) = sent(from, change, &[]) {
        return renamed;
    }
    if !from.exists() {
        return Ok(());
    }
    with_manifest(from, |manifest, relative| Ok(manifest.listed(relative).cloned()))?
        .flatten()
        .map_or(Ok(()), |listed| {
            with_manifest(to, |manifest, relative| {
                refuse_foreign(manifest, to, relative)?;
                // Keep all valid contents: the newest may not have reached the disk.
                manifest.list(listed.contents.iter().cloned().map(|c| (relative.to_owned(), c)))
            })
            .map(drop)
        })?;
    patiently(to, 0, || fs::rename(from, to))?;
    sync_folder(folder_of(to))
}

/// Removes a file of mae. Does nothing if the file is missing.
///
/// Fails if the [`Manifest`] of a parent folder does not list the file.
pub fn remove(path: &Path) -> io::Result<()> {
    if let Some(removed) = sent(path, |path| Change::Remove { path }, &[]) {
        return removed;
    }
    with_manifest(path, |manifest, relative| refuse_foreign(manifest, path, relative))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A killed process may have removed the file without recording this.
    with_manifest(path, |manifest, relative| match manifest.listed(relative) {
        Some(_) => manifest.removed(relative),
        None => Ok(()),
    })?;
    Ok(())
}

/// Returns whether `name` is the name of a lock file or of a temporary file.
pub fn is_own(name: &OsStr) -> bool {
    name == LOCK || temporary_of(name).is_some()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot flush a folder.
    if cfg!(unix) { patiently(folder, 0, || File::open(folder)?.sync_all()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, publish_folder, remove, remove_temporaries, share_folder, write};

    #[test]
    fn a_folder_whose_writing_fails_never_appears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch-0001");
        let failed = publish_folder(&path, |_| Err(std::io::Error::other("disk full")));
        assert!(failed.is_err() && !path.exists());
        remove_temporaries(dir.path(), &|name| name == "epoch-0001").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        publish_folder(&path, |folder| write(&folder.join("a"), b"1")).unwrap();
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"1");
    }

    #[test]
    fn a_shared_folder_survives_changes_to_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b/c"));
        write(&from.join("deep/file"), b"1").unwrap();
        share_folder(&from, &to).unwrap();
        write(&from.join("deep/file"), b"2").unwrap();
        std::fs::remove_dir_all(&from).unwrap();
        assert_eq!(std::fs::read(to.join("deep/file")).unwrap(), b"1");
    }

    #[test]
    fn below_a_manifest_only_listed_files_are_replaced_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, ours) = (dir.path().join("deep/notes.csv"), dir.path().join("deep/rows.csv"));
        std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        super::write_unlisted(&theirs, b"important").unwrap();
        Manifest::create(dir.path(), "run").unwrap();
        assert!(write(&theirs, b"1").is_err() && remove(&theirs).is_err());
        assert!(publish_folder(&dir.path().join("deep"), |_| Ok(())).is_err());
        assert_eq!(std::fs::read(&theirs).unwrap(), b"important");
        write(&ours, b"1").unwrap();
        write(&ours, b"2").unwrap();
        publish_folder(&dir.path().join("e/1"), |to| write(&to.join("w/m"), b"1")).unwrap();
        let manifest = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!(manifest.files().collect::<Vec<_>>(), ["deep/rows.csv", "e/1/w/m"]);
        remove(&ours).unwrap();
    }

    #[test]
    fn a_file_whose_first_write_fails_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        Manifest::create(dir.path(), "run").unwrap();
        write(&dir.path().join("a"), b"1").unwrap();
        assert!(write(&dir.path().join("a/b"), b"1").is_err(), "`a` is no folder");
        let manifest = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!(manifest.files().collect::<Vec<_>>(), ["a"]);
    }
}
