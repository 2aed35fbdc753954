//! Tensors as views: a view describes which bytes of the file belong to a tensor, and in which order.
//!
//! The modules `view`, `graph` and `window` use each other: a graph contains views, and a view reads bytes through a
//! window.

use super::budget::Budget;
use super::dtype::Dtype;
use super::graph::{Bytes, Storage};
use super::source::{ByteSource, Range, cut_short};
use super::window::Window;

#[derive(Debug)]
pub(super) enum ViewData {
    Storage(Storage),
    /// The content of a NumPy array.
    Bytes(Bytes),
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) dtype: &'static Dtype,
    big_endian: bool,
    pub(super) data: ViewData,
    /// Index of the view's first element in the storage. Offset and strides count elements, not bytes.
    offset: u64,
    pub(super) shape: Box<[u64]>,
    strides: Box<[u64]>,
}

/// A tensor view whose elements are all inside its storage.
pub(super) struct CheckedView<'a> {
    view: &'a View,
    bytes: Bytes,
    /// Offset of element 0 in bytes.
    base: u64,
    pub(super) numel: u64,
    /// Highest element index in the storage, plus 1.
    end: u64,
}

impl View {
    pub(super) fn new(
        dtype: &'static Dtype,
        big_endian: bool,
        data: ViewData,
        offset: u64,
        shape: Box<[u64]>,
        strides: Box<[u64]>,
    ) -> Result<Self, String> {
        if shape.len() == strides.len() {
            Ok(Self { dtype, big_endian, data, offset, shape, strides })
        } else {
            Err(format!(
                "a tensor with the shape {shape:?} has {} strides, expected one stride for each dimension",
                strides.len()
            ))
        }
    }

    pub(super) fn numel(&self) -> Result<u64, String> {
        let numel = self.shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
        numel.ok_or_else(|| format!("a tensor with the shape {:?} is too large", self.shape))
    }

    /// Fails if an element of the view is outside the byte range `storage`.
    pub(super) fn check(&self, storage: Range) -> Result<CheckedView<'_>, String> {
        let numel = self.numel()?;
        let size = self.dtype.size;
        let (bytes, base, available) = match &self.data {
            ViewData::Storage(part) => {
                let bytes = |n: u64| n.checked_mul(part.dtype.size);
                let (base, len) = bytes(part.start).zip(bytes(part.numel)).ok_or_else(cut_short)?;
                if base.checked_add(len).is_none_or(|end| end > storage.len) {
                    return Err(format!(
                        "a tensor storage has {} bytes, expected at least {len} bytes",
                        storage.len
                    ));
                }
                (Bytes { range: storage, latin1: false }, base, len / size)
            }
            ViewData::Bytes(bytes) => (*bytes, 0, content_numel(*bytes, size, numel)?),
        };
        let end = if numel == 0 { 0 } else { self.end().ok_or_else(cut_short)? };
        if end > available {
            let problem = if numel > available {
                format!("has {numel} values")
            } else {
                format!("needs {end} values")
            };
            return Err(format!("a tensor {problem}, but its storage has only {available} values"));
        }
        Ok(CheckedView { view: self, bytes, base, numel, end })
    }

    fn end(&self) -> Option<u64> {
        let steps = self.shape.iter().zip(&self.strides);
        steps.filter(|(size, _)| **size > 0).try_fold(self.offset.checked_add(1)?, |end, step| {
            end.checked_add((step.0 - 1).checked_mul(*step.1)?)
        })
    }
}

/// Returns `numel`. Fails if `bytes` does not contain `numel` elements of `size` bytes.
fn content_numel(bytes: Bytes, size: u64, numel: u64) -> Result<u64, String> {
    let len = bytes.range.len;
    let expected = numel.checked_mul(size);
    let most = expected.and_then(|len| len.checked_mul(2));
    let fits = if bytes.latin1 {
        expected.is_some_and(|least| least <= len) && most.is_some_and(|most| len <= most)
    } else {
        expected == Some(len)
    };
    if fits {
        Ok(numel)
    } else {
        Err(format!("a NumPy array has {len} bytes, expected {numel} values of {size} bytes each"))
    }
}

impl CheckedView<'_> {
    /// Returns the value of an integer tensor with one element; `None` if the number is too large.
    pub(super) fn integer(
        &self,
        source: &ByteSource,
        b: &mut Budget,
    ) -> Result<Option<i64>, String> {
        let size = self.view.dtype.size;
        let mut window = Window::new(source, self.bytes);
        let at = self.base + self.view.offset * size;
        let bytes = window.get(at, size, size, b)?;
        Ok(self.view.dtype.integer(bytes, self.view.big_endian))
    }

    /// Returns the elements of a float tensor as float32, in row-major order.
    pub(super) fn floats(&self, source: &ByteSource, b: &mut Budget) -> Result<Vec<f32>, String> {
        let bytes = self.numel.saturating_mul(4).saturating_add(8 * self.view.shape.len() as u64);
        b.values(bytes).ok_or_else(|| self.too_much())?;
        b.object(bytes as usize)?;
        if self.numel == 0 {
            return Ok(Vec::new());
        }
        let dims = self.dims();
        let mut window = Window::new(source, self.bytes);
        if dims.iter().all(|dim| dim.stride == dim.to) {
            self.contiguous(&mut window, b)
        } else {
            self.strided(&dims, &mut window, b)
        }
    }

    fn too_much(&self) -> String {
        let available = self.bytes.range.len / self.view.dtype.size;
        format!(
            "the tensors need more memory than twice the file size. A tensor has {} values, but its storage has only {available} values",
            self.numel
        )
    }

    fn contiguous(&self, window: &mut Window<'_>, b: &mut Budget) -> Result<Vec<f32>, String> {
        let (dtype, size) = (self.view.dtype, self.view.dtype.size);
        let mut values = Vec::with_capacity(self.numel as usize);
        let mut at = self.base + self.view.offset * size;
        let end = self.base + self.end * size;
        while at < end {
            let bytes = window.get(at, size, end - at, b)?;
            let elements = bytes.chunks_exact(size as usize);
            at += elements.len() as u64 * size;
            values.extend(elements.map(|e| dtype.float(e, self.view.big_endian)));
        }
        Ok(values)
    }

    /// Reads the elements in file order, but returns the elements in row-major order.
    fn strided(
        &self,
        dims: &[Dim],
        window: &mut Window<'_>,
        b: &mut Budget,
    ) -> Result<Vec<f32>, String> {
        let (dtype, size) = (self.view.dtype, self.view.dtype.size);
        let end = self.base + self.end * size;
        let mut values = vec![0.0; self.numel as usize];
        let mut index = vec![0; dims.len()];
        let (mut from, mut to) = (self.view.offset, 0);
        for _ in 0..self.numel {
            let at = self.base + from * size;
            let bytes = window.get(at, size, end - at, b)?;
            values[to as usize] = dtype.float(&bytes[..size as usize], self.view.big_endian);
            for (i, dim) in index.iter_mut().zip(dims).rev() {
                *i += 1;
                from += dim.stride;
                to += dim.to;
                if *i < dim.size {
                    break;
                }
                from -= dim.size * dim.stride;
                to -= dim.size * dim.to;
                *i = 0;
            }
        }
        Ok(values)
    }

    /// Returns the dimensions with more than one element, the largest stride first.
    fn dims(&self) -> Vec<Dim> {
        let mut to = 1;
        let mut dims = Vec::new();
        for (size, stride) in self.view.shape.iter().zip(&self.view.strides).rev() {
            if *size > 1 {
                dims.push(Dim { size: *size, stride: *stride, to });
            }
            to *= *size;
        }
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.stride));
        dims
    }
}

struct Dim {
    size: u64,
    // Distance between neighbours in the file, in elements. `to` is the distance in the result, also in elements.
    stride: u64,
    to: u64,
}
