//! Files that grow without a checksum, such as TensorBoard's events.

use super::append_and;
use super::redirect::{Change, is_redirected, sent};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file to which bytes are appended. The manifest has no checksum for it.
#[derive(Debug)]
pub struct AppendedFile {
    path: PathBuf,
    /// The open file; `None` if another process writes it.
    file: Option<File>,
}

impl AppendedFile {
    /// Opens an existing file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = if is_redirected(path) { None } else { Some(opened(path)?) };
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends all bytes or none, without flushing the file to the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => append_and(file, &self.path, bytes, |_| Ok(())),
            None => elsewhere(sent(&self.path, |path| Change::Append { path }, bytes)),
        }
    }

    /// Flushes the file to the disk.
    pub fn flush(&self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.sync_data(),
            None => elsewhere(sent(&self.path, |path| Change::Flush { path }, &[])),
        }
    }
}

/// Appends bytes to an existing file.
pub(super) fn append_to(path: &Path, bytes: &[u8]) -> io::Result<()> {
    append_and(&mut opened(path)?, path, bytes, |_| Ok(()))
}

fn opened(path: &Path) -> io::Result<File> {
    File::options().append(true).open(path)
}

/// Returns the result of a change that another process makes.
pub(super) fn elsewhere(sent: Option<io::Result<()>>) -> io::Result<()> {
    sent.unwrap_or_else(|| Err(io::Error::other("the process that writes this file is gone")))
}
