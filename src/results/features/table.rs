//! The format CSV: one row for each image.

use super::{FeatureRow, Writer};
use crate::durable::OutputFile;
use crate::text::csv_rows;
use std::io::{self, Write};
use std::path::Path;

struct Csv {
    file: OutputFile,
    width: usize,
    /// Images whose features are not written yet.
    rows: std::vec::IntoIter<FeatureRow>,
}

/// Creates a CSV file with the columns `image`, `label`, `class`, `f0`, `f1` and so on.
///
/// `width` is the number of features per image. `label` and `class` are missing if there are no classes.
pub(super) fn csv(path: &Path, width: usize, rows: Vec<FeatureRow>) -> io::Result<Box<dyn Writer>> {
    let mut file = OutputFile::create(path)?;
    let features = (0..width).map(|index| format!("f{index}"));
    let header: Vec<String> =
        header(&rows).into_iter().map(str::to_owned).chain(features).collect();
    file.write_all(&csv_rows([header], csv::Terminator::CRLF))?;
    Ok(Box::new(Csv { file, width, rows: rows.into_iter() }))
}

/// Returns a CSV table with the columns `image`, `label` and `class`.
pub(super) fn names(rows: &[FeatureRow]) -> Vec<u8> {
    let header = header(rows).into_iter().map(str::to_owned).collect();
    csv_rows(std::iter::once(header).chain(rows.iter().map(cells)), csv::Terminator::CRLF)
}

fn header(rows: &[FeatureRow]) -> Vec<&'static str> {
    match rows.first() {
        Some(FeatureRow { class: Some(_), .. }) => vec!["image", "label", "class"],
        _ => vec!["image"],
    }
}

fn cells(row: &FeatureRow) -> Vec<String> {
    let mut cells = vec![row.name.clone()];
    if let Some((label, class)) = &row.class {
        cells.extend([label.to_string(), class.clone()]);
    }
    cells
}

impl Writer for Csv {
    fn append(&mut self, values: &[f32]) -> io::Result<()> {
        let features = values.chunks(self.width);
        let rows = features.zip(&mut self.rows).map(|(features, row)| {
            let mut cells = cells(&row);
            cells.extend(features.iter().map(ToString::to_string));
            cells
        });
        let text = csv_rows(rows, csv::Terminator::CRLF);
        self.file.write_all(&text)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.file.finish()
    }
}
