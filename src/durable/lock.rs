//! Locks on folders.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Name of the lock file in a folder.
pub(super) const LOCK: &str = ".lock";

/// A lock on a folder, held until it is dropped. The system releases it if the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `folder`; `None` if another process holds it.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        // Do not truncate: the file may be somebody else's.
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

/// Whether a process holds the lock of `folder`.
pub fn is_held(folder: &Path) -> bool {
    let file = File::open(folder.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::{Lock, is_held};

    #[test]
    fn a_second_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(first.is_some() && Lock::take(dir.path()).unwrap().is_none());
        assert!(is_held(dir.path()));
        drop(first);
        assert!(!is_held(dir.path()));
        assert!(Lock::take(dir.path()).unwrap().is_some());
    }
}
