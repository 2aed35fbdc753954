//! Reads the boxes of ISO media files, which hold AVIF images.

use crate::data::decode::byte_reader::ByteReader;
use crate::data::decode::error::ImageError;

/// The name of a box in an AVIF file, such as `meta`.
pub(super) type Name = [u8; 4];

/// Returns the name and content of each box in `bytes`. The last box may be truncated.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut head = ByteReader::new(rest);
        let (size, name) = (head.u32_be().ok()?, *head.take(4).ok()?.as_array()?);
        let size = match size {
            0 => rest.len(),
            1 => usize::try_from(head.u64_be().ok()?).unwrap_or(usize::MAX),
            size => size as usize,
        };
        let content = rest.get(head.position()..size.min(rest.len()))?;
        rest = rest.get(size..).unwrap_or_default();
        Some((name, content))
    })
}

/// Returns the content of the first box with the name `name`.
pub(super) fn find(bytes: &[u8], name: Name) -> Option<&[u8]> {
    boxes(bytes).find(|(found, _)| *found == name).map(|(_, content)| content)
}

/// Returns the content of a nested box. `path` lists the box names from the outermost to the innermost box.
pub(super) fn find_path<'a>(bytes: &'a [u8], path: &[Name]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, name| find(bytes, *name))
}

/// Reads a big-endian integer of `size` bytes, 4 or 8. Returns 0 if `size` is 0.
pub(super) fn sized(reader: &mut ByteReader<'_>, size: u8) -> Result<u64, ImageError> {
    match size {
        0 => Ok(0),
        4 => reader.u32_be().map(u64::from),
        8 => reader.u64_be(),
        _ => Err(ImageError::damaged(
            "the AVIF file has an integer field whose size is not 0, 4 or 8 bytes",
        )),
    }
}

/// Reads an item ID of 4 bytes if `wide` is true, otherwise of 2 bytes.
pub(super) fn id(reader: &mut ByteReader<'_>, wide: bool) -> Result<u32, ImageError> {
    if wide { reader.u32_be() } else { reader.u16_be().map(u32::from) }
}
