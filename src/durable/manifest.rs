//! The manifest of a run folder: the files that this program wrote there, with their checksums.
//!
//! Only files in the manifest may be replaced, moved or removed. Other files in the folder stay untouched. The manifest
//! is a file of JSON lines: a header, then one entry per line. New entries are appended. The entry of a file is flushed
//! to the disk before the file itself, so a killed process leaves no unlisted file behind. The checksums of the old and
//! the new content are both valid, since the process may die in between.

use super::lock;
use super::manifest_lines::{Content, Entry, Header};
use super::read_manifests::forget;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

/// File name of the manifest in a run folder.
pub const MANIFEST: &str = "mae-manifest.jsonl";

/// Maximum number of valid checksums per file.
const KEPT: usize = 4;
/// Maximum number of outdated lines.
const OUTDATED: usize = 1000;

#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    /// Each content that the file may have, newest last. Empty without a checksum.
    pub contents: Vec<Content>,
    /// Whether rows are appended to the file, as to `epochs.csv`.
    pub grows: bool,
}

/// The list of files that mae wrote to a folder, with checksums.
#[derive(Debug, Clone)]
pub struct Manifest {
    root: PathBuf,
    name: String,
    files: BTreeMap<String, Listed>,
    folders: Vec<String>,
    moving_to: Option<String>,
    /// Number of lines after the header.
    lines: usize,
    /// Length of `mae-manifest.jsonl`, to notice that another process wrote to it.
    bytes: u64,
}

impl Manifest {
    /// Writes a manifest without files into the folder `root`. Fails if a manifest exists.
    ///
    /// `name` is the name of the run.
    pub fn create(root: &Path, name: &str) -> io::Result<Self> {
        Self::create_with(root, name, [])
    }

    /// Writes a manifest that lists `files` into the folder `root`. Fails if a manifest exists.
    ///
    /// `files` are (relative path, content). Without a [`Content`], a file has no checksum.
    pub fn create_with(
        root: &Path,
        name: &str,
        files: impl IntoIterator<Item = (String, Option<Content>)>,
    ) -> io::Result<Self> {
        if root.join(MANIFEST).symlink_metadata().is_ok() {
            let problem = "the folder contains a file `mae-manifest.jsonl` of another program\nhint: move this file away";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        let mut manifest = Self::empty(root, name.to_owned());
        for (path, content) in files {
            let contents = content.into_iter().collect();
            manifest.files.insert(path, Listed { contents, grows: false });
        }
        manifest.rewrite()?;
        Ok(manifest)
    }

    fn empty(root: &Path, name: String) -> Self {
        let (files, folders) = (BTreeMap::new(), Vec::new());
        Self { root: root.to_owned(), name, files, folders, moving_to: None, lines: 0, bytes: 0 }
    }

    /// Reads the manifest in the folder `root`; `None` if mae wrote no manifest there.
    ///
    /// Fails if a line is damaged. Ignores an incomplete last line.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(root.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) => {
                use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
                let none = [IsADirectory, NotADirectory, NotFound];
                return if none.contains(&error.kind()) { Ok(None) } else { Err(error) };
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.split_inclusive('\n');
        let first = lines.next().unwrap_or_default();
        let Some(header) = Header::parse(first).map_err(|problem| damaged(root, 1, &problem))?
        else {
            return Ok(None);
        };
        let mut manifest = Self::empty(root, header.name);
        manifest.bytes = bytes.len() as u64;
        for (number, line) in lines.enumerate() {
            match Entry::parse(line) {
                Ok(entry) => manifest.take(entry),
                Err(_) if !line.ends_with('\n') || line.trim().is_empty() => {}
                // A crash cut this line short, and the next start appended the newline.
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(damaged(root, number + 2, &error.to_string())),
            }
        }
        Ok(Some(manifest))
    }

    fn take(&mut self, entry: Entry) {
        self.lines += 1;
        match entry {
            Entry::Wrote { path, bytes, blake3 } if is_below(&path) => {
                let content = Content { bytes, blake3 };
                let listed = self.files.entry(path).or_default();
                listed.grows = false;
                listed.contents.retain(|old| *old != content);
                listed.contents.push(content);
                let outdated = listed.contents.len().saturating_sub(KEPT);
                listed.contents.drain(..outdated);
            }
            Entry::Grew { path, bytes, blake3 } if is_below(&path) => {
                let contents = vec![Content { bytes, blake3 }];
                self.files.insert(path, Listed { contents, grows: true });
            }
            Entry::Unchecked { path } if is_below(&path) => {
                self.files.insert(path, Listed::default());
            }
            Entry::Removed { path } => drop(self.files.remove(&path)),
            Entry::Folder { path } if is_below(&path) && !self.folders.contains(&path) => {
                self.folders.push(path);
            }
            Entry::MovingTo { folder } if is_below(&folder) => self.moving_to = Some(folder),
            _ => {}
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.bytes
    }

    /// Returns the name of the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether mae wrote the file or folder `path`, which is relative to the run folder.
    pub fn lists(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let next = self.files.range(below.clone()..).next();
        self.files.contains_key(path)
            || self.folders.iter().any(|folder| folder == path)
            || next.is_some_and(|(next, _)| next.starts_with(&below))
    }

    /// Returns the relative paths of all listed files, sorted. A listed file may be missing.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(super) fn listed(&self, path: &str) -> Option<&Listed> {
        self.files.get(path)
    }

    /// Returns the name of the trash folder if `--fresh` was interrupted.
    pub fn moving_to(&self) -> Option<&str> {
        self.moving_to.as_deref()
    }

    /// Adds files to the manifest before they are written, as (relative path, new content).
    pub fn list(&mut self, files: impl IntoIterator<Item = (String, Content)>) -> io::Result<()> {
        let entries = files.into_iter().map(|(path, content)| Entry::of(path, content, false));
        self.append(entries.collect())
    }

    /// Adds a folder to the manifest before the folder is created.
    pub(super) fn list_folder(&mut self, path: &str) -> io::Result<()> {
        self.append(vec![Entry::Folder { path: path.to_owned() }])
    }

    /// Records the new checksum of a file after rows were appended.
    pub(super) fn grew(&mut self, path: &str, content: Content) -> io::Result<()> {
        self.append(vec![Entry::of(path.to_owned(), content, true)])
    }

    /// Adds a file to the manifest without a checksum.
    pub fn list_unchecked(&mut self, path: &str) -> io::Result<()> {
        self.append(vec![Entry::Unchecked { path: path.to_owned() }])
    }

    pub(super) fn removed(&mut self, path: &str) -> io::Result<()> {
        self.append(vec![Entry::Removed { path: path.to_owned() }])
    }

    /// Records that `--fresh` is about to move all files to the trash folder `name`.
    pub fn begin_move(&mut self, name: &str) -> io::Result<()> {
        self.append(vec![Entry::MovingTo { folder: name.to_owned() }])
    }

    /// Writes a copy of the manifest into `folder`.
    pub fn copy_to(&self, folder: &Path) -> io::Result<()> {
        Self { root: folder.to_owned(), ..self.clone() }.rewrite()
    }

    /// Replaces the manifest by an empty manifest for the new run `name`.
    pub fn restart(&mut self, name: &str) -> io::Result<()> {
        *self = Self::empty(&self.root, name.to_owned());
        self.rewrite()?;
        // The cache has the manifest of the earlier run.
        forget(&self.root)
    }

    /// Fails if another process may have taken the lock of the folder.
    pub(super) fn confirm_lock(&self) -> io::Result<()> {
        lock::confirm(&self.root)
    }

    fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.confirm_lock()?;
        let mut text: String = entries.iter().map(Entry::line).collect();
        let mut file = File::options().read(true).append(true).open(self.root.join(MANIFEST))?;
        // If a crash cut the last line short, start a new line.
        if !ends_with_newline(&mut file)? {
            text.insert(0, '\n');
        }
        super::append_synced(&mut file, &self.root.join(MANIFEST), text.as_bytes())?;
        self.bytes += text.len() as u64;
        for entry in entries {
            self.take(entry);
        }
        if self.lines > self.needed() + OUTDATED { self.rewrite() } else { Ok(()) }
    }

    /// Returns the maximum number of lines that are not outdated.
    fn needed(&self) -> usize {
        self.files.len() * KEPT + self.folders.len() + 1
    }

    /// Removes outdated lines if there are more than 64.
    pub fn compact(&mut self) -> io::Result<()> {
        if self.lines > self.needed() + 64 { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let header = Header::new(&self.name);
        let mut text = header.line();
        for path in &self.folders {
            text += &Entry::Folder { path: path.clone() }.line();
        }
        for (path, listed) in &self.files {
            if listed.contents.is_empty() {
                text += &Entry::Unchecked { path: path.clone() }.line();
            }
            for content in listed.contents.iter().cloned() {
                text += &Entry::of(path.clone(), content, listed.grows).line();
            }
        }
        if let Some(folder) = self.moving_to.clone() {
            text += &Entry::MovingTo { folder }.line();
        }
        super::write_unlisted(&self.root.join(MANIFEST), text.as_bytes())?;
        (self.lines, self.bytes) = (text.lines().count() - 1, text.len() as u64);
        Ok(())
    }
}

fn damaged(root: &Path, line: usize, problem: &str) -> io::Error {
    let path = root.join(MANIFEST);
    let text = format!(
        "{} is corrupt in line {line}: {problem}\n\
         hint: restore this file from a backup, or remove this file. If you remove this file, the next start of the \
         run writes a new file with checksums of the existing files",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Returns whether a relative path stays inside the manifest's folder.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::{Content, MANIFEST, Manifest};
    use crate::durable::write_unlisted;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn a_manifest_lists_files_and_survives_an_incomplete_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path(), "tiny").unwrap();
        manifest.list([("a/b.csv".to_owned(), Content::of(b"1"))]).unwrap();
        manifest.list_folder("d").unwrap();
        let mut file = File::options().append(true).open(dir.path().join(MANIFEST)).unwrap();
        file.write_all(b"{\"wrote\":{\"path\":\"half").unwrap();
        let mut manifest = Manifest::read(dir.path()).unwrap().unwrap();
        manifest.list([("c.csv".to_owned(), Content::of(b"2"))]).unwrap();
        let read = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!(read.files().collect::<Vec<_>>(), ["a/b.csv", "c.csv"]);
        assert!(read.lists("a") && read.lists("a/b.csv") && read.lists("d"));
        assert!(!read.lists("a/b") && !read.lists("b"));
    }

    #[test]
    fn compacting_removes_outdated_entries() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path(), "tiny").unwrap();
        for i in 0..500u32 {
            manifest.list([("a".to_owned(), Content::of(&i.to_le_bytes()))]).unwrap();
            manifest.grew("b", Content::of(&i.to_le_bytes())).unwrap();
        }
        manifest.compact().unwrap();
        let read = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!(read.lines, super::KEPT + 1);
        let newest = Content::of(&499u32.to_le_bytes());
        assert_eq!(read.listed("a").unwrap().contents.last(), Some(&newest));
        assert_eq!(read.listed("b").unwrap().contents, [newest]);
    }

    #[test]
    fn a_flipped_bit_in_an_entry_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MANIFEST);
        let mut manifest = Manifest::create(dir.path(), "tiny").unwrap();
        manifest.grew("pretrain/epochs.csv", Content::of(b"1")).unwrap();
        manifest.grew("pretrain/epochs.csv", Content::of(b"2")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for at in header..bytes.len() - 1 {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                write_unlisted(&path, &flipped).unwrap();
                assert!(Manifest::read(dir.path()).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn the_manifest_of_a_run_of_many_epochs_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        Manifest::create(dir.path(), "tiny").unwrap();
        let [newest, previous] = ["newest", "previous"].map(|name| dir.path().join(name));
        for epoch in 0..500u32 {
            if epoch > 0 {
                crate::durable::rename(&newest, &previous).unwrap();
            }
            crate::durable::write(&newest, &epoch.to_le_bytes()).unwrap();
        }
        let length = std::fs::metadata(dir.path().join(MANIFEST)).unwrap().len();
        assert!(length < 300_000, "{length} bytes");
        assert_eq!(crate::durable::read(&previous).unwrap(), 498u32.to_le_bytes());
    }

    #[test]
    fn a_manipulated_manifest_never_reaches_files_outside_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join(MANIFEST);
        let text = ["../up", "/etc/passwd", "a/../../b", ""].map(|path| {
            format!("{{\"wrote\":{{\"path\":\"{path}\",\"bytes\":1,\"blake3\":\"\"}}}}\n")
        });
        let text = format!(
            "{{\"mae_manifest\":1,\"name\":\"t\"}}\n{}{{\"moving_to\":{{\"folder\":\"../x\"}}}}\n",
            text.concat()
        );
        write_unlisted(&manifest, text.as_bytes()).unwrap();
        let read = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!((read.files().count(), read.moving_to()), (0, None));
        write_unlisted(&manifest, text.replacen("wrote", "wrXte", 1).as_bytes()).unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("line 2"));
        write_unlisted(&manifest, b"{\"somebody\": \"else\"}\n").unwrap();
        assert!(Manifest::read(dir.path()).unwrap().is_none());
    }
}
