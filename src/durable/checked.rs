//! Reads files of this program, verifies their checksums, and appends rows to growing files such as `epochs.csv`.

use super::appended_file::elsewhere;
use super::manifest::Listed;
use super::manifest_lines::Content;
use super::read_manifests::with_manifest;
use super::redirect::{Change, sent};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The result of verifying the checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The file matches the checksum in the manifest.
    Verified,
    /// No manifest has a checksum for the file.
    Unchecked,
}

/// Reads a file. Verifies the checksum if the manifest has one.
///
/// Leaves out an incomplete last row of a file such as `epochs.csv`. If the checksum is wrong, the error has the kind
/// `InvalidData`.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    if let Some(listed) = listed(path)? {
        let valid = valid_length(&bytes, &listed).ok_or_else(|| damaged(&listed, bytes.len()))?;
        bytes.truncate(valid);
    }
    Ok(bytes)
}

/// Reads a text file. Verifies the checksum if the manifest has one, as [`read()`] does.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Verifies the checksum of a file. Does not read a large file, such as a checkpoint, into memory as a whole.
///
/// If the checksum is wrong, the error has the kind `InvalidData`.
pub fn verify(path: &Path) -> io::Result<Verdict> {
    let Some(listed) = listed(path)? else { return Ok(Verdict::Unchecked) };
    if listed.grows {
        return read(path).map(|_| Verdict::Verified);
    }
    let found = Content::of_file(path)?;
    if listed.contents.contains(&found) {
        return Ok(Verdict::Verified);
    }
    Err(damaged(&listed, found.bytes as usize))
}

fn listed(path: &Path) -> io::Result<Option<Listed>> {
    let found = with_manifest(path, |manifest, relative| Ok(manifest.listed(relative).cloned()))?;
    Ok(found.flatten().filter(|listed| !listed.contents.is_empty()))
}

/// Returns how many bytes the checksum covers; `None` if the checksum is wrong.
fn valid_length(bytes: &[u8], listed: &Listed) -> Option<usize> {
    if !listed.grows {
        return listed.contents.contains(&Content::of(bytes)).then_some(bytes.len());
    }
    let newest = listed.contents.last()?;
    let complete = bytes.get(..usize::try_from(newest.bytes).ok()?)?;
    (Content::of(complete) == *newest).then_some(complete.len())
}

fn damaged(listed: &Listed, found: usize) -> io::Error {
    let expected = listed.contents.last().map_or(0, |content| content.bytes);
    let problem = if expected == found as u64 || listed.grows && expected < found as u64 {
        "the checksum of the file differs from the checksum in `mae-manifest.jsonl`".to_owned()
    } else {
        format!("the file has {found} bytes, but mae wrote {expected} bytes")
    };
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A file to which rows are appended, such as `epochs.csv`.
///
/// After each append, the manifest gets the new checksum.
#[derive(Debug)]
pub struct GrowingFile {
    path: PathBuf,
    /// The open file; `None` if another process writes it.
    file: Option<File>,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl GrowingFile {
    /// Creates a file with the content `head`. Replaces an older file of mae.
    pub fn create(path: &Path, head: &[u8]) -> io::Result<Self> {
        super::write(path, head)?;
        Self::open(path, head)
    }

    /// Opens a file and removes everything after `keep`, which is the start of the file.
    pub fn open(path: &Path, keep: &[u8]) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(keep);
        let (path, bytes) = (path.to_owned(), keep.len() as u64);
        if let Some(kept) = sent(&path, |path| Change::Keep { path }, keep) {
            kept?;
            return Ok(Self { path, file: None, bytes, hasher });
        }
        let file = Some(File::options().append(true).open(&path)?);
        let mut growing = Self { path, file, bytes, hasher };
        // Update the manifest first. If the process dies before `set_len`, `read` ignores the rest of the file.
        growing.note()?;
        if let Some(file) = &growing.file {
            file.set_len(growing.bytes)?;
            file.sync_data()?;
        }
        Ok(growing)
    }

    /// Appends rows and flushes the file to the disk. If this fails, [`read()`] returns only the earlier rows.
    pub fn append(&mut self, rows: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return elsewhere(sent(&self.path, |path| Change::Grow { path }, rows));
        };
        with_manifest(&self.path, |manifest, _| manifest.confirm_lock())?;
        super::append_synced(file, &self.path, rows)?;
        self.bytes += rows.len() as u64;
        self.hasher.update(rows);
        self.note()
    }

    fn note(&mut self) -> io::Result<()> {
        let blake3 = self.hasher.finalize().to_hex().to_string();
        let content = Content { bytes: self.bytes, blake3 };
        with_manifest(&self.path, |manifest, relative| manifest.grew(relative, content))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{GrowingFile, Verdict, read, verify};
    use crate::durable::{Manifest, write, write_unlisted};
    use std::fs::{self, File};
    use std::io::Write;

    #[test]
    fn every_flipped_bit_of_a_listed_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/w.bin");
        write(&path, b"unchecked").unwrap();
        assert_eq!(verify(&path).unwrap(), Verdict::Unchecked);
        fs::remove_file(&path).unwrap();
        Manifest::create(dir.path(), "run").unwrap();
        write(&path, b"weights").unwrap();
        assert_eq!(
            (read(&path).unwrap(), verify(&path).unwrap()),
            (b"weights".to_vec(), Verdict::Verified)
        );
        for bit in 0..56 {
            let mut bytes = b"weights".to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            write_unlisted(&path, &bytes).unwrap();
            assert!(read(&path).is_err() && verify(&path).is_err());
        }
        write_unlisted(&path, b"weigh").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("the file has 5 bytes, but mae wrote 7 bytes")
        );
    }

    #[test]
    fn a_growing_file_has_its_complete_rows_and_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        Manifest::create(dir.path(), "run").unwrap();
        let mut file = GrowingFile::create(&path, b"head\n").unwrap();
        file.append(b"1\n").unwrap();
        file.append(b"2\n").unwrap();
        drop(file);
        File::options().append(true).open(&path).unwrap().write_all(b"3 is to").unwrap();
        assert_eq!(read(&path).unwrap(), b"head\n1\n2\n");
        let mut file = GrowingFile::open(&path, b"head\n1\n").unwrap();
        assert_eq!(read(&path).unwrap(), b"head\n1\n");
        file.append(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"head\n1\ntwo\n");
        write_unlisted(&path, b"head\n1\n").unwrap();
        assert!(read(&path).is_err());
        write_unlisted(&path, b"head\n7\ntwo\n").unwrap();
        assert!(verify(&path).is_err());
    }
}
