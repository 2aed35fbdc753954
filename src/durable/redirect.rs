//! Changes of files that another process makes.
//!
//! A run on several hosts has one writer, host 0. While a job runs on another host, this module passes each change below
//! the run folder to host 0, which makes it with the same functions. So the lock, the manifest and the order of writes
//! stay those of one process. Files are read directly.

use super::{GrowingFile, append_to, begin_folder, end_folder};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// A change of a file or a folder. Some changes have bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Replaces a file with the bytes, as [`super::write()`] does.
    Write {
        path: PathBuf,
    },
    /// Replaces a file with the bytes, as [`super::write_unchecked()`] does.
    WriteUnchecked {
        path: PathBuf,
    },
    /// Appends the bytes, as [`super::AppendedFile::append()`] does.
    Append {
        path: PathBuf,
    },
    /// Flushes a file to the disk.
    Flush {
        path: PathBuf,
    },
    /// Truncates a file to the bytes, which are its start, as [`GrowingFile::open()`] does.
    Keep {
        path: PathBuf,
    },
    /// Appends the bytes, as [`GrowingFile::append()`] does.
    Grow {
        path: PathBuf,
    },
    CreateFolders {
        path: PathBuf,
    },
    /// Creates the temporary folder that becomes `path`.
    BeginFolder {
        path: PathBuf,
        temporary: PathBuf,
    },
    /// Renames the temporary folder to `path`.
    EndFolder {
        path: PathBuf,
        temporary: PathBuf,
    },
    /// Removes an incomplete temporary folder.
    DropFolder {
        temporary: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

/// Sends a change and its bytes to the process that writes, and waits for the result.
pub type SendChange = Arc<dyn Fn(Change, &[u8]) -> io::Result<()> + Send + Sync>;

/// The folder whose changes another process makes.
struct Redirect {
    root: PathBuf,
    send: SendChange,
}

static REDIRECT: RwLock<Option<Redirect>> = RwLock::new(None);

/// While this value exists, another process makes the changes below a folder.
pub struct Redirected(());

/// Lets another process make all changes below the folder `root`.
pub fn redirect(root: &Path, send: SendChange) -> io::Result<Redirected> {
    let root = std::path::absolute(root)?;
    *REDIRECT.write().unwrap_or_else(PoisonError::into_inner) = Some(Redirect { root, send });
    Ok(Redirected(()))
}

impl Drop for Redirected {
    fn drop(&mut self) {
        *REDIRECT.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Returns whether another process makes the changes of `path`.
pub fn is_redirected(path: &Path) -> bool {
    sender(path).is_some()
}

/// Passes a change of `path` to the process that makes it. Returns `None` if this process makes it itself.
pub(super) fn sent(
    path: &Path,
    change: impl FnOnce(PathBuf) -> Change,
    bytes: &[u8],
) -> Option<io::Result<()>> {
    let send = sender(path)?;
    Some(send(change(path.to_owned()), bytes))
}

fn sender(path: &Path) -> Option<SendChange> {
    let redirect = REDIRECT.read().unwrap_or_else(PoisonError::into_inner);
    let Redirect { root, send } = redirect.as_ref()?;
    std::path::absolute(path).ok()?.starts_with(root).then(|| Arc::clone(send))
}

/// Returns whether an error is the answer that the folder of [`Change::BeginFolder`] exists already.
///
/// An error of the system has a code. The error for a folder that is not from mae has a text.
pub fn is_existing_folder(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
        && error.raw_os_error().is_none()
        && error.get_ref().is_none()
}

/// Makes the changes of other processes.
#[derive(Default)]
pub struct Writer {
    /// The open tables of other processes.
    growing: HashMap<PathBuf, GrowingFile>,
}

impl Writer {
    /// Makes a change. `bytes` are those of the change.
    pub fn make(&mut self, change: Change, bytes: &[u8]) -> io::Result<()> {
        match change {
            Change::Write { path } => super::write(&path, bytes),
            Change::WriteUnchecked { path } => super::write_unchecked(&path, bytes),
            Change::Append { path } => append_to(&path, bytes),
            Change::Flush { path } => File::open(path)?.sync_data(),
            Change::Keep { path } => {
                let file = GrowingFile::open(&path, bytes)?;
                self.growing.insert(path, file);
                Ok(())
            }
            Change::Grow { path } => {
                let file = self.growing.get_mut(&path);
                file.ok_or_else(|| io::Error::other("the table is not open"))?.append(bytes)
            }
            Change::CreateFolders { path } => super::create_folders(&path),
            Change::BeginFolder { path, temporary } => {
                let is_new = begin_folder(&path, &temporary)?;
                if is_new { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
            }
            Change::EndFolder { path, temporary } => end_folder(&path, &temporary),
            Change::DropFolder { temporary } => fs::remove_dir_all(temporary),
            Change::Rename { from, to } => super::rename(&from, &to),
            Change::Remove { path } => super::remove(&path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Writer, redirect};
    use crate::durable::{self, AppendedFile, GrowingFile, Manifest};
    use std::fs;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    /// Makes one change of each kind in the folder `root`.
    fn change_everything(root: &Path) {
        let job = root.join("finetune");
        durable::create_folders(&job.join("tensorboard")).unwrap();
        let events = job.join("tensorboard/events");
        durable::write_unchecked(&events, b"version ").unwrap();
        let mut events = AppendedFile::open(&events).unwrap();
        events.append(b"loss ").unwrap();
        events.append(b"accuracy").unwrap();
        events.flush().unwrap();
        let mut table = GrowingFile::create(&job.join("epochs.csv"), b"epoch\n").unwrap();
        table.append(b"1\n").unwrap();
        table.append(b"2\n").unwrap();
        let mut table = GrowingFile::open(&job.join("epochs.csv"), b"epoch\n1\n").unwrap();
        table.append(b"two\n").unwrap();
        for state in ["1", "2", "3"] {
            let [newest, older] = ["resume", "previous"].map(|name| job.join(name));
            durable::rename(&newest, &older).unwrap();
            durable::write(&newest, state.as_bytes()).unwrap();
        }
        durable::remove(&job.join("previous")).unwrap();
        let fill = |folder: &Path| {
            durable::write(&folder.join("model"), b"weights")?;
            durable::write(&folder.join("meta"), b"epoch 2")
        };
        durable::publish_folder(&job.join("checkpoints/epoch-0002"), fill).unwrap();
        let failed = |_: &Path| Err(std::io::Error::other("no weights"));
        assert!(durable::publish_folder(&job.join("checkpoints/epoch-0003"), failed).is_err());
        durable::publish_folder(&job.join("checkpoints/epoch-0002"), failed).unwrap();
    }

    fn contents(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                contents(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
        found.sort();
    }

    #[test]
    fn another_process_makes_the_same_files() {
        let [own, others] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [own, others] = [own.path().join("run"), others.path().join("run")];
        for root in [&own, &others] {
            fs::create_dir(root).unwrap();
            Manifest::create(root, "run").unwrap();
        }
        change_everything(&own);
        let made = Arc::new(Mutex::new((Writer::default(), Vec::new())));
        let writer = Arc::clone(&made);
        // The redirected folder does not exist, so nothing can be written there by accident.
        let elsewhere = others.with_file_name("elsewhere");
        let (from, to) = (elsewhere.clone(), others.clone());
        let moved = move |change: Change| {
            let text = serde_json::to_string(&change).unwrap();
            let text = text.replace(from.to_str().unwrap(), to.to_str().unwrap());
            serde_json::from_str::<Change>(&text).unwrap()
        };
        let send = move |change: Change, bytes: &[u8]| {
            let (writer, kinds) = &mut *writer.lock().unwrap();
            kinds.push(std::mem::discriminant(&change));
            writer.make(moved(change), bytes)
        };
        let redirected = redirect(&elsewhere, Arc::new(send)).unwrap();
        change_everything(&elsewhere);
        drop(redirected);
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        contents(&own, &own, &mut expected);
        contents(&others, &others, &mut found);
        assert_eq!(found, expected);
        assert!(!elsewhere.exists());
        let kinds: std::collections::HashSet<_> = made.lock().unwrap().1.drain(..).collect();
        assert_eq!(kinds.len(), 12, "every kind of change");
    }
}
