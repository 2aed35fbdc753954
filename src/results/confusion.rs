//! `confusion.csv` of a fine-tuning: how often each class is predicted for the validation images of each class.

use super::error::{Remedy, RunError};
use super::read_checked::read_checked;
use crate::durable;
use crate::text::{cell_text, csv_rows};
use std::path::Path;

const FILE: &str = "confusion.csv";

/// A confusion matrix: `counts[label][predicted]` is a number of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    /// Class names in label order.
    pub names: Vec<String>,
    pub counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Returns whether the job folder `folder` has a confusion matrix.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Writes `confusion.csv` to the job folder `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        let path = folder.join(FILE);
        let header = std::iter::once("class".to_owned()).chain(self.names.iter().cloned());
        let rows = self.names.iter().zip(&self.counts).map(|(name, counts)| {
            let counts = counts.iter().map(ToString::to_string);
            std::iter::once(name.clone()).chain(counts).collect::<Vec<_>>()
        });
        let rows = std::iter::once(header.collect()).chain(rows);
        let bytes = csv_rows(rows, csv::Terminator::CRLF);
        durable::write(&path, &bytes).map_err(RunError::io(&path))
    }

    /// Reads `confusion.csv` from the job folder `folder`; `None` if the file is missing.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunError> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_checked(&path, Remedy::WrittenAnew)?;
        let damaged = |problem: &str| RunError::broken_table(path.clone(), problem.to_owned());
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        let (mut names, mut counts) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| damaged(&e.to_string()))?;
            let row: Option<Vec<usize>> =
                record.iter().skip(1).map(|cell| cell.parse().ok()).collect();
            counts.push(
                row.ok_or_else(|| damaged("a cell does not contain a whole number of images"))?,
            );
            names.push(cell_text(record.get(0).unwrap_or_default()).to_owned());
        }
        if counts.iter().any(|row| row.len() != names.len()) {
            return Err(damaged("the table must have as many rows as columns"));
        }
        Ok(Some(Self { names, counts }))
    }
}

#[cfg(test)]
mod tests {
    use super::Confusion;

    #[test]
    fn a_matrix_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Confusion::read(dir.path()).unwrap(), None);
        let names = ["=cat", "dog, \"wild\""].map(str::to_owned).to_vec();
        let confusion = Confusion { names, counts: vec![vec![3, 1], vec![0, 4]] };
        confusion.write(dir.path()).unwrap();
        assert_eq!(Confusion::read(dir.path()).unwrap(), Some(confusion));
        std::fs::remove_file(dir.path().join("confusion.csv")).unwrap();
        crate::durable::write(&dir.path().join("confusion.csv"), b"class,a\r\na,x\r\n").unwrap();
        assert!(Confusion::read(dir.path()).is_err());
    }
}
