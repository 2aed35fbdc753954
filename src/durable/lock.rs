//! Locks on folders.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Name of the lock file in a folder.
pub(super) const LOCK: &str = ".lock";
/// How often a lock is tried.
const TRIES: usize = 10;
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock on a folder, held until it is dropped. The system releases it if the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `folder`; `None` if another process holds it.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        // Do not truncate: another program may have written a file of this name.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let file = options.open(folder.join(LOCK))?;
        // A child process that another thread starts has a copy of a released lock until it runs its program.
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Whether a process holds the lock of `folder`.
pub fn is_held(folder: &Path) -> bool {
    let file = File::open(folder.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
