//! NumPy arrays and numbers in a pickle.
//!
//! The modules `numpy` and `call` use each other: `call` passes calls of NumPy functions to `numpy`, and `numpy`
//! returns a [`Made`] of `call`.

use super::call::Made;
use super::dtype::Dtype;
use super::graph::{Bytes, Graph, Item, Node};
use super::source::Range;
use super::view::{View, ViewData};

/// Handles a call of the NumPy function `name`.
pub(super) fn call(graph: &Graph, name: &str, args: &[Item]) -> Result<Made, String> {
    let name = name.strip_prefix("numpy._core.").or_else(|| name.strip_prefix("numpy.core."));
    Ok(match name {
        Some("multiarray._reconstruct") => Made::New(Node::Array),
        Some("multiarray.scalar") => match args {
            [dtype, content] => made(view(graph, *dtype, *content, Box::default(), false)?),
            _ => Made::Foreign,
        },
        Some("numeric._frombuffer") => match args {
            [content, dtype, shape, order] => {
                let Some(shape) = graph.sizes(*shape) else { return Ok(Made::Foreign) };
                match graph.text(*order) {
                    Some("C") => made(view(graph, *dtype, *content, shape, false)?),
                    Some("F") => made(view(graph, *dtype, *content, shape, true)?),
                    _ => Made::Foreign,
                }
            }
            _ => Made::Foreign,
        },
        _ => Made::Foreign,
    })
}

fn made(node: Option<Node>) -> Made {
    node.map_or(Made::Foreign, Made::New)
}

/// Handles `numpy.dtype('f4', False, True)`: returns the element type.
pub(super) fn dtype(graph: &Graph, args: &[Item]) -> Made {
    let Some(code) = args.first().and_then(|code| graph.text(*code)) else { return Made::Foreign };
    let dtype = Dtype::of_numpy(code);
    Made::New(Node::NumpyType { dtype, big_endian: code.starts_with('>') })
}

/// Returns whether a `numpy.dtype` with the state `state` is big-endian.
pub(super) fn is_big_endian(graph: &Graph, state: Item) -> bool {
    let order = graph.items(state).and_then(|items| items.get(1).copied());
    order.and_then(|order| graph.text(order)) == Some(">")
}

/// Creates a NumPy array from its state `(version, shape, dtype, is_fortran, content)`.
pub(super) fn array(graph: &Graph, state: Item) -> Result<Node, String> {
    let malformed = || "the pickle has an invalid description of a NumPy array".to_owned();
    let items = graph.items(state).ok_or_else(malformed)?;
    let [.., shape, dtype, is_fortran, content] = items else { return Err(malformed()) };
    let shape = graph.sizes(*shape).ok_or_else(malformed)?;
    let is_fortran = matches!(is_fortran, Item::Bool(true) | Item::Int(1));
    let node = view(graph, *dtype, *content, shape, is_fortran)?;
    Ok(node.unwrap_or(Node::Opaque("a NumPy array with elements that are not numbers")))
}

/// Returns a view of the array's elements; `None` if the elements are not numbers.
///
/// Fails if `content` has the wrong length.
fn view(
    graph: &Graph,
    dtype: Item,
    content: Item,
    shape: Box<[u64]>,
    is_fortran: bool,
) -> Result<Option<Node>, String> {
    let Some(Node::NumpyType { dtype, big_endian }) = graph.node(dtype) else { return Ok(None) };
    let bytes = match graph.node(content) {
        Some(Node::Bytes(bytes)) => *bytes,
        // Python 2 writes the content as text, with one character per byte.
        Some(Node::Text { at, text }) => {
            Bytes { range: Range { at: *at, len: text.len() as u64 }, latin1: false }
        }
        Some(Node::LongText(range)) => Bytes { range: *range, latin1: false },
        _ => return Ok(None),
    };
    let strides = strides(&shape, is_fortran)?;
    let view = View::new(dtype, *big_endian, ViewData::Bytes(bytes), 0, shape, strides)?;
    Ok(Some(Node::View(view.into())))
}

fn strides(shape: &[u64], is_fortran: bool) -> Result<Box<[u64]>, String> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1_u64;
    let mut set = |dim: usize| {
        strides[dim] = stride;
        stride = stride.checked_mul(shape[dim])?;
        Some(())
    };
    let all = if is_fortran {
        (0..shape.len()).try_for_each(&mut set)
    } else {
        (0..shape.len()).rev().try_for_each(&mut set)
    };
    all.ok_or_else(|| format!("a NumPy array with the shape {shape:?} is too large"))?;
    Ok(strides.into())
}
