//! Image data sets of Hugging Face's hub: parquet files with a column of image files and one of classes.
//!
//! Images lie in row groups of a hundred or a thousand, which are read as a whole. In order (`data pack`, `data check`,
//! evaluation) that costs nothing; a shuffled epoch reads a whole group for almost every image, so pack such data first.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

use crate::recipe::DataPlan;

use super::dataset::{self, Found, Labels};
use super::decode::Colour;
use super::error::DataError;
use super::shards::Shards;
use super::split::{Split, Stored};

const EXTENSION: &str = "parquet";
/// Names of the column of classes; the first one that is there.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "cls"];
/// Row groups that are held: the one in work and the next, for readers that are not quite in order.
const HELD: usize = 4;
const HINT: &str = "expected the parquet files of an image data set under data.path or in its folder `data`, with `val` or \
                    `test` in the names of those for validation";
const FETCH: &str = "fetch the file again";

/// Finds the parquet files of `plan` and reads their classes.
pub(super) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let colour = dataset::colour(plan)?;
    // The hub has a data set's files in a folder `data` below its page.
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
    Ok(Found { train: Arc::new(train), val, classes, hash, note: None })
}

/// Names of the classes, as the files have them, or numbers; none where the images have no classes.
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
        let problem = format!("this image has no class in a column {}", LABELS.join(", "));
        let hint = "classes are whole numbers from 0";
        return match labels {
            Labels::Needed => Err(DataError::layout(&image, problem, hint)),
            Labels::Unneeded => Ok(Vec::new()),
        };
    }
    let largest = both().flat_map(|split| split.labels.iter().flatten()).max();
    let found = largest.map_or(0, |label| *label as usize + 1);
    let names = train.class_names.clone();
    if names.is_empty() {
        return Ok((0..found).map(|class| class.to_string()).collect());
    }
    if names.len() < found {
        let problem = format!("an image has class {}, and {} are named", found - 1, names.len());
        return Err(DataError::layout(&train.files[0], problem, FETCH));
    }
    Ok(names)
}

/// A split's images, over all its files.
struct ParquetSplit {
    files: Vec<PathBuf>,
    groups: Vec<RowGroup>,
    labels: Vec<Option<u32>>,
    class_names: Vec<String>,
    colour: Colour,
    /// Row groups that were read last, the latest at the end.
    held: Mutex<VecDeque<(usize, Arc<Held>)>>,
}

/// A row group.
struct RowGroup {
    file: usize,
    /// Its place in the file.
    index: usize,
    /// Of its first image, among all of the split and in the file.
    first: usize,
    row: usize,
    bytes: i64,
}

/// The images of a row group, read by whoever comes first; an error says what is wrong.
type Held = OnceLock<Result<Vec<Option<ByteArray>>, String>>;

impl ParquetSplit {
    /// Reads what is in the files, but for the images.
    fn open(files: Vec<PathBuf>, colour: Colour) -> Result<Self, DataError> {
        let (held, class_names) = (Mutex::default(), Vec::new());
        let (groups, labels) = (Vec::new(), Vec::new());
        let mut split = Self { files: Vec::new(), groups, labels, class_names, colour, held };
        for (number, path) in files.iter().enumerate() {
            caught(|| split.add(number, path)).map_err(|problem| damaged(path, &problem))??;
        }
        if split.labels.is_empty() {
            return Err(DataError::layout(&files[0], "no images in it", HINT));
        }
        Ok(Self { files, ..split })
    }

    fn add(&mut self, file: usize, path: &Path) -> Result<(), DataError> {
        let reader = open(path)?;
        let metadata = reader.metadata();
        let columns = ParquetColumns::of(metadata.file_metadata().schema())
            .map_err(|problem| DataError::layout(path, problem, HINT))?;
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
                    let rows = rows_of(&reader, index, schema).map_err(|e| damaged(path, &e))?;
                    self.labels.extend(rows.iter().map(label));
                }
            }
            if self.labels.len() != first + rows {
                return Err(damaged(path, "it has fewer classes than rows"));
            }
        }
        Ok(())
    }

    /// Adds what identifies the images to a hash: how they are grouped, how large the groups are, and classes.
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

    /// The row group of an image, and its place there.
    fn place(&self, image: usize) -> (usize, usize) {
        let group = self.groups.partition_point(|group| group.first <= image) - 1;
        (group, image - self.groups[group].first)
    }

    /// Gives a row group's place among those that are held. It is filled outside the lock, by whoever reads first.
    fn hold(&self, group: usize) -> Arc<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.iter().position(|(number, _)| *number == group);
        let images = known.and_then(|place| held.remove(place)).map_or_else(Arc::default, |h| h.1);
        if held.len() >= HELD {
            held.pop_front();
        }
        held.push_back((group, Arc::clone(&images)));
        images
    }

    fn images_of(&self, group: usize) -> Result<Vec<Option<ByteArray>>, String> {
        let RowGroup { file, index, .. } = self.groups[group];
        caught(|| read_images(&self.files[file], index)).and_then(|images| images)
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
        let held = self.hold(group);
        let bad = |problem: &str| DataError::bad_image(&self.name(index), problem);
        let images = held.get_or_init(|| self.images_of(group));
        let images = images.as_ref().map_err(|problem| bad(problem))?;
        let image = images.get(place).and_then(Option::as_ref);
        let image = image.ok_or_else(|| bad("the image's bytes are not in the file"))?;
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

/// What is looked at of a file's columns.
struct ParquetColumns {
    schema: String,
    /// The image's group, with nothing but its bytes.
    image: TypePtr,
    label: Option<TypePtr>,
}

impl ParquetColumns {
    fn of(schema: &Type) -> Result<Self, String> {
        let fields = schema.get_fields();
        let image = fields.iter().find_map(image_bytes).ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            format!("no column holds images: none of {} has `bytes` in it", names.join(", "))
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

    /// The classes' names, which Hugging Face keeps beside the columns; none where it does not.
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

/// A group of `bytes`, as an image is kept, without what else is in it.
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

fn open(path: &Path) -> Result<SerializedFileReader<File>, DataError> {
    let file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
    SerializedFileReader::new(file).map_err(|e| damaged(path, &e.to_string()))
}

fn read_images(path: &Path, group: usize) -> Result<Vec<Option<ByteArray>>, String> {
    let reader = open(path).map_err(|error| error.problem())?;
    let columns = ParquetColumns::of(reader.metadata().file_metadata().schema())?;
    let schema = columns.image_alone().ok_or("its columns have changed")?;
    Ok(rows_of(&reader, group, schema)?.into_iter().map(bytes).collect())
}

fn rows_of(
    reader: &SerializedFileReader<File>,
    group: usize,
    schema: Type,
) -> Result<Vec<Row>, String> {
    let text = |error: ParquetError| error.to_string();
    let group = reader.get_row_group(group).map_err(text)?;
    group.get_row_iter(Some(schema)).map_err(text)?.collect::<Result<_, _>>().map_err(text)
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

fn damaged(path: &Path, problem: &str) -> DataError {
    DataError::layout(path, format!("no whole parquet file: {problem}"), FETCH)
}

/// Runs `work`; damaged files make the library panic.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "it cannot be read".to_owned())
}
