//! Reads image data sets in the format of the Hugging Face hub: parquet files with images and classes.
//!
//! A file has row groups of usually 100 or 1,000 rows, and a row group can only be read as a whole. `mae data pack`,
//! `mae data check` and evaluation read in order, so they read each row group once. A shuffled epoch reads a whole row
//! group for almost every image. For training, pack such data into shards.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::basic::Type as Physical;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Colour, Stored};
use crate::data::error::DataError;
use crate::data::panics;
use crate::recipe::DataPlan;
use crate::shape::MAX_CLASSES;

use super::found::{Found, Integrity, Labels};
use super::shards::Shards;
use super::split::Split;

const EXTENSION: &str = "parquet";
/// Possible names of the column with the classes. If a file has several, the first name in this list is used.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "cls"];
/// Maximum number of row groups in memory. Sequential reading needs two row groups.
const CACHED_GROUPS: usize = 4;
const HINT: &str = "put the parquet files of an image data set in `data.path` or in `data/` under `data.path`. The \
                    names of validation files must contain `val` or `test`";
const FETCH: &str = "download the file again";

#[derive(Debug, thiserror::Error)]
enum ParquetProblem {
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    #[error("the parquet file is damaged: {0}")]
    Damaged(String),
    #[error("no column contains images: none of the columns {0} has a `bytes` field")]
    NoImages(String),
}

impl ParquetProblem {
    /// Adds the path of the file to the problem.
    fn at(self, path: &Path) -> DataError {
        match self {
            Self::Unreadable(error) => DataError::unreadable(path, error),
            Self::Damaged(_) => DataError::layout(path, self.to_string(), FETCH),
            Self::NoImages(_) => DataError::layout(path, self.to_string(), HINT),
        }
    }
}

impl From<ParquetError> for ParquetProblem {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Finds the parquet files of the data set, and reads the classes.
pub(in crate::data) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let colour = Colour::of_channels(plan.in_chans)?;
    // On the hub, the files of a data set are in the folder `data`.
    let inside = plan.path.join("data");
    let shards = match Shards::find(&plan.path, EXTENSION, labels, HINT) {
        Err(_) if inside.is_dir() => Shards::find(&inside, EXTENSION, labels, HINT)?,
        found => found?,
    };
    let train = ParquetSplit::open(shards.train, colour)?;
    let val =
        if shards.val.is_empty() { None } else { Some(ParquetSplit::open(shards.val, colour)?) };
    let mut hash = Sha256::new();
    std::iter::once(&train).chain(&val).for_each(|split| split.hash_into(&mut hash));
    let classes = classes(&train, val.as_ref(), labels)?;
    let val = val.map(|val| Arc::new(val) as Arc<dyn Split>);
    Ok(Found {
        train: Arc::new(train),
        val,
        classes,
        hash,
        note: None,
        integrity: Integrity::default(),
    })
}

/// Returns the class names, or class numbers if the files have no names.
fn classes(
    train: &ParquetSplit,
    val: Option<&ParquetSplit>,
    labels: Labels,
) -> Result<Vec<String>, DataError> {
    let both = || std::iter::once(train).chain(val);
    let unlabelled = both().find_map(|split| {
        let place = split.labels.iter().position(Option::is_none)?;
        Some(split.name(place))
    });
    if let Some(image) = unlabelled {
        let problem = format!("the image has no class in any of the columns {}", LABELS.join(", "));
        let hint = "add a column with the class of each image as a whole number from 0";
        return match labels {
            Labels::Needed => Err(DataError::layout(&image, problem, hint)),
            Labels::Unneeded => Ok(Vec::new()),
        };
    }
    let largest = both().flat_map(|split| split.labels.iter().flatten()).max();
    let found = largest.map_or(0, |label| *label as usize + 1);
    if found > MAX_CLASSES {
        let problem = format!(
            "an image has class {}, but the largest supported class is {}",
            found - 1,
            MAX_CLASSES - 1
        );
        let hint = "number the classes from 0 without gaps";
        return Err(DataError::layout(&train.files[0], problem, hint));
    }
    let names = train.class_names.clone();
    if names.is_empty() {
        return Ok((0..found).map(|class| class.to_string()).collect());
    }
    if names.len() < found {
        let problem = format!(
            "an image has class {}, but the files have only {} class names",
            found - 1,
            names.len()
        );
        return Err(DataError::layout(&train.files[0], problem, FETCH));
    }
    Ok(names)
}

/// A split: the images of one or more parquet files.
struct ParquetSplit {
    files: Vec<PathBuf>,
    groups: Vec<RowGroup>,
    labels: Vec<Option<u32>>,
    class_names: Vec<String>,
    colour: Colour,
    /// Cached row groups as (index in `groups`, images). The most recently used entry is the last.
    cache: Mutex<VecDeque<(usize, Arc<CachedGroup>)>>,
}

struct RowGroup {
    file: usize,
    index: usize,
    /// Index of this row group's first image in the split.
    first: usize,
    /// Index of this row group's first image in the file.
    row: usize,
    bytes: i64,
}

/// The encoded images of one row group. The first thread that needs the images reads them.
type CachedGroup = OnceLock<Result<Vec<Option<ByteArray>>, ParquetProblem>>;

impl ParquetSplit {
    /// Opens parquet files. Reads metadata and classes, but no images.
    fn open(files: Vec<PathBuf>, colour: Colour) -> Result<Self, DataError> {
        let (cache, class_names) = (Mutex::default(), Vec::new());
        let (groups, labels) = (Vec::new(), Vec::new());
        let mut split = Self { files: Vec::new(), groups, labels, class_names, colour, cache };
        for (number, path) in files.iter().enumerate() {
            caught(|| split.add(number, path)).map_err(|problem| problem.at(path))?;
        }
        if split.labels.is_empty() {
            return Err(DataError::layout(&files[0], "the file contains no images", HINT));
        }
        Ok(Self { files, ..split })
    }

    fn add(&mut self, file: usize, path: &Path) -> Result<(), ParquetProblem> {
        let reader = open(path)?;
        let metadata = reader.metadata();
        let columns = ParquetColumns::of(metadata.file_metadata().schema())?;
        if self.class_names.is_empty() {
            self.class_names = columns.class_names(metadata);
        }
        let before = self.labels.len();
        for index in 0..metadata.num_row_groups() {
            let (group, first) = (metadata.row_group(index), self.labels.len());
            let (rows, bytes) = (group.num_rows() as usize, group.compressed_size());
            self.groups.push(RowGroup { file, index, first, row: first - before, bytes });
            match columns.label_alone() {
                None => self.labels.extend(std::iter::repeat_n(None, rows)),
                Some(schema) => {
                    let rows = rows_of(&reader, index, schema)?;
                    self.labels.extend(rows.iter().map(label));
                }
            }
            if self.labels.len() != first + rows {
                return Err(ParquetProblem::Damaged(
                    "the class column has fewer values than the file has rows".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Adds file names, row group sizes and classes to `hash`.
    fn hash_into(&self, hash: &mut Sha256) {
        for group in &self.groups {
            hash.update(self.files[group.file].file_name().unwrap_or_default().as_encoded_bytes());
            hash.update([0]);
            hash.update(group.bytes.to_le_bytes());
        }
        for label in &self.labels {
            hash.update(label.unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Returns the index of the row group, and the image's position in the row group.
    fn place(&self, image: usize) -> (usize, usize) {
        let group = self.groups.partition_point(|group| group.first <= image) - 1;
        (group, image - self.groups[group].first)
    }

    /// Returns the cache entry of a row group. A new entry is empty.
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
        caught(|| read_images(&self.files[file], index))
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
                "the bytes of the image are missing in the file",
            )
        })?;
        buffer.clear();
        buffer.extend_from_slice(image.data());
        Ok(Stored::File { bytes: buffer, colour: self.colour })
    }

    fn name(&self, index: usize) -> PathBuf {
        let (group, place) = self.place(index);
        let RowGroup { file, row, .. } = self.groups[group];
        self.files[file].join(format!("row-{}", row + place))
    }
}

struct ParquetColumns {
    schema: String,
    /// The image column. Only the field `bytes` of this column is read.
    image: TypePtr,
    label: Option<TypePtr>,
}

impl ParquetColumns {
    fn of(schema: &Type) -> Result<Self, ParquetProblem> {
        let fields = schema.get_fields();
        let image = fields.iter().find_map(image_bytes).ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            ParquetProblem::NoImages(names.join(", "))
        })?;
        let is_label = |field: &&TypePtr| {
            field.is_primitive()
                && matches!(field.get_physical_type(), Physical::INT32 | Physical::INT64)
        };
        let named = |name: &&str| fields.iter().filter(is_label).find(|f| f.name() == *name);
        let label = LABELS.iter().find_map(named).cloned();
        Ok(Self { schema: schema.name().to_owned(), image, label })
    }

    fn label_alone(&self) -> Option<Type> {
        self.only(self.label.clone()?)
    }

    fn image_alone(&self) -> Option<Type> {
        self.only(Arc::clone(&self.image))
    }

    fn only(&self, field: TypePtr) -> Option<Type> {
        Type::group_type_builder(&self.schema).with_fields(vec![field]).build().ok()
    }

    /// Returns the class names in the Hugging Face metadata of the file; empty if missing.
    fn class_names(&self, metadata: &ParquetMetaData) -> Vec<String> {
        let names = || {
            let pairs = metadata.file_metadata().key_value_metadata()?;
            let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
            let json: serde_json::Value = serde_json::from_str(text).ok()?;
            let label = &json["info"]["features"][self.label.as_ref()?.name()];
            serde_json::from_value(label["names"].clone()).ok()
        };
        names().unwrap_or_default()
    }
}

/// Selects the field `bytes` of an image column. Returns `None` for other columns.
fn image_bytes(field: &TypePtr) -> Option<TypePtr> {
    if !field.is_group() {
        return None;
    }
    let is_bytes = |part: &&TypePtr| {
        let primitive = part.is_primitive() && part.name() == "bytes";
        primitive && part.get_physical_type() == Physical::BYTE_ARRAY
    };
    let bytes = field.get_fields().iter().find(is_bytes)?;
    let group = Type::group_type_builder(field.name())
        .with_repetition(field.get_basic_info().repetition())
        .with_fields(vec![Arc::clone(bytes)]);
    Some(Arc::new(group.build().ok()?))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, ParquetProblem> {
    Ok(SerializedFileReader::new(File::open(path)?)?)
}

fn read_images(path: &Path, group: usize) -> Result<Vec<Option<ByteArray>>, ParquetProblem> {
    let reader = open(path)?;
    let columns = ParquetColumns::of(reader.metadata().file_metadata().schema())?;
    let changed = || {
        ParquetProblem::Damaged("the columns have changed since mae opened the data set".to_owned())
    };
    let schema = columns.image_alone().ok_or_else(changed)?;
    Ok(rows_of(&reader, group, schema)?.into_iter().map(bytes).collect())
}

fn rows_of(
    reader: &SerializedFileReader<File>,
    group: usize,
    schema: Type,
) -> Result<Vec<Row>, ParquetProblem> {
    let group = reader.get_row_group(group)?;
    Ok(group.get_row_iter(Some(schema))?.collect::<Result<_, _>>()?)
}

fn label(row: &Row) -> Option<u32> {
    let (_, field) = row.get_column_iter().next()?;
    match field {
        Field::Byte(label) => (*label).try_into().ok(),
        Field::Short(label) => (*label).try_into().ok(),
        Field::Int(label) => (*label).try_into().ok(),
        Field::Long(label) => (*label).try_into().ok(),
        Field::UByte(label) => Some((*label).into()),
        Field::UShort(label) => Some((*label).into()),
        Field::UInt(label) => Some(*label),
        Field::ULong(label) => (*label).try_into().ok(),
        _ => None,
    }
}

fn bytes(row: Row) -> Option<ByteArray> {
    let (_, image) = row.into_columns().into_iter().next()?;
    let Field::Group(image) = image else { return None };
    match image.into_columns().into_iter().next()?.1 {
        Field::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Runs `work` and returns a panic as an error, because the parquet library may panic.
fn caught<T>(work: impl FnOnce() -> Result<T, ParquetProblem>) -> Result<T, ParquetProblem> {
    let panicked = |_| Err(ParquetProblem::Damaged("the parquet reader panicked".to_owned()));
    panics::catch(work).unwrap_or_else(panicked)
}
