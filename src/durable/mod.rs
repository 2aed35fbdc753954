//! The one way to touch a file that must not be half there.
//!
//! A file or a checkpoint folder is written under a temporary name (`.tmp-…`) beside its place, flushed to the disk and
//! renamed: what is visible is whole, whenever the process or the machine stops.
//!
//! Below a folder with a [`Manifest`] every write is listed there first, and a file that is not listed is never replaced.

mod checked;
mod manifest;

pub use checked::{GrowingFile, Verdict, read, read_text, verify};
pub use manifest::{Content, MANIFEST, Manifest};

use manifest::with_manifest;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Begins the name of everything that is not whole yet.
const TEMPORARY: &str = ".tmp-";
/// What a folder is held by.
const LOCK: &str = ".lock";

/// Writes a file whose name a user chose: as [`write()`], but a link keeps pointing to what is written, and what is no file
/// (`/dev/stdout`, a pipe) gets the bytes and stays.
pub fn write_output(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => File::options().write(true).open(path)?.write_all(bytes),
        Ok(_) => write_unlisted(&path.canonicalize()?, bytes),
        Err(_) => write_unlisted(path, bytes),
    }
}

/// Replaces the file at `path` with `bytes`, atomically; makes its folder if it is missing.
///
/// Below a folder with a [`Manifest`] the path is listed there first. Fails there if a file that is not listed has the name.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    with_manifest(path, |manifest, relative| {
        if is_temporary(relative) {
            // A folder's files are listed when the folder gets its name.
            return Ok(());
        }
        refuse_foreign(manifest, path, relative)?;
        manifest.list([(relative.to_owned(), Content::of(bytes))])
    })?;
    write_unlisted(path, bytes)
}

/// Replaces a file as [`write()`] does, without a checksum: for files that grow and that no command reads back.
pub fn write_unchecked(path: &Path, bytes: &[u8]) -> io::Result<()> {
    with_manifest(path, |manifest, relative| {
        refuse_foreign(manifest, path, relative)?;
        manifest.list_unchecked(relative)
    })?;
    write_unlisted(path, bytes)
}

/// Fails if a file or folder of somebody else is at `path`.
fn refuse_foreign(manifest: &Manifest, path: &Path, relative: &str) -> io::Result<()> {
    if manifest.lists(relative) || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "a file of this name is there that mae did not write\nhint: move it somewhere else",
    ))
}

/// Whether a path is below a folder that has not got its name yet.
fn is_temporary(relative: &str) -> bool {
    relative.split('/').any(|part| part.starts_with(TEMPORARY))
}

/// Replaces a file as [`write()`] does, but looks at no manifest.
fn write_unlisted(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let temporary = temporary(path);
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // On a full disk every byte counts; if it cannot be removed, the next start does.
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

/// The way out of a failed write, as a line to put behind its message; empty where none is known.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: free some space and give the same command again; a run goes on from its last save"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: this account may not write there; choose another place"
        }
        _ => "",
    }
}

/// Makes the folder `path` appear with all that `fill` writes into the folder it is given.
///
/// A folder that is there already is left as it is: a checkpoint never changes. Below a [`Manifest`] the files are listed first,
/// and a folder of somebody else is an error.
pub fn publish_folder(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    with_manifest(path, |manifest, relative| {
        refuse_foreign(manifest, path, relative)?;
        if path.is_dir() { Ok(()) } else { manifest.list_folder(relative) }
    })?;
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    fs::create_dir_all(parent)?;
    let temporary = temporary(path);
    fs::create_dir(&temporary)?;
    let written = fill(&temporary)
        .and_then(|()| sync_folder(&temporary))
        .and_then(|()| list_filled(&temporary, path))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing half-written is left; if it cannot be removed, the next start of a run does.
        let _ = fs::remove_dir_all(&temporary);
    }
    written?;
    sync_folder(parent)
}

/// Lists the files of a folder under the name that it is about to get.
fn list_filled(filled: &Path, path: &Path) -> io::Result<()> {
    with_manifest(path, |manifest, relative| {
        let mut names = Vec::new();
        files_below(filled, "", &mut names)?;
        let mut files = Vec::new();
        for name in names {
            files.push((format!("{relative}{name}"), Content::of_file(&filled.join(&name[1..]))?));
        }
        manifest.list(files)
    })?;
    Ok(())
}

/// Collects the files below `folder`, under the name `prefix`, with `/` between parts.
fn files_below(folder: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), &name, files)?;
        } else {
            files.push(name);
        }
    }
    Ok(())
}

/// Makes the folder `to` appear with the files of `from`: the same files where the file system has hard links, copies
/// elsewhere. For folders whose work is done: no file in them is changed in place any more.
pub fn share_folder(from: &Path, to: &Path) -> io::Result<()> {
    publish_folder(to, |unfinished| share_files(from, unfinished))
}

fn share_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_file() {
            verify(&source)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", source.display())))?;
        }
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            share_files(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    sync_folder(to)
}

/// Gives a file of ours another name; a file of ours that has that name is replaced. Does nothing if the file is missing.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    with_manifest(from, |manifest, relative| Ok(manifest.listed(relative).cloned()))?
        .flatten()
        .map_or(Ok(()), |listed| {
            with_manifest(to, |manifest, relative| {
                refuse_foreign(manifest, to, relative)?;
                // All that it may be: the newest may not have reached the disk.
                manifest.list(listed.contents.iter().cloned().map(|c| (relative.to_owned(), c)))
            })
            .map(drop)
        })?;
    fs::rename(from, to)?;
    sync_folder(folder_of(to))
}

/// Removes a file of ours if it is there. Below a [`Manifest`] a file that is not listed stays, and that is an error.
pub fn remove(path: &Path) -> io::Result<()> {
    with_manifest(path, |manifest, relative| refuse_foreign(manifest, path, relative))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    with_manifest(path, Manifest::removed)?;
    Ok(())
}

/// Whether a file of this name is a lock, or what a killed process left unfinished.
pub fn is_own(name: &OsStr) -> bool {
    name == LOCK || temporary_of(name).is_some()
}

/// The name that a temporary file was to get; `None` for every other name.
fn temporary_of(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?.strip_prefix(TEMPORARY)?;
    let mut parts = name.rsplitn(3, '-');
    let numbers = [parts.next()?, parts.next()?];
    let target = parts.next().filter(|target| !target.is_empty())?;
    numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())).then_some(target)
}

/// Removes what a killed process left unfinished below `folder`.
///
/// `is_ours` is asked for each temporary file or folder whether this program writes what it was to become, by its path below
/// `folder` with `/` between parts. Everything else stays.
pub fn remove_temporaries(folder: &Path, is_ours: &dyn Fn(&str) -> bool) -> io::Result<()> {
    remove_temporaries_below(folder, "", is_ours)
}

fn remove_temporaries_below(
    folder: &Path,
    prefix: &str,
    is_ours: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, is_folder) = (entry.file_name(), entry.file_type()?.is_dir());
        let unfinished = temporary_of(&name).filter(|name| is_ours(&format!("{prefix}{name}")));
        match (unfinished, is_folder) {
            (Some(_), true) => fs::remove_dir_all(entry.path())?,
            (Some(_), false) => fs::remove_file(entry.path())?,
            (None, true) => {
                let prefix = format!("{prefix}{}/", name.to_string_lossy());
                match remove_temporaries_below(&entry.path(), &prefix, is_ours) {
                    // A folder of somebody else that this user may not open has nothing of ours.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    done => done?,
                }
            }
            (None, false) => {}
        }
    }
    Ok(())
}

/// Holds a folder for this process until it is dropped; the system releases it if the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `folder`; `None` if another process holds it.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        // A file of this name that somebody else made keeps its content.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let file = options.open(folder.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether a process holds `folder` right now.
pub fn is_held(folder: &Path) -> bool {
    let file = File::open(folder.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name that no other process and no other write of this one uses.
fn temporary(path: &Path) -> PathBuf {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (process, write) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    folder_of(path).join(format!("{TEMPORARY}{name}-{process}-{write}"))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot flush a folder; there the rename is as durable as it gets.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{
        Lock, Manifest, is_held, publish_folder, remove, remove_temporaries, share_folder, write,
    };

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
    fn a_shared_folder_outlives_the_one_it_was_made_from() {
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
    fn only_temporary_files_of_ours_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = [".tmp-", ".tmp-notes", ".tmp-a-1-x", ".tmp-theirs-1-2", "a-1-2"];
        for name in [&kept[..], &[".tmp-a-17-0"]].concat() {
            super::write_unlisted(&dir.path().join(name), b"1").unwrap();
        }
        remove_temporaries(dir.path(), &|name| name == "a").unwrap();
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        assert!(!dir.path().join(".tmp-a-17-0").exists());
    }

    #[test]
    fn a_second_holder_is_turned_away() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(first.is_some() && Lock::take(dir.path()).unwrap().is_none());
        assert!(is_held(dir.path()));
        drop(first);
        assert!(!is_held(dir.path()));
        assert!(Lock::take(dir.path()).unwrap().is_some());
    }
}
