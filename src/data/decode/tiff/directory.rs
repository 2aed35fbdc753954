//! Reads the tags of the first page of TIFF and `BigTIFF` files.

use crate::data::decode::byte_reader::ByteReader;
use crate::data::decode::error::ImageError;

/// The byte order of a TIFF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// The tags and values of the first page of a TIFF file.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    pub(super) order: ByteOrder,
    /// Whether the file has a second page.
    pub(super) has_next: bool,
    fields: Vec<Field>,
}

struct Field {
    tag: u16,
    kind: u16,
    count: usize,
    /// Byte position of the tag's first value in the file.
    at: usize,
}

impl ByteOrder {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self == Self::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self == Self::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        if self == Self::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }
    }
}

/// Returns whether a file starts like a TIFF or `BigTIFF` file.
pub(in crate::data::decode) fn is_tiff(bytes: &[u8]) -> bool {
    let signatures = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    signatures.iter().any(|signature| bytes.starts_with(*signature))
}

impl<'a> Directory<'a> {
    /// Reads the tags of the first page.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let order = if bytes.starts_with(b"II") { ByteOrder::Little } else { ByteOrder::Big };
        let mut directory = Self { bytes, order, has_next: false, fields: Vec::new() };
        let big = bytes[2..4].contains(&43);
        let (at, count_size, entry) = if big {
            (directory.number_at(8, 8)?, 8, 20)
        } else {
            (directory.number_at(4, 4)?, 2, 12)
        };
        let at = usize::try_from(at).map_err(|_| ImageError::Truncated)?;
        let count = usize::try_from(directory.number_at(at, count_size)?);
        let count = count.map_err(|_| ImageError::Truncated)?;
        let entry_at =
            |i: usize| i.checked_mul(entry).and_then(|skip| (at + count_size).checked_add(skip));
        for i in 0..count {
            directory.read_field(entry_at(i).ok_or(ImageError::Truncated)?, big)?;
        }
        // A file that ends here has no second page.
        let word = if big { 8 } else { 4 };
        let next = entry_at(count).and_then(|at| directory.number_at(at, word).ok());
        directory.has_next = next.is_some_and(|at| at != 0);
        Ok(directory)
    }

    fn read_field(&mut self, at: usize, big: bool) -> Result<(), ImageError> {
        let (tag, kind) = (self.number_at(at, 2)? as u16, self.number_at(at + 2, 2)? as u16);
        let word = if big { 8 } else { 4 };
        let count = self.number_at(at + 4, word)?;
        let length = count.saturating_mul(size_of_kind(kind) as u64);
        let at = at + 4 + word;
        let at = if length <= word as u64 { at as u64 } else { self.number_at(at, word)? };
        // A field that points outside of the file is an error only when its value is needed.
        if let (Ok(count), Ok(at)) = (usize::try_from(count), usize::try_from(at)) {
            self.fields.push(Field { tag, kind, count, at });
        }
        Ok(())
    }

    /// Reads an unsigned number of `size` bytes (1, 2, 4 or 8) at byte `at` of the file.
    fn number_at(&self, at: usize, size: usize) -> Result<u64, ImageError> {
        let bytes = ByteReader::at(self.bytes, at).take(size)?;
        Ok(match *bytes {
            [byte] => byte.into(),
            [a, b] => self.order.u16([a, b]).into(),
            [a, b, c, d] => self.order.u32([a, b, c, d]).into(),
            _ => self.order.u64(*bytes.as_array().ok_or(ImageError::Truncated)?),
        })
    }

    fn values(&self, field: &Field) -> Result<&'a [u8], ImageError> {
        let length = field.count.checked_mul(size_of_kind(field.kind));
        ByteReader::at(self.bytes, field.at).take(length.ok_or(ImageError::Truncated)?)
    }

    fn field(&self, tag: u16) -> Option<&Field> {
        self.fields.iter().find(|field| field.tag == tag)
    }

    /// Returns the bytes of `tag`; `None` if the tag is missing.
    pub(super) fn bytes(&self, tag: u16) -> Result<Option<&'a [u8]>, ImageError> {
        self.field(tag).map(|field| self.values(field)).transpose()
    }

    /// Returns the unsigned integers of `tag`; an empty list if the tag is missing.
    pub(super) fn numbers(&self, tag: u16) -> Result<Vec<u64>, ImageError> {
        let Some(field) = self.field(tag) else { return Ok(Vec::new()) };
        let size = match field.kind {
            1 | 3 | 4 | 13 | 16 | 18 => size_of_kind(field.kind),
            kind => {
                return Err(ImageError::damaged(format!(
                    "TIFF tag {tag} has the type {kind}, which is not an unsigned integer type"
                )));
            }
        };
        self.values(field)?;
        (0..field.count).map(|i| self.number_at(field.at + i * size, size)).collect()
    }

    /// Returns the first unsigned integer of `tag`, or `default` if the tag is missing.
    pub(super) fn number(&self, tag: u16, default: u32) -> Result<u32, ImageError> {
        let first = self.numbers(tag)?.first().copied();
        let too_large =
            |_| ImageError::damaged(format!("the value of TIFF tag {tag} is too large"));
        first.map_or(Ok(default), |value| value.try_into().map_err(too_large))
    }

    /// Returns the fractions or floats of `tag`; `None` if the tag is missing or has a different type.
    pub(super) fn floats(&self, tag: u16) -> Result<Option<Vec<f32>>, ImageError> {
        let Some(field) = self.field(tag) else { return Ok(None) };
        let bytes = self.values(field)?;
        Ok(match field.kind {
            5 => Some(
                bytes
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|[a, b, c, d, e, f, g, h]| {
                        let (top, bottom) =
                            (self.order.u32([*a, *b, *c, *d]), self.order.u32([*e, *f, *g, *h]));
                        if bottom == 0 { 0.0 } else { (f64::from(top) / f64::from(bottom)) as f32 }
                    })
                    .collect(),
            ),
            11 => Some(
                bytes.as_chunks().0.iter().map(|v| f32::from_bits(self.order.u32(*v))).collect(),
            ),
            _ => None,
        })
    }
}

/// Returns the size in bytes of one value of the TIFF type `kind`.
fn size_of_kind(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
