//! The lines of a manifest: a header, then entries.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::Path;

const FORMAT: u32 = 1;
/// Text before the CRC-32 at the end of a line.
const CRC: &str = ",\"crc\":\"";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) mae_manifest: u32,
    pub(super) name: String,
}

impl Header {
    pub(super) fn new(name: &str) -> Self {
        Self { mae_manifest: FORMAT, name: name.to_owned() }
    }

    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("text and numbers always fit JSON") + "\n"
    }

    /// Parses the header; `None` if the file is not a manifest of mae.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, String> {
        const START: &str = "{\"mae_manifest\":";
        match serde_json::from_str::<Self>(line) {
            Ok(header) if header.mae_manifest == FORMAT => Ok(Some(header)),
            Ok(header) => Err(format!(
                "this version of mae does not support manifest format {}",
                header.mae_manifest
            )),
            Err(_) if START.starts_with(line) => Err("the file is truncated".to_owned()),
            Err(error) if line.starts_with(START) => Err(error.to_string()),
            Err(_) => Ok(None),
        }
    }
}

/// The length and the BLAKE3 hash (hexadecimal) of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub bytes: u64,
    pub blake3: String,
}

impl Content {
    /// Returns the length and the hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }

    /// Returns the length and the hash of the file `path`.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        let bytes = hasher.count();
        Ok(Self { bytes, blake3: hasher.finalize().to_hex().to_string() })
    }
}

/// A line of the manifest after the header. Paths are relative to the manifest's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A file with this content. mae adds this line before it writes the file.
    Wrote { path: String, bytes: u64, blake3: String },
    /// A file to which rows are appended. `blake3` covers the first `bytes` bytes.
    Grew { path: String, bytes: u64, blake3: String },
    /// A file without a checksum.
    Unchecked { path: String },
    /// mae removed the file.
    Removed { path: String },
    /// A folder. mae adds this line before it creates the folder.
    Folder { path: String },
    /// `--fresh` is moving all files to this folder in the trash.
    MovingTo { folder: String },
}

impl Entry {
    pub(super) fn of(path: String, Content { bytes, blake3 }: Content, grows: bool) -> Self {
        if grows { Self::Grew { path, bytes, blake3 } } else { Self::Wrote { path, bytes, blake3 } }
    }

    /// Returns the entry as one line of JSON with a CRC-32.
    pub(super) fn line(&self) -> String {
        let mut text = serde_json::to_string(self).expect("text and numbers always fit JSON");
        let crc = crc32fast::hash(text.as_bytes());
        text.pop();
        format!("{text}{CRC}{crc:08x}\"}}\n")
    }

    /// Parses a line. Lines of older versions have no CRC-32.
    pub(super) fn parse(line: &str) -> serde_json::Result<Self> {
        let line = line.trim_end();
        let checked = line.strip_suffix("\"}").and_then(|line| line.rsplit_once(CRC));
        let Some((entry, crc)) = checked else { return serde_json::from_str(line) };
        let entry = format!("{entry}}}");
        if crc != format!("{:08x}", crc32fast::hash(entry.as_bytes())) {
            return Err(serde::de::Error::custom("the checksum of this line is wrong"));
        }
        serde_json::from_str(&entry)
    }
}
