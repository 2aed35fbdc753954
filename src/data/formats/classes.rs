//! Assigns labels to the classes of all images.
//!
//! A class number is the label. The label of a class name is the index of the name in the list of names that the data
//! set has, such as `classes.txt`. Without such a list, the label is the index in the sorted names.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::shape::MAX_CLASSES;
use crate::text::one_line;

use super::listing_cache::ListedClass;

const INVALID: &str =
    "correct the class, or download the file again. Pre-training alone needs no classes";

/// The class that a file stores for an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ReadClass {
    Missing,
    Number(u32),
    TextNumber(u32),
    /// The index of the class name in [`ClassTable`].
    Name(u32),
}

/// Collects the classes of all images, and example images for error messages.
#[derive(Default)]
pub(super) struct ClassTable {
    /// Maps each class name to an index. Names get the indices 0, 1, 2 and so on as the reader finds them.
    names: HashMap<String, u32>,
    /// The class numbers that are stored as text.
    text_numbers: BTreeSet<u32>,
    /// The first invalid class, as (path of the image or tar member, problem).
    invalid: Option<(PathBuf, String)>,
    /// Path of the first image without a class.
    unlabelled: Option<PathBuf>,
    /// Path of the first image whose class is a number. A number that is stored as text does not count.
    number: Option<PathBuf>,
    /// Path of the first image whose class is a name.
    name: Option<PathBuf>,
    /// The largest class number plus 1; 0 without class numbers.
    numbers: usize,
    /// Number of images without a usable class.
    without: usize,
    images: usize,
}

/// Class names that a data set lists in a file, in label order.
pub(super) struct KnownNames {
    pub(super) file: PathBuf,
    pub(super) names: Vec<String>,
    /// What lists the names, such as `classes.txt`. Used in messages.
    pub(super) by: &'static str,
}

/// The arguments of [`ClassTable::number`].
pub(super) struct Naming<'a> {
    pub(super) known: Option<KnownNames>,
    /// The recipe's `data.num_classes`; `None` if not set.
    pub(super) promised: Option<usize>,
    /// Path of the data set, for messages.
    pub(super) data: &'a Path,
    /// The hint of the error about an image without a class.
    pub(super) hint: &'static str,
}

/// The result of [`ClassTable::number`]: the names and labels of all classes.
#[derive(Default)]
pub(super) struct Numbered {
    /// The class names in label order; empty if `problem` is not `None`.
    pub(super) classes: Vec<String>,
    /// Whether the data stores class names. If false, the data stores class numbers.
    pub(super) are_names: bool,
    /// The first error about the classes, such as an image without a class; `None` if all classes are usable.
    pub(super) problem: Option<DataError>,
    /// True if the data set has no classes at all.
    pub(super) none: bool,
    /// The label of each class name. The index is the number in [`ReadClass::Name`].
    places: Vec<Option<u32>>,
    /// Maps each class number that is stored as text to an index in `places`.
    text_numbers: HashMap<u32, u32>,
}

impl Numbered {
    /// Returns the label of an image's class; `None` if the class is missing or unusable.
    pub(super) fn label(&self, class: ReadClass) -> Option<u32> {
        let place = match class {
            ReadClass::Number(number) | ReadClass::TextNumber(number) if !self.are_names => {
                return Some(number);
            }
            ReadClass::Number(_) | ReadClass::Missing => return None,
            ReadClass::TextNumber(number) => *self.text_numbers.get(&number)?,
            ReadClass::Name(place) => place,
        };
        *self.places.get(place as usize)?
    }

    /// Returns the class names for the data's fingerprint; empty if the data stores class numbers.
    pub(super) fn stored_names(&self) -> &[String] {
        if self.are_names { &self.classes } else { &[] }
    }
}

impl ClassTable {
    /// Adds the class of an image to the table.
    ///
    /// `file` is a shard or a parquet file. `name` is the image's name inside `file`.
    pub(super) fn add(&mut self, file: &Path, name: &str, class: Option<ListedClass>) -> ReadClass {
        let image = || file.join(name);
        self.images += 1;
        match class {
            Some(ListedClass::Number(number)) => {
                self.number.get_or_insert_with(image);
                self.numbers = self.numbers.max(number as usize + 1);
                ReadClass::Number(number)
            }
            Some(ListedClass::TextNumber(number)) => {
                self.text_numbers.insert(number);
                self.numbers = self.numbers.max(number as usize + 1);
                ReadClass::TextNumber(number)
            }
            Some(ListedClass::Name(name)) => {
                self.name.get_or_insert_with(image);
                ReadClass::Name(self.place_of(name))
            }
            Some(ListedClass::Invalid(text)) => {
                self.without += 1;
                let (member, problem) = text.rsplit_once('\n').unwrap_or((name, &text));
                self.invalid.get_or_insert_with(|| (file.join(member), problem.to_owned()));
                ReadClass::Missing
            }
            None => {
                self.without += 1;
                self.unlabelled.get_or_insert_with(image);
                ReadClass::Missing
            }
        }
    }

    fn place_of(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.names.entry(name).or_insert(next)
    }

    /// Assigns a label to each class. Call this after the classes of all images have been added.
    pub(super) fn number(mut self, naming: Naming<'_>) -> Numbered {
        let none = self.without == self.images && self.invalid.is_none();
        let mut numbered =
            Numbered { are_names: !self.names.is_empty(), none, ..Numbered::default() };
        if numbered.are_names {
            for number in std::mem::take(&mut self.text_numbers) {
                let place = self.place_of(number.to_string());
                numbered.text_numbers.insert(number, place);
            }
        }
        numbered.problem = self.problem(naming.hint);
        let classes = if numbered.are_names {
            self.sorted_names(naming).map(|(names, places)| {
                numbered.places = places;
                names
            })
        } else {
            self.numbers_of(naming)
        };
        match classes {
            Ok(classes) if numbered.problem.is_none() => numbered.classes = classes,
            Ok(_) => {}
            Err(error) => numbered.problem = Some(numbered.problem.take().unwrap_or(error)),
        }
        numbered
    }

    /// Returns an error if an image has no usable class, or if the data mixes class numbers and class names.
    fn problem(&self, hint: &str) -> Option<DataError> {
        let more = match self.without {
            0 | 1 => String::new(),
            without => format!(" ({without} of {} images have no valid class)", self.images),
        };
        if let Some((member, problem)) = &self.invalid {
            let problem = format!("{problem}{more}");
            return Some(DataError::layout(member, problem, INVALID));
        }
        if let Some(image) = &self.unlabelled {
            return Some(DataError::layout(image, format!("the image has no class{more}"), hint));
        }
        let (number, name) = (self.number.as_ref()?, self.name.as_ref()?);
        let problem = format!(
            "the class of this image is a number, but the class of {} is a name",
            name.display()
        );
        Some(DataError::layout(
            number,
            problem,
            "store a class number for all images, or a class name for all images",
        ))
    }

    /// Returns (class names in label order, label of each name).
    ///
    /// The labels are indexed by [`ReadClass::Name`]. `naming.known` decides the order of the names. If `naming.known`
    /// is `None`, the names are sorted. Fails if `naming.known` lacks a name.
    fn sorted_names(
        &self,
        naming: Naming<'_>,
    ) -> Result<(Vec<String>, Vec<Option<u32>>), DataError> {
        let (file, sorted) = if let Some(known) = naming.known {
            (known.file, known.names)
        } else {
            let mut names: Vec<String> = self.names.keys().cloned().collect();
            names.sort_unstable();
            (naming.data.to_owned(), names)
        };
        if sorted.len() > MAX_CLASSES {
            let count = sorted.len();
            let problem = format!(
                "there are {count} class names, but mae supports at most {MAX_CLASSES} classes"
            );
            return Err(DataError::layout(&file, problem, INVALID));
        }
        let labels: HashMap<&str, u32> = sorted
            .iter()
            .enumerate()
            .rev()
            .map(|(label, name)| (name.as_str(), label as u32))
            .collect();
        let mut places = vec![None; self.names.len()];
        let mut missing: Vec<&str> = Vec::new();
        for (name, place) in &self.names {
            let label = labels.get(name.as_str()).copied();
            places[*place as usize] = label;
            missing.extend(label.is_none().then_some(name.as_str()));
        }
        match missing.into_iter().min() {
            Some(name) => Err(DataError::layout(
                &file,
                format!(
                    "an image has the class `{}`, but the file does not list this class",
                    one_line(name)
                ),
                "add a line with the class, or remove the file",
            )),
            None => Ok((sorted, places)),
        }
    }

    /// Returns a name for each class number: the name in `naming.known`, or the number as text.
    fn numbers_of(&self, naming: Naming<'_>) -> Result<Vec<String>, DataError> {
        let found = self.numbers;
        let too_many = |known: usize, by: &str| {
            let problem =
                format!("an image has class {}, but `{by}` states only {known} classes", found - 1);
            let hint = "correct the class or the number of classes. The first class is 0";
            DataError::layout(naming.data, problem, hint)
        };
        if let Some(KnownNames { names, by, .. }) = naming.known {
            return if names.len() < found { Err(too_many(names.len(), by)) } else { Ok(names) };
        }
        let classes = naming.promised.unwrap_or(found);
        if classes < found {
            return Err(too_many(classes, "data.num_classes"));
        }
        Ok((0..classes).map(|class| class.to_string()).collect())
    }
}
