//! Files of features, in the formats that Python and spreadsheets read.
//!
//! The format follows from the ending of the file's name. Each format also has the name and the class of each image: CSV
//! and parquet in the same file, `.npy` and `.safetensors` in a CSV file beside it.

mod arrays;
#[cfg(feature = "parquet")]
mod parquet;
mod table;

use std::io;
use std::path::{Path, PathBuf};

/// The name and class of an image in a feature file.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    pub name: String,
    /// (Label, name) of the class; `None` if the images have no classes.
    pub class: Option<(u32, String)>,
}

/// A file of image features. The caller appends the features in image order.
pub struct FeatureFile {
    writer: Box<dyn Writer>,
}

/// Writes one format of feature files.
trait Writer {
    /// Writes the features of the next images. The images have the order of the rows.
    fn append(&mut self, values: &[f32]) -> io::Result<()>;

    /// Writes the remaining data, and renames the temporary files to their final names.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// The reason why a feature file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FeatureFileError {
    #[error("cannot write {}: {problem}\nhint: {hint}", path.display())]
    Format { path: PathBuf, problem: String, hint: &'static str },
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl FeatureFile {
    /// Creates a feature file at `path` for the images `rows`. `shape` is the shape of one image's features.
    ///
    /// The file has a temporary name until [`FeatureFile::finish`].
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
                    "a CSV file holds one row of features for each image, but --pool tokens has many",
                    "end the name with .npy or .safetensors",
                );
            }
            "csv" => table::csv(path, shape[0], rows),
            #[cfg(feature = "parquet")]
            "parquet" => parquet::parquet(path, shape, rows),
            #[cfg(not(feature = "parquet"))]
            "parquet" => {
                return refuse(
                    "this build has no parquet support",
                    "build mae with `--features parquet`, or end the name with .npy",
                );
            }
            _ => {
                return refuse(
                    "the ending of the name is unknown",
                    "end the name with .safetensors, .npy, .csv or .parquet",
                );
            }
        };
        let failed = |source| FeatureFileError::Io { path: path.to_owned(), source };
        writer.map(|writer| Self { writer }).map_err(failed)
    }

    /// Writes the features of the next images, in image order.
    pub fn append(&mut self, values: &[f32]) -> io::Result<()> {
        self.writer.append(values)
    }

    /// Completes the file, and gives it its final name.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finish()
    }
}
