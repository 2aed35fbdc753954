//! Temporary files and folders, which get their final name when they are complete.

use super::folder_of;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Name prefix of incomplete files and folders.
const TEMPORARY: &str = ".tmp-";

/// Returns an unused temporary path in the same folder as `path`.
pub(super) fn temporary(path: &Path) -> PathBuf {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (process, write) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    folder_of(path).join(format!("{TEMPORARY}{name}-{process}-{write}"))
}

/// Returns whether a path is temporary or inside a temporary folder.
pub(super) fn is_temporary(relative: &str) -> bool {
    relative.split('/').any(|part| part.starts_with(TEMPORARY))
}

/// Returns the final name of a temporary file; `None` for other names.
pub(super) fn temporary_of(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?.strip_prefix(TEMPORARY)?;
    let mut parts = name.rsplitn(3, '-');
    let numbers = [parts.next()?, parts.next()?];
    let target = parts.next().filter(|target| !target.is_empty())?;
    numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())).then_some(target)
}

/// Removes the temporary files that killed processes left in `folder`.
///
/// `is_ours` gets the final path of such a file, relative to `folder`. If it returns false, the file stays.
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
                    // This program cannot have written into a folder that this user cannot open.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    done => done?,
                }
            }
            (None, false) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::remove_temporaries;
    use crate::durable::write_unlisted;

    #[test]
    fn only_temporary_files_of_this_program_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = [".tmp-", ".tmp-notes", ".tmp-a-1-x", ".tmp-theirs-1-2", "a-1-2"];
        for name in [&kept[..], &[".tmp-a-17-0"]].concat() {
            write_unlisted(&dir.path().join(name), b"1").unwrap();
        }
        remove_temporaries(dir.path(), &|name| name == "a").unwrap();
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        assert!(!dir.path().join(".tmp-a-17-0").exists());
    }
}
