//! Reads NumPy arrays (`.npy`, versions 1 to 3) of the shapes `[H, W]` and `[C, H, W]`.
//!
//! Crates for this format need a parser generator. This module parses the header in a few lines, because NumPy always
//! writes a dictionary with three keys.

use super::RawPicture;
use super::samples::{SampleKind, SampleType};
use crate::data::decode::byte_reader::ByteReader;
use crate::data::decode::error::ImageError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Maximum length of a `.npy` header in bytes.
const MAX_HEADER: usize = 1 << 16;

struct Header {
    samples: SampleType,
    fortran_order: bool,
    shape: Vec<usize>,
}

pub(in crate::data) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

pub(super) fn decode(bytes: &[u8]) -> Result<RawPicture, ImageError> {
    let mut reader = ByteReader::at(bytes, MAGIC.len());
    let major = reader.take(2)?[0];
    let length = match major {
        1 => reader.u16_le()?.into(),
        2 | 3 => reader.u32_le()? as usize,
        other => {
            return Err(ImageError::Unsupported(format!(
                "mae does not support .npy files of version {other}"
            )));
        }
    };
    if length > MAX_HEADER {
        return Err(ImageError::damaged("the header of the .npy file is too long"));
    }
    let text = String::from_utf8_lossy(reader.take(length)?);
    let header = Header::parse(&text)?;
    let [channels, height, width] = match header.shape[..] {
        [height, width] => [1, height, width],
        [channels, height, width] => [channels, height, width],
        _ => {
            let problem = format!(
                "mae does not support .npy arrays with the shape {:?}, expected [H, W] or [C, H, W]",
                header.shape
            );
            return Err(ImageError::Unsupported(problem));
        }
    };
    RawPicture::check_size(width, height, channels)?;
    let count = width * height * channels;
    let values = header.samples.to_floats(reader.take(count * (header.samples.bits / 8))?)?;
    // The last axis is contiguous in C order, the first axis in Fortran order.
    let at = |c: usize, y: usize, x: usize| {
        if header.fortran_order {
            (x * height + y) * channels + c
        } else {
            (c * height + y) * width + x
        }
    };
    let mut pixels = Vec::with_capacity(count);
    for y in 0..height {
        for x in 0..width {
            pixels.extend((0..channels).map(|c| values[at(c, y, x)]));
        }
    }
    Ok(RawPicture { width, height, channels, values: pixels })
}

impl Header {
    /// Parses the header of a `.npy` file, such as `{'descr': '<u2', 'fortran_order': False, 'shape': (5, 64, 64), }`.
    fn parse(text: &str) -> Result<Self, ImageError> {
        let after = |key: &str| {
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let found = quoted.iter().find_map(|key| text.split_once(key.as_str()));
            let value = found.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
            let missing = || ImageError::damaged(format!("the .npy header has no `{key}`"));
            value.map(str::trim_start).ok_or_else(missing)
        };
        let descr = after("descr")?;
        let quote = descr.chars().next().filter(|first| matches!(first, '\'' | '"'));
        let descr = quote.and_then(|quote| descr[1..].split_once(quote)).map(|(descr, _)| descr);
        let descr = descr.ok_or_else(|| {
            ImageError::Unsupported(
                "mae does not support .npy arrays with named fields, expected plain numbers".into(),
            )
        })?;
        let shape = after("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let sides = shape.map(|(sides, _)| sides.split(',').map(str::trim));
        let sides = sides.and_then(|sides| {
            sides.filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
        });
        Ok(Self {
            samples: sample_type(descr)?,
            fortran_order: after("fortran_order")?.starts_with("True"),
            shape: sides
                .ok_or_else(|| ImageError::damaged("the .npy header has no valid shape"))?,
        })
    }
}

/// Parses NumPy's name of a number type, such as `<u2`.
fn sample_type(descr: &str) -> Result<SampleType, ImageError> {
    let unsupported = || {
        ImageError::Unsupported(format!(
            "mae does not support .npy arrays of the type `{descr}`, expected whole numbers or floats, such as uint16 or float32"
        ))
    };
    let mut chars = descr.chars();
    let big_endian = match chars.next() {
        Some('<' | '|') => false,
        Some('>') => true,
        _ => return Err(unsupported()),
    };
    let kind = match chars.next() {
        Some('u') => SampleKind::Unsigned,
        Some('i') => SampleKind::Signed,
        Some('f') => SampleKind::Float,
        _ => return Err(unsupported()),
    };
    match chars.as_str() {
        "1" if kind != SampleKind::Float => Ok(SampleType { kind, bits: 8, big_endian }),
        "2" if kind != SampleKind::Float => Ok(SampleType { kind, bits: 16, big_endian }),
        "4" => Ok(SampleType { kind, bits: 32, big_endian }),
        "8" if kind == SampleKind::Float => Ok(SampleType { kind, bits: 64, big_endian }),
        _ => Err(unsupported()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn both_orders_of_axes_give_the_same_pixels() {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 3), }\n";
        let rows = decode(&file(header, &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((rows.width, rows.height, rows.channels), (3, 1, 2));
        assert_eq!(rows.values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let fortran = header.replace("False", "True");
        let columns = decode(&file(&fortran, &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(columns.values, rows.values);
    }

    #[test]
    fn arrays_that_are_no_pictures_are_refused_by_name() {
        let refused = |header: &str, data: &[u8]| decode(&file(header, data)).err().unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }";
        assert_eq!(refused(header, &[1, 2, 3]), ImageError::Truncated);
        for (from, to, expected) in [
            ("|u1", "|O", "the type `|O`"),
            ("(2, 2)", "(4,)", "the shape [4]"),
            ("(2, 2)", "(99999999999, 99999999999)", "too many"),
            ("(2, 2)", "(2, 0)", "0x2"),
            ("(2, 2)", "(2, x)", "no valid shape"),
            ("'descr'", "'other'", "no `descr`"),
        ] {
            let error = refused(&header.replace(from, to), &[1, 2, 3, 4]).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
