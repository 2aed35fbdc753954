//! The checkpoint file on disk. Large parts stay on disk as byte ranges until a tensor is decoded.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Maximum length in bytes of a text in memory. A longer text becomes a [`Range`] of the file.
pub(super) const SHORT_TEXT: u64 = 4096;

const BUFFER: usize = 32 * 1024;

/// A byte range of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) at: u64,
    pub(super) len: u64,
}

pub(super) struct ByteSource {
    file: File,
    pub(super) len: u64,
}

impl ByteSource {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let unreadable = |e: std::io::Error| e.to_string();
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            return Err("this is not a regular file".to_owned());
        }
        let file = File::open(path).map_err(unreadable)?;
        Ok(Self { file, len: meta.len() })
    }

    /// Fills `bytes` from the file, starting at the offset `at`.
    pub(super) fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), String> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(cut_short());
        }
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|e| e.to_string())
    }

    /// Returns a reader of a byte range.
    ///
    /// Do not read the file in another way while the reader exists, because both share the file position.
    pub(super) fn reader(&self, range: Range) -> Result<Reader<'_>, String> {
        let end = range.at.checked_add(range.len).filter(|end| *end <= self.len);
        let end = end.ok_or_else(cut_short)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(range.at)).map_err(|e| e.to_string())?;
        Ok(Reader { buffered: BufReader::with_capacity(BUFFER, file), at: range.at, end })
    }
}

pub(super) struct Reader<'a> {
    buffered: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Reader<'_> {
    /// Returns the file offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.advance(bytes.len() as u64)?;
        self.buffered.read_exact(bytes).map_err(|e| e.to_string())
    }

    /// Skips `len` bytes and returns their byte range.
    pub(super) fn skip(&mut self, len: u64) -> Result<Range, String> {
        let at = self.at;
        self.advance(len)?;
        self.buffered.seek_relative(len as i64).map_err(|e| e.to_string())?;
        Ok(Range { at, len })
    }

    /// Reads the rest of a line, without the line break.
    pub(super) fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let most = SHORT_TEXT.min(self.end - self.at);
        self.buffered
            .by_ref()
            .take(most)
            .read_until(b'\n', &mut line)
            .map_err(|e| e.to_string())?;
        self.at += line.len() as u64;
        if line.pop() != Some(b'\n') {
            return Err(if most < SHORT_TEXT {
                cut_short()
            } else {
                "a class name in the pickle has no line break at its end".into()
            });
        }
        String::from_utf8(line)
            .map_err(|_| "a class name in the pickle is not valid UTF-8".to_owned())
    }

    fn advance(&mut self, len: u64) -> Result<(), String> {
        let at = self.at.checked_add(len).filter(|at| *at <= self.end);
        self.at = at.ok_or_else(cut_short)?;
        Ok(())
    }
}

/// Escapes a name and cuts it to 40 characters, for a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_default).collect()
}

pub(super) fn cut_short() -> String {
    "the file is truncated or corrupt: an offset or a length points beyond the end of the file"
        .to_owned()
}
