//! Output files of commands that are too large to hold in memory.

use super::{folder_of, sync_folder, temporary::temporary};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A large output file, written in pieces under a temporary name.
///
/// [`OutputFile::finish`] gives the file its final name. Dropping the value without `finish` removes the file. Pipes
/// and devices are written directly.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    /// (Temporary path, final path); `None` for pipes and devices, and after `finish`.
    paths: Option<(PathBuf, PathBuf)>,
}

impl OutputFile {
    /// Creates the file under a temporary name. Fails if `path` is a folder, or if the folder of `path` is missing.
    ///
    /// If `path` is a link, [`OutputFile::finish`] replaces the target of the link.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                let problem = "the path is a folder, not a file\nhint: pass the path of a file in this folder";
                return Err(io::Error::new(io::ErrorKind::IsADirectory, problem));
            }
            Ok(there) if !there.is_file() => {
                let file = BufWriter::new(File::options().write(true).open(path)?);
                return Ok(Self { file, paths: None });
            }
            Ok(_) => path.canonicalize()?,
            Err(_) => path.to_owned(),
        };
        if !folder_of(&path).is_dir() {
            let problem = "the folder of this file does not exist\nhint: create the folder, or choose another path";
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        let temporary = temporary(&path);
        let file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        Ok(Self { file, paths: Some((temporary, path)) })
    }

    /// Flushes the file to the disk and gives it the final name. Replaces an existing file.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some((temporary, path)) = &self.paths else { return Ok(()) };
        self.file.get_ref().sync_all()?;
        fs::rename(temporary, path)?;
        let (_, path) = self.paths.take().expect("the paths are there");
        sync_folder(folder_of(&path))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.paths {
            // If this fails, a file whose name starts with `.tmp-` remains.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OutputFile;
    use std::io::Write;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.bin");
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"part").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(OutputFile::create(&dir.path().join("no/f.bin")).is_err());
        assert!(OutputFile::create(dir.path()).is_err());
    }
}
