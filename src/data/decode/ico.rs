//! Decodes Windows icons and cursors: the image that Pillow chooses, which is the one with the largest area.

use super::bitmap::Bitmap;
use super::bmp::Dib;
use super::byte_reader::ByteReader;
use super::error::ImageError;
use super::png_webp;

/// Size in bytes of the directory entry for one image.
const ENTRY: usize = 16;

/// Directory entry of an icon file for one image.
struct Entry {
    area: u32,
    /// Bits per pixel, computed like Pillow; 256 if unknown.
    colour_depth: u32,
    bits: u16,
    length: usize,
    at: usize,
}

/// Decodes the image with the largest area in an icon file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let count = ByteReader::at(bytes, 4).u16_le()?;
    let entry = |i| Entry::read(&mut ByteReader::at(bytes, 6 + ENTRY * i));
    let mut entries = (0..count.into()).map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.area), entry.colour_depth));
    let entry =
        entries.first().ok_or_else(|| ImageError::damaged("the ICO file contains no images"))?;
    let image = bytes.get(entry.at..).ok_or(ImageError::Truncated)?;
    if png_webp::is_png(image) {
        return png_webp::png(image);
    }
    let mut dib = Dib::read(bytes, entry.at, 0)?;
    // The stored height is doubled, because a mask of one bit per pixel follows the colours.
    dib.height /= 2;
    let mask = (dib.width.next_multiple_of(32) / 8) as usize * dib.height as usize;
    // The mask is at the end of the entry.
    let end = entry.at.saturating_add(entry.length);
    if entry.bits != 32 && (end < mask || end > bytes.len()) {
        return Err(ImageError::Truncated);
    }
    dib.decode()
}

impl Entry {
    fn read(file: &mut ByteReader<'_>) -> Result<Self, ImageError> {
        let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
        let (width, height, colours) = (side(file.u8()?), side(file.u8()?), file.u8()?);
        file.take(3)?;
        let bits = file.u16_le()?;
        let colour_depth = match (bits, colours) {
            (0, 0 | 1) => 256,
            (0, colours) => u32::from(colours).next_power_of_two().ilog2(),
            (bits, _) => bits.into(),
        };
        let (length, at) = (file.u32_le()? as usize, file.u32_le()? as usize);
        Ok(Self { area: width * height, colour_depth, bits, length, at })
    }
}
