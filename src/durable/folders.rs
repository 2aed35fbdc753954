//! Creates and copies whole folders atomically, such as checkpoints.

use super::manifest_lines::Content;
use super::pause::patiently;
use super::read_manifests::with_manifest;
use super::redirect::{Change, is_existing_folder, is_redirected, sent};
use super::temporary::temporary;
use super::{create_folders, folder_of, refuse_foreign, sync_folder, verify};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Creates a folder atomically.
///
/// `fill` writes the files into a temporary folder, which is then renamed to `path`. If `path` already exists, the folder
/// stays unchanged. Fails if a [`Manifest`](super::Manifest) applies to `path` but does not list the existing folder.
pub fn publish_folder(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary(path);
    if !begin_folder(path, &temporary)? {
        return Ok(());
    }
    let written = fill(&temporary).and_then(|()| end_folder(path, &temporary));
    if written.is_err() {
        // Remove the incomplete folder. If this fails, the next start of the run removes it.
        let _ = drop_folder(path, temporary);
    }
    written
}

/// Creates the temporary folder that becomes `path`. Returns false if `path` already exists.
pub(super) fn begin_folder(path: &Path, temporary: &Path) -> io::Result<bool> {
    let change = |path| Change::BeginFolder { path, temporary: temporary.to_owned() };
    if let Some(begun) = sent(path, change, &[]) {
        return match begun {
            Err(error) if is_existing_folder(&error) => Ok(false),
            begun => begun.map(|()| true),
        };
    }
    with_manifest(path, |manifest, relative| {
        refuse_foreign(manifest, path, relative)?;
        if path.is_dir() { Ok(()) } else { manifest.list_folder(relative) }
    })?;
    if path.is_dir() {
        return Ok(false);
    }
    create_folders(folder_of(path))?;
    patiently(path, 0, || fs::create_dir(temporary))?;
    Ok(true)
}

/// Renames a filled temporary folder to `path`.
pub(super) fn end_folder(path: &Path, temporary: &Path) -> io::Result<()> {
    let change = |path| Change::EndFolder { path, temporary: temporary.to_owned() };
    if let Some(ended) = sent(path, change, &[]) {
        return ended;
    }
    sync_folder(temporary)?;
    list_filled(temporary, path)?;
    patiently(path, 0, || fs::rename(temporary, path))?;
    sync_folder(folder_of(path))
}

fn drop_folder(path: &Path, temporary: PathBuf) -> io::Result<()> {
    if is_redirected(path) {
        let dropped = sent(path, |_| Change::DropFolder { temporary }, &[]);
        return dropped.unwrap_or(Ok(()));
    }
    fs::remove_dir_all(&temporary)
}

/// Adds the files in the temporary folder `filled` to the manifest.
///
/// The entries use the final path of the folder, `path`.
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

/// Adds the relative paths of all files below `folder` to `files`.
///
/// Each path gets the prefix `prefix`.
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

/// Copies a finished folder atomically, with hard links if possible.
///
/// After this, writing into a hard-linked file changes the file in both folders.
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
            patiently(&target, 0, || fs::create_dir(&target))?;
            share_files(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            let bytes = source.metadata()?.len() as usize;
            patiently(&target, bytes, || {
                fs::copy(&source, &target)?;
                File::open(&target)?.sync_all()
            })?;
        }
    }
    sync_folder(to)
}
