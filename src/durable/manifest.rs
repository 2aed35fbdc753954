//! The manifest of a run folder: the list of the files that this program wrote there.
//!
//! Only listed files may be replaced, moved or removed. A file that somebody else put into the folder is never touched.
//! The manifest is a file of JSON lines: a header, then one entry for each path. Entries are appended and flushed to
//! the disk before the file itself is written, so a killed process leaves no unlisted file behind.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// The manifest's file name.
pub const MANIFEST: &str = "mae-manifest.jsonl";

const FORMAT: u32 = 1;

/// The first line of a manifest.
#[derive(Serialize, Deserialize)]
struct Header {
    mae_manifest: u32,
    name: String,
}

/// Any other line of a manifest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A path below the folder, with `/` between parts. It ends in `/` if it is a folder published as a whole.
    Wrote(String),
    /// The listed files are being moved into the trash folder of this name.
    MovingTo(String),
}

/// The manifest of one folder, as read from the disk.
#[derive(Debug, Clone)]
pub struct Manifest {
    root: PathBuf,
    name: String,
    paths: BTreeSet<String>,
    moving_to: Option<String>,
}

impl Manifest {
    /// Writes an empty manifest into `root`. Fails if there is a file of that name.
    pub fn create(root: &Path, name: &str) -> io::Result<Self> {
        if root.join(MANIFEST).symlink_metadata().is_ok() {
            let problem =
                "its mae-manifest.jsonl was not written by mae\nhint: move this file away";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        let header = Header { mae_manifest: FORMAT, name: name.to_owned() };
        super::write_unlisted(&root.join(MANIFEST), line(&header).as_bytes())?;
        let (paths, moving_to) = (BTreeSet::new(), None);
        Ok(Self { root: root.to_owned(), name: header.name, paths, moving_to })
    }

    /// Reads the manifest in `root`; `None` if there is no file of that name, or if another program wrote it.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(root.join(MANIFEST)) {
            Ok(text) => text,
            Err(error) => {
                use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
                let none = [InvalidData, IsADirectory, NotADirectory, NotFound];
                return if none.contains(&error.kind()) { Ok(None) } else { Err(error) };
            }
        };
        let mut lines = text.lines();
        let header = lines.next().and_then(|line| serde_json::from_str::<Header>(line).ok());
        let Some(header) = header.filter(|header| header.mae_manifest == FORMAT) else {
            return Ok(None);
        };
        let (name, paths) = (header.name, BTreeSet::new());
        let mut manifest = Self { root: root.to_owned(), name, paths, moving_to: None };
        // Ignore an incomplete line, left by a crash or a full disk: its file was not written yet.
        for entry in lines.filter_map(|line| serde_json::from_str(line).ok()) {
            match entry {
                Entry::Wrote(path) if is_below(&path) => drop(manifest.paths.insert(path)),
                Entry::MovingTo(folder) if is_below(&folder) => manifest.moving_to = Some(folder),
                _ => {}
            }
        }
        Ok(Some(manifest))
    }

    /// Finds the manifest in the closest folder above `path`. Returns it with the path relative to that folder.
    pub(super) fn above(path: &Path) -> io::Result<Option<(Self, String)>> {
        let path = std::path::absolute(path)?;
        for root in path.ancestors().skip(1).filter(|root| root.join(MANIFEST).is_file()) {
            let relative = path.strip_prefix(root).expect("`root` is an ancestor of `path`");
            let parts = relative.components().map(|part| part.as_os_str().to_str());
            let parts: Option<Vec<&str>> = parts.collect();
            if let (Some(manifest), Some(parts)) = (Self::read(root)?, parts) {
                return Ok(Some((manifest, parts.join("/"))));
            }
        }
        Ok(None)
    }

    /// Name of the run when the manifest was created.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this program wrote the file `path`, or a file below the folder `path`.
    pub fn lists(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let next = self.paths.range(below.clone()..).next();
        self.paths.contains(path) || next.is_some_and(|next| next.starts_with(&below))
    }

    /// Returns the listed files, sorted. Some may no longer exist.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str).filter(|path| !path.ends_with('/'))
    }

    /// Name of the trash folder that an interrupted `--fresh` was moving the files to.
    pub fn moving_to(&self) -> Option<&str> {
        self.moving_to.as_deref()
    }

    /// Adds `paths` to the manifest. Call it before writing the files.
    pub fn list(&mut self, paths: impl IntoIterator<Item = String>) -> io::Result<()> {
        let new: Vec<String> =
            paths.into_iter().filter(|path| !self.paths.contains(path)).collect();
        self.append(new.iter().cloned().map(Entry::Wrote))?;
        self.paths.extend(new);
        Ok(())
    }

    /// Records that a move of the listed files to the trash folder `name` starts.
    pub fn begin_move(&mut self, name: &str) -> io::Result<()> {
        self.append([Entry::MovingTo(name.to_owned())])?;
        self.moving_to = Some(name.to_owned());
        Ok(())
    }

    fn append(&self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        let text: String = entries.into_iter().map(|entry| line(&entry)).collect();
        if text.is_empty() {
            return Ok(());
        }
        let path = self.root.join(MANIFEST);
        // If the last line is incomplete, start a new one.
        let cut_short = !fs::read(&path)?.ends_with(b"\n");
        let text = if cut_short { format!("\n{text}") } else { text };
        let mut file = File::options().append(true).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("an entry is valid JSON");
    text.push('\n');
    text
}

/// Whether a relative path stays below its folder. An edited manifest must not reach files outside.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::{MANIFEST, Manifest};
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn a_manifest_lists_files_and_survives_an_incomplete_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::create(dir.path(), "tiny").unwrap();
        manifest.list(["a/b.csv".to_owned(), "a/".to_owned()]).unwrap();
        let mut file = File::options().append(true).open(dir.path().join(MANIFEST)).unwrap();
        file.write_all(b"{\"wrote\":\"half").unwrap();
        manifest.list(["c.csv".to_owned()]).unwrap();
        let read = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!(read.files().collect::<Vec<_>>(), ["a/b.csv", "c.csv"]);
        assert!(read.lists("a") && read.lists("a/b.csv") && !read.lists("a/b") && !read.lists("b"));
        let (_, relative) = Manifest::above(&dir.path().join("a/x/y.csv")).unwrap().unwrap();
        assert_eq!(relative, "a/x/y.csv");
    }

    #[test]
    fn an_edited_manifest_never_reaches_files_outside_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"mae_manifest\":1,\"name\":\"t\"}\n{\"wrote\":\"../up\"}\n{\"wrote\":\"/etc/passwd\"}\n\
                    {\"wrote\":\"a/../../b\"}\n{\"wrote\":\"\"}\n{\"moving_to\":\"../x\"}\n";
        super::super::write_unlisted(&dir.path().join(MANIFEST), text.as_bytes()).unwrap();
        let read = Manifest::read(dir.path()).unwrap().unwrap();
        assert_eq!((read.files().count(), read.moving_to()), (0, None));
        super::super::write_unlisted(&dir.path().join(MANIFEST), b"{\"somebody\": \"else\"}\n")
            .unwrap();
        assert!(Manifest::read(dir.path()).unwrap().is_none());
    }
}
