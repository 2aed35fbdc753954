//! Files of features, in the formats that Python and spreadsheets read.
//!
//! The ending of the file name selects the format. CSV and parquet files also contain the name and the class of each
//! image. For `.npy` and `.safetensors`, a separate CSV file contains the names and classes.

mod arrays;
#[cfg(feature = "parquet")]
mod parquet;
mod table;

use std::io;
use std::path::{Path, PathBuf};

/// The name and the class of an image, for a feature file.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    pub name: String,
    /// Class as (label, class name); `None` for images without classes.
    pub class: Option<(u32, String)>,
}

/// A file of image features that is being written.
pub struct FeatureFile {
    writer: Box<dyn Writer>,
}

/// Writes feature files in one format.
trait Writer {
    /// Writes the features of the next images, in the order of the rows.
    fn append(&mut self, values: &[f32]) -> io::Result<()>;

    /// Writes the remaining data and gives the files their final names.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// The error for a feature file that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FeatureFileError {
    #[error("cannot write {}: {problem}\nhint: {hint}", path.display())]
    Format { path: PathBuf, problem: String, hint: &'static str },
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl FeatureFile {
    /// Creates the feature file `path`. Its ending selects the format, such as `.npy`.
    ///
    /// `shape` is the shape of the features of one image. `rows` are all images, in order. The file has a temporary
    /// name until [`FeatureFile::finish`].
    pub fn create(
        path: &Path,
        shape: &[usize],
        rows: Vec<FeatureRow>,
    ) -> Result<Self, FeatureFileError> {
        let refuse = |problem: &str, hint| {
            let (path, problem) = (path.to_owned(), problem.to_owned());
            Err(FeatureFileError::Format { path, problem, hint })
        };
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let writer: io::Result<Box<dyn Writer>> = match ending.to_ascii_lowercase().as_str() {
            "npy" => arrays::npy(path, shape, &rows),
            "safetensors" => arrays::safetensors(path, shape, &rows),
            "csv" if shape.len() > 1 => {
                return refuse(
                    "a CSV file has one row for each image, but `--pool tokens` gives several rows for each image",
                    "end the file name with .npy or .safetensors",
                );
            }
            "csv" => table::csv(path, shape[0], rows),
            #[cfg(feature = "parquet")]
            "parquet" => parquet::parquet(path, shape, rows),
            #[cfg(not(feature = "parquet"))]
            "parquet" => {
                return refuse(
                    "this build has no parquet support",
                    "build mae with `--features parquet`, or end the file name with .npy",
                );
            }
            _ => {
                return refuse(
                    "the file name has an unknown ending",
                    "end the file name with .safetensors, .npy, .csv or .parquet",
                );
            }
        };
        let failed = |source| FeatureFileError::Io { path: path.to_owned(), source };
        writer.map(|writer| Self { writer }).map_err(failed)
    }

    /// Writes the features of the next images, in the order of the rows.
    pub fn append(&mut self, values: &[f32]) -> io::Result<()> {
        self.writer.append(values)
    }

    /// Writes the remaining data and gives the file its final name.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finish()
    }
}
