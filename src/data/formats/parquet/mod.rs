//! Reads image data sets in the format of the Hugging Face hub: parquet files with images and classes.
//!
//! A file has row groups of usually 100 or 1,000 rows, and a row group can only be read as a whole. `mae data pack`,
//! `mae data check` and evaluation read in order, so they read each row group once. A shuffled epoch reads a whole row
//! group for almost every image. For training, pack such data into shards.

mod columns;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use parquet::schema::types::Type;
use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Reading, Stored};
use crate::data::error::DataError;
use crate::data::panics;
use crate::recipe::DataPlan;

use super::classes::{ClassTable, KnownNames, Naming, ReadClass};
use super::found::{Found, Labels};
use super::passed_over::{self, PassedOver};
use super::shards::Shards;
use super::signature::{self, OtherKind};
use super::split::Split;
use columns::ParquetColumns;

const EXTENSION: &str = "parquet";
/// Maximum number of row groups in memory. Reading in order needs two: the current and the next row group.
const CACHED_GROUPS: usize = 4;
const HINT: &str = "put the parquet files in the folder `data.path`, or in its subfolder `data`. The names of validation \
                    files must contain `val` or `test`";
const FETCH: &str = "download the file again";
const KEY: &str = "set `data.image_key` to the name of the column with the image files, for example `image.bytes`";
const NO_CLASS: &str =
    "add a column with the class of each image: a whole number from 0, or a name";

/// Why a parquet file cannot be read.
#[derive(Debug, thiserror::Error)]
enum ParquetProblem {
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    #[error("the parquet file is damaged: {0}")]
    Damaged(String),
    #[error("the file has no column with images. The columns of the file are {0}")]
    NoImages(String),
    #[error(
        "the file has no binary column named `{keys}`, the value of `data.image_key`. The columns of the file are {columns}"
    )]
    NoKey { keys: String, columns: String },
    #[error("the file is {}, not a parquet file", .0.is)]
    OtherKind(OtherKind),
}

impl ParquetProblem {
    /// Converts the problem to an error about the file `path`.
    fn at(self, path: &Path) -> DataError {
        match self {
            Self::Unreadable(error) => DataError::unreadable(path, error),
            Self::Damaged(_) => DataError::layout(path, self.to_string(), FETCH),
            Self::NoImages(_) | Self::NoKey { .. } => {
                DataError::layout(path, self.to_string(), KEY)
            }
            Self::OtherKind(kind) => DataError::layout(path, self.to_string(), kind.hint),
        }
    }
}

impl From<ParquetError> for ParquetProblem {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Finds the parquet files of the data set that `plan` describes, and reads the classes.
pub(in crate::data) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let reading = Reading::of(plan)?;
    let (shards, no_val) = Shards::find(&plan.path, EXTENSION, HINT)?.checked(labels, HINT);
    if let Some(error) = no_val {
        return Err(error);
    }
    let mut table = ClassTable::default();
    let mut passed_over = shards.passed_over;
    let mut open = |files: Vec<PathBuf>| {
        let split = ParquetSplit::open(files, reading, &plan.image_key, &mut table)?;
        passed_over::merge(&mut passed_over, &split.passed_over);
        Ok::<_, DataError>(split)
    };
    let mut train = open(shards.train)?;
    let mut val = if shards.val.is_empty() { None } else { Some(open(shards.val)?) };
    let names = std::mem::take(&mut train.class_names);
    let known = (!names.is_empty()).then(|| KnownNames {
        file: train.files[0].clone(),
        names,
        by: "names in the parquet file",
    });
    let promised = plan.promised.num_classes;
    let classes = table.number(Naming { known, promised, data: &plan.path, hint: NO_CLASS });
    for split in std::iter::once(&mut train).chain(&mut val) {
        split.labels = split.read.iter().map(|class| classes.label(*class)).collect();
        split.read = Vec::new();
    }
    let hash = hash_of(&train, val.as_ref(), classes.stored_names(), false);
    let former = hash_of(&train, val.as_ref().filter(|_| !shards.val_is_new), &[], true);
    if labels.are_needed(val.is_some() && !classes.none)
        && let Some(problem) = classes.problem
    {
        return Err(problem);
    }
    let val = val.map(|val| Arc::new(val) as Arc<dyn Split>);
    let found = Found::of(Arc::new(train), val, classes.classes, hash);
    Ok(Found { former: Some(former), passed_over, ..found })
}

/// Returns the fingerprint of the data: names, sizes, classes, and the image column if older versions chose another.
///
/// If `former` is true, leaves out classes that older versions of this program did not read.
fn hash_of(
    train: &ParquetSplit,
    val: Option<&ParquetSplit>,
    names: &[String],
    former: bool,
) -> Sha256 {
    let mut hash = Sha256::new();
    let both = || std::iter::once(train).chain(val);
    both().for_each(|split| split.hash_into(&mut hash, former));
    let columns = both().filter_map(|split| split.new_image_column.as_ref());
    for text in names.iter().chain(columns) {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash
}

/// A split whose images are in one or more parquet files.
struct ParquetSplit {
    files: Vec<PathBuf>,
    groups: Vec<RowGroup>,
    /// The class that the files store for each image; empty after `labels` is set.
    read: Vec<ReadClass>,
    labels: Vec<Option<u32>>,
    class_names: Vec<String>,
    /// Name of the image column if older versions of this program chose a different column; otherwise `None`.
    new_image_column: Option<String>,
    /// The entries of `data.image_key`.
    keys: Vec<String>,
    passed_over: PassedOver,
    reading: Reading,
    /// The most recently used row groups, as (index in `groups`, images), the most recent last.
    cache: Mutex<VecDeque<(usize, Arc<CachedGroup>)>>,
}

/// A row group of one of the parquet files.
struct RowGroup {
    file: usize,
    /// Index of the row group in its file.
    index: usize,
    /// Index of the row group's first image in the split.
    first: usize,
    /// Index of the row group's first image in the file.
    row: usize,
    bytes: i64,
    /// Whether the classes are whole numbers. Older versions of this program ignored other classes.
    has_whole_numbers: bool,
}

/// The images of one row group. The first thread that needs the images reads them.
type CachedGroup = OnceLock<Result<Vec<Option<ByteArray>>, ParquetProblem>>;

impl ParquetSplit {
    /// Opens parquet files. Reads the metadata and the classes, but not the images.
    fn open(
        files: Vec<PathBuf>,
        reading: Reading,
        keys: &[String],
        table: &mut ClassTable,
    ) -> Result<Self, DataError> {
        let mut split = Self {
            files: Vec::new(),
            groups: Vec::new(),
            read: Vec::new(),
            labels: Vec::new(),
            class_names: Vec::new(),
            new_image_column: None,
            keys: keys.to_vec(),
            passed_over: PassedOver::new(),
            reading,
            cache: Mutex::default(),
        };
        for (number, path) in files.iter().enumerate() {
            caught(|| split.add(number, path, table)).map_err(|problem| problem.at(path))?;
        }
        if split.read.is_empty() {
            return Err(DataError::layout(&files[0], "the file contains no images", HINT));
        }
        Ok(Self { files, ..split })
    }

    fn add(
        &mut self,
        file: usize,
        path: &Path,
        table: &mut ClassTable,
    ) -> Result<(), ParquetProblem> {
        let reader = open(path)?;
        let metadata = reader.metadata();
        let columns = columns_of(&reader, &self.keys)?;
        if self.class_names.is_empty() {
            self.class_names = class_names(&columns, metadata);
        }
        if columns.is_new_choice {
            self.new_image_column = Some(columns.image.name());
        }
        let before = self.read.len();
        for index in 0..metadata.num_row_groups() {
            let (group, first) = (metadata.row_group(index), self.read.len());
            let (rows, bytes) = (group.num_rows() as usize, group.compressed_size());
            let (row, has_whole_numbers) = (first - before, columns.has_whole_numbers);
            self.groups.push(RowGroup { file, index, first, row, bytes, has_whole_numbers });
            let classes = match columns.label_alone() {
                None => vec![None; rows],
                Some(schema) => {
                    rows_of(&reader, index, schema)?.iter().map(columns::class).collect()
                }
            };
            if classes.len() != rows {
                return Err(ParquetProblem::Damaged(
                    "the class column does not have a value for every row".to_owned(),
                ));
            }
            let rows = (row..).map(name_of_row).zip(classes);
            self.read.extend(rows.map(|(name, class)| table.add(path, &name, class)));
        }
        for other in &columns.others {
            let images = (self.read.len() - before) as u64;
            let what = format!("images in other columns (`{other}`)");
            passed_over::count(&mut self.passed_over, &what, "images in other columns", images);
        }
        Ok(())
    }

    /// Adds the file name and size of each row group, and the class of each image, to `hash`.
    fn hash_into(&self, hash: &mut Sha256, former: bool) {
        for group in &self.groups {
            hash.update(self.files[group.file].file_name().unwrap_or_default().as_encoded_bytes());
            hash.update([0]);
            hash.update(group.bytes.to_le_bytes());
        }
        let has_old_class = self.groups.iter().all(|group| group.has_whole_numbers);
        for label in &self.labels {
            let label = label.filter(|_| has_old_class || !former);
            hash.update(label.unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Returns (index of the row group that contains `image`, index of the image in this row group).
    fn place(&self, image: usize) -> (usize, usize) {
        let group = self.groups.partition_point(|group| group.first <= image) - 1;
        (group, image - self.groups[group].first)
    }

    /// Returns the cache entry of a row group. Adds an empty entry for the caller to fill if there is none.
    fn cached(&self, group: usize) -> Arc<CachedGroup> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cache.iter().position(|(number, _)| *number == group);
        let images = known.and_then(|place| cache.remove(place)).map_or_else(Arc::default, |c| c.1);
        if cache.len() >= CACHED_GROUPS {
            cache.pop_front();
        }
        cache.push_back((group, Arc::clone(&images)));
        images
    }

    fn images_of(&self, group: usize) -> Result<Vec<Option<ByteArray>>, ParquetProblem> {
        let RowGroup { file, index, .. } = self.groups[group];
        caught(|| read_images(&self.files[file], index, &self.keys))
    }
}

impl Split for ParquetSplit {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index].unwrap_or(0)
    }

    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let (group, place) = self.place(index);
        let cached = self.cached(group);
        let images = cached.get_or_init(|| self.images_of(group));
        let images =
            images.as_ref().map_err(|problem| DataError::bad_image(&self.name(index), problem))?;
        let image = images.get(place).and_then(Option::as_ref).ok_or_else(|| {
            DataError::bad_image(
                &self.name(index),
                "the parquet file contains no data for this image",
            )
        })?;
        buffer.clear();
        buffer.extend_from_slice(image.data());
        Ok(Stored::File { bytes: buffer, reading: self.reading })
    }

    fn name(&self, index: usize) -> PathBuf {
        let (group, place) = self.place(index);
        let RowGroup { file, row, .. } = self.groups[group];
        self.files[file].join(name_of_row(row + place))
    }

    fn holds_levels(&self) -> bool {
        self.reading.gives_levels()
    }
}

fn name_of_row(row: usize) -> String {
    format!("row-{row}")
}

/// Returns the class names in the file's Hugging Face metadata; empty if the metadata has no names.
fn class_names(columns: &ParquetColumns, metadata: &ParquetMetaData) -> Vec<String> {
    let names = || {
        let pairs = metadata.file_metadata().key_value_metadata()?;
        let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        let label = &json["info"]["features"][columns.label.as_ref()?.name()];
        serde_json::from_value(label["names"].clone()).ok()
    };
    names().unwrap_or_default()
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, ParquetProblem> {
    let file = File::open(path)?;
    SerializedFileReader::new(file).map_err(|error| {
        let mut start = Vec::new();
        let file = File::open(path);
        let read = file.and_then(|f| f.take(signature::BYTES as u64).read_to_end(&mut start));
        let kind = read.ok().and_then(|_| signature::of_other_kind(&start));
        match kind.filter(|_| !start.starts_with(b"PAR1")) {
            Some(kind) => ParquetProblem::OtherKind(kind),
            None => error.into(),
        }
    })
}

fn columns_of(
    reader: &SerializedFileReader<File>,
    keys: &[String],
) -> Result<ParquetColumns, ParquetProblem> {
    // Reads only the first row of the column.
    let is_image = |schema: &Type| {
        let first = || {
            let group = reader.get_row_group(0).ok()?;
            let row = group.get_row_iter(Some(schema.clone())).ok()?.next()?.ok()?;
            image::guess_format(columns::bytes(row)?.data()).ok()
        };
        first().is_some()
    };
    ParquetColumns::of(reader.metadata().file_metadata().schema(), keys, is_image)
}

fn read_images(
    path: &Path,
    group: usize,
    keys: &[String],
) -> Result<Vec<Option<ByteArray>>, ParquetProblem> {
    let reader = open(path)?;
    let changed = || {
        ParquetProblem::Damaged(
            "the columns of the file have changed since mae opened the data set".to_owned(),
        )
    };
    let schema = columns_of(&reader, keys)?.image_alone().ok_or_else(changed)?;
    Ok(rows_of(&reader, group, schema)?.into_iter().map(columns::bytes).collect())
}

fn rows_of(
    reader: &SerializedFileReader<File>,
    group: usize,
    schema: Type,
) -> Result<Vec<Row>, ParquetProblem> {
    let group = reader.get_row_group(group)?;
    Ok(group.get_row_iter(Some(schema))?.collect::<Result<_, _>>()?)
}

/// Runs `work` and converts a panic to an error. The parquet library panics on some damaged files.
fn caught<T>(work: impl FnOnce() -> Result<T, ParquetProblem>) -> Result<T, ParquetProblem> {
    let panicked = |_| Err(ParquetProblem::Damaged("the parquet reader panicked".to_owned()));
    panics::catch(work).unwrap_or_else(panicked)
}
