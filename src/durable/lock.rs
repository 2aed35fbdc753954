//! Locks on folders: at most one process works in a run.
//!
//! A process locks the file `.lock` in the folder and, if the system supports it, the folder itself. So a second
//! process is refused even if somebody removed the lock file. Network file systems often support only locks on files.
//! There, the process with the lock checks before each write that the lock file was not replaced.
//! On file systems whose locks hold only on one host, the name of the [`Holder`] in the lock file keeps processes of
//! other hosts away.

use super::{Holder, LOCK, patiently};
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Held {
    /// Absolute path of the locked folder.
    folder: PathBuf,
    file: File,
    /// Whether the lock file names this process.
    is_named: bool,
}

/// The reason why [`Lock::take_named`] did not lock the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// Another process holds the lock; `None` if the lock file does not name that process.
    Busy(Option<Holder>),
    /// The lock file names a process on another host. This host cannot check whether that process still runs.
    OnOtherHost(Holder),
}

/// An exclusive lock on a folder. Dropping this value unlocks the folder.
#[derive(Debug)]
pub struct Lock {
    folder: PathBuf,
    _on_folder: Option<File>,
}

impl Lock {
    /// Locks `folder`. Returns `None` if another process holds the lock.
    ///
    /// If the file system does not support locks, the error has the kind `Unsupported`.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        // Try again: a child process of another thread inherits a copy of a released lock, until it executes its
        // program.
        for _ in 1..TRIES {
            if let Some(lock) = Self::try_take(folder)? {
                return Ok(Some(lock));
            }
            thread::sleep(PAUSE);
        }
        Self::try_take(folder)
    }

    /// Locks `folder`, and writes the host and number of this process to the lock file.
    ///
    /// Returns [`NotTaken`] if another process holds the lock. A process on another host holds the lock as long as the
    /// lock file names it. With `break_lock`, takes over that lock. The other process then fails at its next write.
    pub fn take_named(folder: &Path, break_lock: bool) -> io::Result<Result<Self, NotTaken>> {
        let path = folder.join(LOCK);
        let holder = Holder::read(&path);
        match &holder {
            Some(holder) if holder.is_running_here() => {
                return Ok(Err(NotTaken::Busy(Some(holder.clone()))));
            }
            Some(holder) if !holder.is_of_this_host() => {
                if !break_lock {
                    return Ok(Err(NotTaken::OnOtherHost(holder.clone())));
                }
                fs::remove_file(&path)?;
            }
            _ => {}
        }
        let Some(lock) = Self::take(folder)? else { return Ok(Err(NotTaken::Busy(holder))) };
        let mut held = held();
        let own = held.iter_mut().find(|held| held.folder == lock.folder).expect("just locked");
        // Another program may have written a file of this name.
        if own.file.metadata()?.len() == 0 || Holder::read(&path).is_some() {
            own.name()?;
        }
        drop(held);
        Ok(Ok(lock))
    }

    fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        let on_folder = File::open(folder).ok();
        let refusal = on_folder.as_ref().and_then(|opened| opened.try_lock().err());
        if matches!(refusal, Some(TryLockError::WouldBlock)) {
            return Ok(None);
        }
        let file = open(folder)?;
        if !try_lock(&file)? {
            return Ok(None);
        }
        let folder = std::path::absolute(folder)?;
        held().push(Held { folder: folder.clone(), file, is_named: false });
        Ok(Some(Self { folder, _on_folder: on_folder }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = held();
        for held in held.iter().filter(|held| held.is_named && held.folder == self.folder) {
            // If this fails, the next process of this host sees that this process has ended.
            let _ = held.file.set_len(0);
        }
        held.retain(|held| held.folder != self.folder);
    }
}

impl Held {
    /// Writes the host and number of this process to the lock file.
    fn name(&mut self) -> io::Result<()> {
        let bytes = Holder::this_process().to_bytes();
        let mut file = &self.file;
        patiently(&self.folder.join(LOCK), bytes.len(), || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&bytes)
        })?;
        self.is_named = true;
        self.file.sync_all()
    }
}

/// Empties all lock files of this process. Call this just before the process exits.
///
/// Does nothing if another thread is using the locks. Then only this host can lock the folders again.
pub fn remove_names() {
    if let Ok(held) = HELD.try_lock() {
        for held in held.iter().filter(|held| held.is_named) {
            let _ = held.file.set_len(0);
        }
    }
}

/// A lock on a folder that several processes can hold at the same time.
#[derive(Debug)]
pub struct SharedLock {
    _file: File,
}

impl SharedLock {
    /// Takes a shared lock on `folder`.
    ///
    /// If no other process holds a lock on `folder`, first calls `if_alone`.
    pub fn join(folder: &Path, if_alone: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        let file = open(folder)?;
        if try_lock(&file)? {
            if_alone()?;
        }
        // Waits while another process runs `if_alone`.
        file.lock_shared().map_err(|error| unsupported(&error))?;
        Ok(Self { _file: file })
    }
}

/// Returns whether a process has locked `folder` exclusively.
pub fn is_held(folder: &Path) -> bool {
    [folder.join(LOCK), folder.to_owned()].iter().any(|path| {
        let refusal = File::open(path).ok().and_then(|opened| opened.try_lock_shared().err());
        matches!(refusal, Some(TryLockError::WouldBlock))
    })
}

/// Fails if somebody replaced the lock file. Another process may then use the folder.
///
/// Creates a missing lock file again.
pub(super) fn confirm(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let mut held = held();
    let Some(own) = held.iter_mut().find(|held| held.folder == folder) else { return Ok(()) };
    match fs::metadata(folder.join(LOCK)) {
        Ok(found) if is_same(&own.file.metadata()?, &found) => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = open(&folder)?;
            if try_lock(&file)? {
                own.file = file;
                return if own.is_named { own.name() } else { Ok(()) };
            }
        }
        Err(error) => return Err(error),
    }
    let problem = format!(
        "the lock file in {} was replaced, so another process may be working in this folder\n\
         hint: wait until no other process works in this run, then run the same command again. The run resumes from \
         its last saved state",
        folder.display()
    );
    Err(io::Error::other(problem))
}

fn held() -> std::sync::MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(folder: &Path) -> io::Result<File> {
    // Do not truncate: another program may have written a file of this name.
    File::options().write(true).create(true).truncate(false).open(folder.join(LOCK))
}

/// Tries to lock a file. Returns false if another process holds the lock.
fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(unsupported(&error)),
    }
}

fn unsupported(error: &io::Error) -> io::Error {
    let problem = format!(
        "the file system does not support file locks ({error})\n\
         hint: choose a folder on a local disk, for example with `--runs DIR`. Or mount the file system with locks \
         (Lustre: `-o flock`, NFS: without `nolock`)"
    );
    io::Error::new(io::ErrorKind::Unsupported, problem)
}

#[cfg(unix)]
fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Returns true: an operating system such as Windows does not let another process replace an open file.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::{LOCK, Lock, SharedLock, is_held};
    use crate::durable::{Manifest, write};
    use std::cell::Cell;
    use std::fs::{self, File};

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped_even_without_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert!(lock.is_some() && is_held(dir.path()));
        assert!(Lock::take(dir.path()).unwrap().is_none());
        fs::remove_file(dir.path().join(LOCK)).unwrap();
        assert!(Lock::take(dir.path()).unwrap().is_none() && is_held(dir.path()));
        drop(lock);
        assert!(!is_held(dir.path()) && Lock::take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn nothing_is_written_after_another_process_replaced_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join(LOCK), dir.path().join("a.csv"));
        Manifest::create(dir.path(), "run").unwrap();
        let lock = Lock::take(dir.path()).unwrap().unwrap();
        fs::remove_file(&file).unwrap();
        write(&path, b"1").unwrap();
        assert!(file.is_file(), "a removed lock file is created again");
        fs::remove_file(&file).unwrap();
        File::create(&file).unwrap();
        let error = write(&path, b"2").unwrap_err().to_string();
        assert!(
            error.contains(
                " was replaced, so another process may be working in this folder\nhint: "
            ),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"1");
        drop(lock);
        write(&path, b"3").unwrap();
    }

    #[test]
    fn only_the_first_of_several_processes_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let alone = Cell::new(0);
        let join = || {
            SharedLock::join(dir.path(), || {
                alone.set(alone.get() + 1);
                Ok(())
            })
            .unwrap()
        };
        let both = (join(), join());
        assert_eq!(alone.get(), 1);
        drop(both);
        drop(join());
        assert_eq!(alone.get(), 2);
    }
}
