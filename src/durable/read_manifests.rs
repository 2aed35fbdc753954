//! Caches the manifests that this process has read, and finds the manifest of a path.

use super::{MANIFEST, Manifest};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Manifests that this process has read, by folder.
static READ: Mutex<Option<HashMap<PathBuf, Manifest>>> = Mutex::new(None);

/// Calls `with` with the manifest of the nearest parent folder of `path` that has a manifest.
///
/// The second argument of `with` is `path`, relative to that folder. Returns `None` if there is no manifest.
pub(super) fn with_manifest<T>(
    path: &Path,
    with: impl FnOnce(&mut Manifest, &str) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let path = std::path::absolute(path)?;
    for root in path.ancestors().skip(1) {
        let Ok(found) = root.join(MANIFEST).metadata() else { continue };
        let relative = path.strip_prefix(root).expect("an ancestor");
        let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts.filter(|_| found.is_file()) else { continue };
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_default();
        if read.get(root).is_none_or(|manifest| manifest.length() != found.len()) {
            let Some(manifest) = Manifest::read(root)? else { continue };
            read.insert(root.to_owned(), manifest);
        }
        let manifest = read.get_mut(root).expect("it was just read");
        return with(manifest, &parts.join("/")).map(Some);
    }
    Ok(None)
}

/// Removes the manifest of the folder `root` from the cache.
pub(super) fn forget(root: &Path) -> io::Result<()> {
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.get_or_insert_default().remove(&std::path::absolute(root)?);
    Ok(())
}
