//! The format parquet: one row for each image, with the features as a list of floats.

use super::{FeatureRow, Writer};
use crate::durable::OutputFile;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Number of feature values in a parquet row group.
const GROUP_VALUES: usize = 1 << 20;

struct Parquet {
    writer: SerializedFileWriter<OutputFile>,
    /// Number of feature values per image.
    width: usize,
    /// Images that are not written yet.
    rows: std::vec::IntoIter<FeatureRow>,
    /// Features that are not written yet.
    values: Vec<f32>,
}

/// Creates a parquet file with the columns `image`, `label`, `class` and `features`.
///
/// `label` and `class` are missing if there are no classes. The metadata entry `shape` is the shape of the features of
/// one image.
pub(super) fn parquet(
    path: &Path,
    shape: &[usize],
    rows: Vec<FeatureRow>,
) -> io::Result<Box<dyn Writer>> {
    let file = OutputFile::create(path)?;
    let class = match rows.first() {
        Some(FeatureRow { class: Some(_), .. }) => {
            "required int64 label; required binary class (UTF8);"
        }
        _ => "",
    };
    let schema = format!(
        "message features {{ required binary image (UTF8); {class} required group features (LIST) \
         {{ repeated group list {{ required float element; }} }} }}"
    );
    let schema = parse_message_type(&schema).expect("the schema is valid");
    let shape_text = format!("{shape:?}");
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![KeyValue::new("shape".to_owned(), shape_text)]))
        .build();
    let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
    Ok(Box::new(Parquet {
        writer: writer.map_err(failed)?,
        width: shape.iter().product(),
        rows: rows.into_iter(),
        values: Vec::new(),
    }))
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

impl Parquet {
    /// Writes all waiting features as one row group.
    fn write_group(&mut self) -> Result<(), ParquetError> {
        let count = self.values.len() / self.width;
        let rows: Vec<FeatureRow> = self.rows.by_ref().take(count).collect();
        let texts = |text: fn(&FeatureRow) -> &str| -> Vec<ByteArray> {
            rows.iter().map(|row| ByteArray::from(text(row))).collect()
        };
        let mut group = self.writer.next_row_group()?;
        let mut column = group.next_column()?.expect("the column image");
        column.typed::<ByteArrayType>().write_batch(&texts(|row| &row.name), None, None)?;
        column.close()?;
        let labels: Option<Vec<i64>> =
            rows.iter().map(|row| row.class.as_ref().map(|(label, _)| i64::from(*label))).collect();
        if let Some(labels) = labels {
            let mut column = group.next_column()?.expect("the column label");
            column.typed::<Int64Type>().write_batch(&labels, None, None)?;
            column.close()?;
            let class = |row: &FeatureRow| ByteArray::from(row.class.as_ref().map_or("", |c| &c.1));
            let classes: Vec<ByteArray> = rows.iter().map(class).collect();
            let mut column = group.next_column()?.expect("the column class");
            column.typed::<ByteArrayType>().write_batch(&classes, None, None)?;
            column.close()?;
        }
        // A list starts where the repetition level is 0.
        let repeats = |index: usize| i16::from(!index.is_multiple_of(self.width));
        let repetition: Vec<i16> = (0..self.values.len()).map(repeats).collect();
        let definition = vec![1; self.values.len()];
        let mut column = group.next_column()?.expect("the column features");
        let typed = column.typed::<FloatType>();
        typed.write_batch(&self.values, Some(&definition), Some(&repetition))?;
        column.close()?;
        group.close()?;
        self.values.clear();
        Ok(())
    }
}

impl Writer for Parquet {
    fn append(&mut self, values: &[f32]) -> io::Result<()> {
        self.values.extend_from_slice(values);
        if self.values.len() >= GROUP_VALUES { self.write_group().map_err(failed) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if !self.values.is_empty() {
            self.write_group().map_err(failed)?;
        }
        self.writer.into_inner().map_err(failed)?.finish()
    }
}
