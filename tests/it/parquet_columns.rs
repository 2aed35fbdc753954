//! Parquet files of other programs: which column holds the images and the classes, and how pages are compressed.

#![expect(clippy::disallowed_methods, reason = "these are files of other programs")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::data::{error_of, plan};
use super::data_sets::jpeg;
use super::program::Bench;
use mae::data::{Labels, open, picture};
use mae::recipe::{DataPlan, Format};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The values of a required column.
enum Values<'a> {
    Bytes(&'a [&'a [u8]]),
    Whole(&'a [i64]),
    Double(&'a [f64]),
}

/// Writes a parquet file. `fields` are the fields of its schema, whose columns have these values.
fn write(path: &Path, fields: &str, columns: &[Values<'_>], compression: Compression) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {fields} }}")).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        match values {
            Values::Bytes(values) => {
                let values: Vec<ByteArray> = values.iter().map(|v| v.to_vec().into()).collect();
                column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Values::Whole(values) => {
                column.typed::<Int64Type>().write_batch(values, None, None).unwrap();
            }
            Values::Double(values) => {
                column.typed::<DoubleType>().write_batch(values, None, None).unwrap();
            }
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// Writes the same file as training and validation file.
fn both(dir: &Path, fields: &str, columns: &[Values<'_>]) {
    for name in ["train-0.parquet", "test-0.parquet"] {
        write(&dir.join(name), fields, columns, Compression::UNCOMPRESSED);
    }
}

/// Returns the widths and the labels of the training images.
fn read(plan: &DataPlan) -> Vec<(usize, u32)> {
    let train = open(plan, Labels::Needed).unwrap().train;
    (0..train.len()).map(|i| (picture(&*train, i).unwrap().width, train.label(i))).collect()
}

#[test]
fn a_binary_column_holds_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let files = plan(Format::Parquet, dir.path());
    let (small, large) = (jpeg(24), jpeg(40));
    let (images, paths): ([&[u8]; 2], [&[u8]; 2]) = ([&small, &large], [b"p/0.jpg", b"p/1.jpg"]);
    let expected = [(24, 1), (40, 0)];
    for image in ["img", "some_name", "image.bytes"] {
        let fields =
            format!("required binary path; required binary {image}; required int64 label;");
        let columns = [Values::Bytes(&paths), Values::Bytes(&images), Values::Whole(&[1, 0])];
        both(dir.path(), &fields, &columns);
        assert_eq!(read(&files), expected, "{image}");
    }
    // A struct, which may be inside another one.
    let fields = "required group a { required group image { required binary bytes; required binary path (UTF8); } }
                  required int64 label;";
    let columns = [Values::Bytes(&images), Values::Bytes(&paths), Values::Whole(&[1, 0])];
    both(dir.path(), fields, &columns);
    assert_eq!(read(&files), expected);
}

#[test]
fn the_column_named_image_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (jpeg(24), jpeg(40));
    let fields = "required group mask { required binary bytes; } required group image { required binary bytes; } required int64 label;";
    both(
        dir.path(),
        fields,
        &[Values::Bytes(&[&small]), Values::Bytes(&[&large]), Values::Whole(&[0])],
    );
    let files = plan(Format::Parquet, dir.path());
    assert_eq!(read(&files), [(40, 0)]);
    let data = open(&files, Labels::Needed).unwrap();
    assert_eq!(data.passed_over["images in other columns (`mask.bytes`)"], 2);
    let mask = DataPlan { image_key: vec!["mask".to_owned()], ..files };
    assert_eq!(read(&mask), [(24, 0)]);
    // The column is part of the fingerprint, unless older versions chose it.
    let mask = open(&mask, Labels::Needed).unwrap();
    assert_ne!(mask.fingerprint, data.fingerprint);
    assert_eq!(mask.former_fingerprint, None);
    let error = error_of(
        &DataPlan { image_key: vec!["depth".to_owned()], ..plan(Format::Parquet, dir.path()) },
        Labels::Needed,
    );
    assert!(
        error.contains("no binary column named `depth`, the value of `data.image_key`"),
        "{error}"
    );
}

#[test]
fn classes_are_numbers_or_text() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let images: [&[u8]; 3] = [&image; 3];
    let files = plan(Format::Parquet, dir.path());
    let labels = |kind: &str, values: Values<'_>| {
        let fields = format!("required binary image; required {kind};");
        both(dir.path(), &fields, &[Values::Bytes(&images), values]);
        let data = open(&files, Labels::Needed).unwrap();
        let labels: Vec<u32> = (0..3).map(|i| data.train.label(i)).collect();
        (labels, data.class_names)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let text: [&[u8]; 3] = [b"owl", b"cat", b"owl"];
    assert_eq!(
        labels("binary label (UTF8)", Values::Bytes(&text)),
        (vec![1, 0, 1], names(&["cat", "owl"]))
    );
    assert_eq!(labels("binary labels", Values::Bytes(&text)).0, [1, 0, 1]);
    assert_eq!(labels("double label", Values::Double(&[1.0, 0.0, 2.0])).0, [1, 0, 2]);
    let digits: [&[u8]; 3] = [b"2", b"0", b"1"];
    assert_eq!(labels("binary label (UTF8)", Values::Bytes(&digits)).0, [2, 0, 1]);
    both(
        dir.path(),
        "required binary image; required int64 label;",
        &[Values::Bytes(&images), Values::Whole(&[0, -1, 2])],
    );
    let error = error_of(&files, Labels::Needed);
    assert!(error.contains("train-0.parquet/row-1: -1 is not a valid class"), "{error}");
    assert_eq!(open(&files, Labels::Unneeded).unwrap().train.len(), 3);
}

#[test]
fn other_columns_and_files_are_called_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let files = plan(Format::Parquet, dir.path());
    let text: [&[u8]; 1] = [b"aGVsbG8="];
    both(
        dir.path(),
        "required binary image (UTF8); required int64 label;",
        &[Values::Bytes(&text), Values::Whole(&[0])],
    );
    let error = error_of(&files, Labels::Needed);
    assert!(
        error.contains(
            "the file has no column with images. The columns of the file are `image` (text), `label` (int64)"
        ),
        "{error}"
    );
    fs::write(dir.path().join("train-0.parquet"), b"\x1f\x8b\x08\x00rest").unwrap();
    let error = error_of(&files, Labels::Needed);
    assert!(error.contains("the file is a gzip file, not a parquet file"), "{error}");
}

#[test]
fn pages_may_be_compressed_in_any_usual_way() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let kinds = [
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::SNAPPY,
        Compression::LZ4_RAW,
    ];
    for compression in kinds {
        for split in ["train", "validation"] {
            let path = dir.path().join(format!("default/{split}/0000.parquet"));
            let columns = [Values::Bytes(&[&image[..]]), Values::Whole(&[0])];
            write(&path, "required binary image; required int64 label;", &columns, compression);
        }
        assert_eq!(read(&plan(Format::Parquet, dir.path())), [(24, 0)], "{compression:?}");
    }
    let text = Bench::new("").done(&["data", "check", dir.path().to_str().unwrap()]);
    assert!(text.contains("train_images = 1\nval_images = 1"), "{text}");
}

#[test]
fn data_that_older_versions_read_keeps_its_fingerprint() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
    let data = open(&plan(Format::Parquet, &files), Labels::Needed).unwrap();
    // Recorded by version 0.1.0 before it read other columns.
    let recorded = "939c363bfe17309aded209e2b073c159c36ab6579b6ac0c40c685aed59e8ec97";
    assert_eq!((data.fingerprint.as_str(), data.former_fingerprint), (recorded, None));
}
