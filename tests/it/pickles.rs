//! Writes pickles as PyTorch's scripts have them, with NumPy arrays as tensors.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use mae::checkpoint::HostTensor;
use std::path::Path;

/// What a pickle contains.
pub(crate) enum Pickled {
    Dict(Vec<(String, Pickled)>),
    Tensor(HostTensor),
    /// An array of int64.
    Ints(Vec<i64>),
    Number(i32),
    Float(f64),
    Word(String),
    /// An object of a class, with its state.
    Module(String, Box<Pickled>),
}

pub(crate) fn dict<const N: usize>(entries: [(&str, Pickled); N]) -> Pickled {
    Pickled::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

pub(crate) fn write(path: &Path, content: &Pickled) {
    let mut bytes = vec![0x80, 2];
    put(&mut bytes, content);
    bytes.push(b'.');
    mae::durable::write(path, &bytes).unwrap();
}

fn put(to: &mut Vec<u8>, content: &Pickled) {
    match content {
        Pickled::Dict(entries) => {
            to.extend(b"}(");
            for (key, value) in entries {
                text(to, key);
                put(to, value);
            }
            to.push(b'u');
        }
        Pickled::Tensor(tensor) => {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            array(to, &tensor.shape, "f4", bytes);
        }
        Pickled::Ints(values) => {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            array(to, &[values.len()], "i8", bytes);
        }
        Pickled::Number(number) => int(to, *number),
        Pickled::Float(number) => {
            to.push(b'G');
            to.extend(number.to_be_bytes());
        }
        Pickled::Word(word) => text(to, word),
        Pickled::Module(class, state) => {
            let (module, name) = class.rsplit_once('.').unwrap();
            to.push(b'c');
            to.extend(format!("{module}\n{name}\n").bytes());
            to.extend(b")\x81");
            put(to, state);
            to.push(b'b');
        }
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.push(b'X');
    to.extend((text.len() as u32).to_le_bytes());
    to.extend(text.bytes());
}

fn int(to: &mut Vec<u8>, value: i32) {
    to.push(b'J');
    to.extend(value.to_le_bytes());
}

/// Appends an array: an empty one, whose state has shape, type and bytes.
fn array(to: &mut Vec<u8>, shape: &[usize], code: &str, bytes: Vec<u8>) {
    to.extend(b"cnumpy.core.multiarray\n_reconstruct\n)R(J\x01\0\0\0(");
    for size in shape {
        int(to, *size as i32);
    }
    to.extend(b"tcnumpy\ndtype\n");
    text(to, code);
    to.extend(b"\x85R\x89B");
    to.extend((bytes.len() as u32).to_le_bytes());
    to.extend(bytes);
    to.extend(b"tb");
}
