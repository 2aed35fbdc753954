//! Reads a case. Errors name the missing or invalid key or tensor.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub(super) const DESCRIPTION: &str = "case.json";

/// A case that cannot be verified, and the reason. Such a case counts as failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot verify {}: {problem}", path.display())]
pub struct VerifyError {
    pub path: PathBuf,
    pub problem: String,
}

impl VerifyError {
    pub(super) fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// A JSON object in `case.json`.
#[derive(Clone)]
pub(super) struct Fields {
    value: Value,
    /// Path of this object in error messages, such as `items[2].`.
    at: String,
    path: PathBuf,
}

/// A case to verify: the contents of `case.json` and `tensors.safetensors`.
pub(super) struct Case {
    pub kind: String,
    pub folder: PathBuf,
    fields: Fields,
    tensors: BTreeMap<String, StoredTensor>,
    /// Names of the tensors that a comparison has already used.
    read: RefCell<BTreeSet<String>>,
}

struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Deref for Case {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl Case {
    pub(super) fn open(folder: &Path) -> Result<Self, VerifyError> {
        let error = |problem: String| VerifyError::new(folder, problem);
        let text = fs::read(folder.join(DESCRIPTION))
            .map_err(|e| error(format!("cannot read `{DESCRIPTION}`: {e}")))?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|e| error(format!("`{DESCRIPTION}` is not JSON: {e}")))?;
        let fields = Fields { value, at: String::new(), path: folder.to_owned() };
        let kind = fields.text("kind")?;
        let bytes = fs::read(folder.join("tensors.safetensors"))
            .map_err(|e| error(format!("cannot read `tensors.safetensors`: {e}")))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| error(format!("`tensors.safetensors` is damaged: {e}")))?;
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let shape = view.shape().to_vec();
                let bytes = view.data().to_vec();
                (name.to_owned(), StoredTensor { dtype: view.dtype(), shape, bytes })
            })
            .collect();
        Ok(Self { kind, folder: folder.to_owned(), fields, tensors, read: RefCell::default() })
    }

    fn tensor(&self, name: &str) -> Result<&StoredTensor, VerifyError> {
        self.tensors.get(name).ok_or_else(|| self.error(format!("the tensor `{name}` is missing")))
    }

    fn stored(&self, name: &str, dtype: Dtype) -> Result<&StoredTensor, VerifyError> {
        let stored = self.tensor(name)?;
        if stored.dtype != dtype {
            return Err(self.error(format!("`{name}` is {:?}, expected {dtype:?}", stored.dtype)));
        }
        self.read.borrow_mut().insert(name.to_owned());
        Ok(stored)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn floats(&self, name: &str) -> Result<Vec<f32>, VerifyError> {
        let (values, _) = self.stored(name, Dtype::F32)?.bytes.as_chunks();
        Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    pub(super) fn ints(&self, name: &str) -> Result<Vec<i64>, VerifyError> {
        let (values, _) = self.stored(name, Dtype::I64)?.bytes.as_chunks();
        Ok(values.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    pub(super) fn levels(&self, name: &str) -> Result<Vec<u8>, VerifyError> {
        Ok(self.stored(name, Dtype::U8)?.bytes.clone())
    }

    /// Reads class labels. Fails if a label is not less than `classes`.
    pub(super) fn labels(&self, name: &str, classes: usize) -> Result<Vec<u32>, VerifyError> {
        let label = |value: i64| {
            u32::try_from(value).ok().filter(|label| (*label as usize) < classes).ok_or_else(|| {
                self.error(format!("`{name}` contains {value}, expected a class below {classes}"))
            })
        };
        self.ints(name)?.into_iter().map(label).collect()
    }

    /// Returns the shape of a tensor. Fails if the tensor does not have `N` axes.
    pub(super) fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N], VerifyError> {
        let stored = self.tensor(name)?;
        <[usize; N]>::try_from(&stored.shape[..]).map_err(|_| {
            self.error(format!(
                "`{name}` has the shape {:?}, expected {N} dimensions",
                stored.shape
            ))
        })
    }

    /// Returns the number of values in all tensors together.
    pub(super) fn elements(&self) -> usize {
        self.tensors.values().map(|stored| stored.shape.iter().product::<usize>()).sum()
    }

    pub(super) fn has_shape(&self, name: &str, shape: &[usize]) -> bool {
        self.tensors.get(name).is_some_and(|stored| stored.shape == shape)
    }

    /// Fails if the case has a tensor that no comparison has used.
    pub(super) fn all_read(&self) -> Result<(), VerifyError> {
        let read = self.read.borrow();
        // If all numbers of a case are in `case.json`, the only tensor is a dummy called `none`.
        let unread: Vec<&str> = self
            .tensors
            .keys()
            .map(String::as_str)
            .filter(|name| !read.contains(*name) && *name != "none")
            .collect();
        match unread.len() {
            0 => Ok(()),
            n => Err(self.error(format!(
                "cases of kind {:?} do not use these {n} tensors: {}",
                self.kind,
                unread[..n.min(4)].join(", ")
            ))),
        }
    }
}

impl Fields {
    pub(super) fn error(&self, problem: impl Into<String>) -> VerifyError {
        VerifyError::new(&self.path, problem)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn wanted<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, VerifyError> {
        self.get(key).and_then(read).ok_or_else(|| {
            self.error(format!(
                "`{}{key}` in `{DESCRIPTION}` is missing, or is not {what}",
                self.at
            ))
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, VerifyError> {
        self.wanted(key, "a number", Value::as_f64)
    }

    /// Reads a tolerance. Fails if it is above `most`.
    pub(super) fn tolerance(&self, key: &str, most: f64) -> Result<f64, VerifyError> {
        let what = format!("a number from 0 to {most}");
        self.wanted(key, &what, |value| value.as_f64().filter(|t| (0.0..=most).contains(t)))
    }

    /// Reads an integer from 0 to 1,000,000.
    pub(super) fn count(&self, key: &str) -> Result<usize, VerifyError> {
        self.wanted(key, "a whole number up to a million", |value| {
            value.as_u64().filter(|n| *n <= 1_000_000).map(|n| n as usize)
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, VerifyError> {
        self.wanted(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<String, VerifyError> {
        self.wanted(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f64>, VerifyError> {
        self.wanted(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    pub(super) fn counts(&self, key: &str) -> Result<Vec<usize>, VerifyError> {
        self.wanted(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(|v| v.as_u64().map(|n| n as usize)).collect()
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, VerifyError> {
        self.wanted(key, "a list of strings", |value| {
            value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
        })
    }

    /// Reads a JSON object of numbers, such as `{"blocks.0.norm1.bias": 0.0}`.
    pub(super) fn by_name(&self, key: &str) -> Result<BTreeMap<String, f64>, VerifyError> {
        self.wanted(key, "an object of numbers", |value| {
            value.as_object()?.iter().map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect()
        })
    }

    pub(super) fn inner(&self, key: &str) -> Result<Self, VerifyError> {
        let value =
            self.wanted(key, "an object", |value| value.as_object().map(|_| value.clone()))?;
        Ok(Self { value, at: format!("{}{key}.", self.at), path: self.path.clone() })
    }

    /// Reads a list of JSON objects.
    pub(super) fn items(&self, key: &str) -> Result<Vec<Self>, VerifyError> {
        let items = self.wanted(key, "a list", Value::as_array)?;
        let inner = |(i, value): (usize, &Value)| Self {
            value: value.clone(),
            at: format!("{}{key}[{i}].", self.at),
            path: self.path.clone(),
        };
        Ok(items.iter().enumerate().map(inner).collect())
    }
}
