//! Chooses the columns of a parquet file that hold the images and the classes.

use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use crate::data::formats::label;
use crate::data::formats::listing_cache::ListedClass;

use super::ParquetProblem;

/// Possible names of the class column, in order of preference. A column of whole numbers has priority.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "cls"];
/// Usual names of the image column, in order of preference.
const IMAGES: [&str; 12] = [
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "picture",
    "photo",
    "bytes",
    "image_bytes",
    "img_bytes",
    "content",
];

/// A column of a parquet file. The column may be nested, like `image.bytes`.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Names of the nested fields, from the outermost to the innermost, such as `image` and `bytes`.
    path: Vec<String>,
    /// The schema of the outermost field, without its other columns.
    field: TypePtr,
}

impl Column {
    /// Returns the column's dotted name, such as `image.bytes`.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    fn root(&self) -> &str {
        &self.path[0]
    }

    /// Returns whether this column is a nested field `bytes`, as in data sets from the Hugging Face Hub.
    fn is_of_hub(&self) -> bool {
        self.path.len() == 2 && self.path[1] == "bytes"
    }

    /// Returns whether `key`, an entry of `data.image_key`, names this column.
    fn has_key(&self, key: &str) -> bool {
        key == self.name().to_lowercase() || key == self.root().to_lowercase()
    }

    /// Returns the index of the column's name in [`IMAGES`], or the length of [`IMAGES`] for an unknown name.
    fn place(&self) -> usize {
        let root = self.root().to_lowercase();
        let root = root.strip_suffix(".bytes").unwrap_or(&root);
        IMAGES.iter().position(|name| *name == root).unwrap_or(IMAGES.len())
    }
}

/// The image column and the class column of a parquet file.
pub(super) struct ParquetColumns {
    schema: String,
    pub(super) image: Column,
    pub(super) label: Option<Column>,
    /// Whether the classes are whole numbers. Older versions of this program ignored other classes.
    pub(super) has_whole_numbers: bool,
    /// Whether older versions of this program chose a different image column, or none.
    pub(super) is_new_choice: bool,
    /// Names of the other columns that contain images.
    pub(super) others: Vec<String>,
}

impl ParquetColumns {
    /// Chooses the image column and the class column of a schema. `keys` are the entries of `data.image_key`.
    ///
    /// `is_image` returns whether the first value of a column is an image file.
    pub(super) fn of(
        schema: &Type,
        keys: &[String],
        is_image: impl Fn(&Type) -> bool,
    ) -> Result<Self, ParquetProblem> {
        let fields = schema.get_fields();
        let label = label_column(fields);
        let mut all = Vec::new();
        for field in fields {
            binary(field, &mut Vec::new(), &mut all);
        }
        all.retain(|column| LABELS.iter().all(|label| column.name() != *label));
        let former = all.iter().find(|column| column.is_of_hub()).map(Column::name);
        let read =
            |column: &Column| only(schema.name(), column).is_some_and(|only| is_image(&only));
        let mut images: Vec<Column> = if keys.is_empty() {
            let is_known = |column: &Column| column.is_of_hub() || column.place() < IMAGES.len();
            all.into_iter().filter(|column| is_known(column) || read(column)).collect()
        } else {
            all.into_iter().filter(|column| keys.iter().any(|key| column.has_key(key))).collect()
        };
        let place = |column: &Column| match keys {
            [] => (!column.is_of_hub(), column.place()),
            keys => (false, keys.iter().position(|key| column.has_key(key)).unwrap_or_default()),
        };
        images.sort_by_key(place);
        let mut images = images.into_iter();
        let image = images.next().ok_or_else(|| {
            let columns = fields.iter().map(described).collect::<Vec<_>>().join(", ");
            if keys.is_empty() {
                ParquetProblem::NoImages(columns)
            } else {
                ParquetProblem::NoKey { keys: keys.join(";"), columns }
            }
        })?;
        Ok(Self {
            schema: schema.name().to_owned(),
            is_new_choice: former != Some(image.name()),
            image,
            has_whole_numbers: label.as_ref().is_none_or(|label| is_whole(&label.field)),
            label,
            others: images.map(|column| column.name()).collect(),
        })
    }

    pub(super) fn label_alone(&self) -> Option<Type> {
        only(&self.schema, self.label.as_ref()?)
    }

    pub(super) fn image_alone(&self) -> Option<Type> {
        only(&self.schema, &self.image)
    }
}

/// Returns the file's schema, reduced to `column`.
fn only(schema: &str, column: &Column) -> Option<Type> {
    Type::group_type_builder(schema).with_fields(vec![Arc::clone(&column.field)]).build().ok()
}

/// Adds all binary columns inside `field` to `found`, except lists. `path` has the names of the outer fields.
fn binary(field: &TypePtr, path: &mut Vec<String>, found: &mut Vec<Column>) {
    path.push(field.name().to_owned());
    let is_list = field.get_basic_info().has_repetition()
        && field.get_basic_info().repetition() == Repetition::REPEATED;
    if field.is_primitive() {
        let is_text = field.get_basic_info().converted_type() != ConvertedType::NONE;
        if field.get_physical_type() == Physical::BYTE_ARRAY && !is_text && !is_list {
            found.push(Column { path: path.clone(), field: Arc::clone(field) });
        }
    } else if field.get_basic_info().converted_type() == ConvertedType::NONE && !is_list {
        let mut inside = Vec::new();
        for part in field.get_fields() {
            binary(part, path, &mut inside);
        }
        found.extend(inside.into_iter().filter_map(|column| {
            let group = Type::group_type_builder(field.name())
                .with_repetition(field.get_basic_info().repetition())
                .with_fields(vec![column.field]);
            Some(Column { field: Arc::new(group.build().ok()?), ..column })
        }));
    }
    path.pop();
}

/// Returns the class column. Columns of whole numbers have priority over columns of text or other numbers.
fn label_column(fields: &[TypePtr]) -> Option<Column> {
    let named =
        |name: &&str| fields.iter().find(|field| field.is_primitive() && field.name() == *name);
    let columns = || LABELS.iter().filter_map(named);
    let field = columns().find(|field| is_whole(field)).or_else(|| columns().next())?;
    Some(Column { path: vec![field.name().to_owned()], field: Arc::clone(field) })
}

fn is_whole(field: &Type) -> bool {
    matches!(field.get_physical_type(), Physical::INT32 | Physical::INT64)
}

/// Describes a column for a message, for example `img (list)`.
fn described(field: &TypePtr) -> String {
    let kind = match field.get_basic_info().converted_type() {
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => "text".to_owned(),
        ConvertedType::LIST => "list".to_owned(),
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => "map".to_owned(),
        _ if field.is_group() => "struct".to_owned(),
        _ if field.get_physical_type() == Physical::BYTE_ARRAY => "binary".to_owned(),
        _ => field.get_physical_type().to_string().to_lowercase(),
    };
    format!("`{}` ({kind})", field.name())
}

/// Returns the class in `row`. The class column is the only column of `row`.
pub(super) fn class(row: &Row) -> Option<ListedClass> {
    let (_, field) = row.get_column_iter().next()?;
    let whole = |value: i128| label::of_number(value as f64, value);
    Some(match field {
        Field::Null => return None,
        Field::Bool(value) => ListedClass::Number((*value).into()),
        Field::Byte(value) => whole((*value).into()),
        Field::Short(value) => whole((*value).into()),
        Field::Int(value) => whole((*value).into()),
        Field::Long(value) => whole((*value).into()),
        Field::UByte(value) => whole((*value).into()),
        Field::UShort(value) => whole((*value).into()),
        Field::UInt(value) => whole((*value).into()),
        Field::ULong(value) => whole((*value).into()),
        Field::Float(value) if value.is_nan() => return None,
        Field::Double(value) if value.is_nan() => return None,
        Field::Float(value) => label::of_number((*value).into(), value),
        Field::Double(value) => label::of_number(*value, value),
        Field::Str(text) => label::of_text(text),
        Field::Bytes(bytes) => label::of_bytes(bytes.data()),
        _ => label::invalid("the class column must contain numbers or text"),
    })
}

/// Returns the binary value in `row`. The only column of `row` is binary, and may be nested.
pub(super) fn bytes(row: Row) -> Option<parquet::data_type::ByteArray> {
    match row.into_columns().into_iter().next()?.1 {
        Field::Group(inside) => bytes(inside),
        Field::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
