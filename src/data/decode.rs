//! Image files to pixels, as Pillow's `open().convert("RGB")` or `convert("L")` gives them.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageReader, Limits};

use super::error::DataError;
use super::jpeg;
use super::picture::{Picture, Pixels};

/// Channels that photographs are decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// Luma by ITU-R 601.
    Grey,
    Rgb,
}

/// The largest side of a picture, libjpeg's.
const MAX_SIDE: u32 = 65_500;
/// The most memory a decoded picture may take: about 179 million RGB pixels, where Pillow refuses too.
const MAX_BYTES: u64 = 512 << 20;

/// Reads and decodes the image file at `path` to RGB, as training does.
pub fn read_picture(path: &Path) -> Result<Picture, DataError> {
    decode_file(path, Colour::Rgb)
}

/// Reads and decodes the image file at `path`; what it is is told by its content, not by its name.
pub(super) fn decode_file(path: &Path, colour: Colour) -> Result<Picture, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::unreadable(path, e))?;
    if bytes.is_empty() {
        return Err(DataError::bad_image(path, "the file is empty"));
    }
    if is_cut_short(&bytes) {
        return Err(DataError::bad_image(path, "the JPEG file is truncated: it has no end"));
    }
    if jpeg::is_jpeg(&bytes) {
        let fits = |width: usize, height: usize| (width * height * 3) as u64 <= MAX_BYTES;
        let image = jpeg::decode(&bytes, fits).map_err(|problem| {
            DataError::bad_image(path, format!("cannot be decoded: {problem}"))
        })?;
        return Ok(convert(image.into(), colour));
    }
    let image = decode(&bytes).map_err(|error| DataError::BadImage {
        path: path.to_owned(),
        problem: format!("cannot be decoded: {error}"),
        source: Some(Box::new(error)),
    })?;
    Ok(convert(image, colour))
}

fn decode(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    reader.decode()
}

/// Alpha is dropped, not blended; of 16-bit values the high byte is kept.
fn convert(image: DynamicImage, colour: Colour) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, bytes) = match colour {
        Colour::Rgb => (3, rgb(image)),
        Colour::Grey => (1, grey(image)),
    };
    Picture { width, height, channels, pixels: Pixels::U8(bytes) }
}

fn rgb(image: DynamicImage) -> Vec<u8> {
    let grey_to_rgb = |grey: Vec<u8>| grey.into_iter().flat_map(|v| [v; 3]).collect();
    match image {
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        DynamicImage::ImageRgba8(pixels) => keep(pixels.as_raw(), 4, 3),
        DynamicImage::ImageRgb16(pixels) => high_bytes(pixels.as_raw()),
        DynamicImage::ImageRgba16(pixels) => keep(&high_bytes(pixels.as_raw()), 4, 3),
        DynamicImage::ImageLuma8(pixels) => grey_to_rgb(pixels.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => grey_to_rgb(keep(pixels.as_raw(), 2, 1)),
        DynamicImage::ImageLuma16(pixels) => grey_to_rgb(high_bytes(pixels.as_raw())),
        DynamicImage::ImageLumaA16(pixels) => grey_to_rgb(keep(&high_bytes(pixels.as_raw()), 2, 1)),
        other => other.into_rgb8().into_raw(),
    }
}

/// Grey stays as it is, since the weights add up to 65,536; colours are weighted as Pillow's 16-bit integers do.
fn grey(image: DynamicImage) -> Vec<u8> {
    let luma = |p: &[u8]| {
        let weighted =
            u32::from(p[0]) * 19_595 + u32::from(p[1]) * 38_470 + u32::from(p[2]) * 7_471;
        ((weighted + 0x8000) >> 16) as u8
    };
    rgb(image).chunks_exact(3).map(luma).collect()
}

/// Keeps the first `kept` of every `channels` values.
fn keep(values: &[u8], channels: usize, kept: usize) -> Vec<u8> {
    values.chunks_exact(channels).flat_map(|pixel| &pixel[..kept]).copied().collect()
}

fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// Tells whether a JPEG file stops before its end marker.
///
/// The decoder fills what is missing with grey and says nothing, so a half downloaded file would train as a picture.
fn is_cut_short(bytes: &[u8]) -> bool {
    const SOI: [u8; 2] = [0xff, 0xd8];
    if !bytes.starts_with(&SOI) {
        return false;
    }
    let mut rest = &bytes[2..];
    loop {
        // Between segments and inside a scan alike: skip to the next marker.
        let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0xff) else {
            return true;
        };
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0xd9 => return false,
            // A stuffed zero, a restart marker or another one without a body.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = rest.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b)))
                else {
                    return true;
                };
                let Some(after) = rest.get(length..) else { return true };
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_whole_once_its_own_end_marker_is_there() {
        let thumbnail = [0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0x00, 0x02, 0x12, 0xff, 0x00, 0xff, 0xd0, 0x34];
        let cut = [&[0xff, 0xd8][..], &thumbnail, &scan].concat();
        assert!(is_cut_short(&cut), "the end marker inside a thumbnail is not the file's");
        assert!(!is_cut_short(&[&cut[..], &[0xff, 0xd9]].concat()));
        assert!((2..cut.len()).all(|length| is_cut_short(&cut[..length])));
        assert!(!is_cut_short(b"\x89PNG"), "other formats notice by themselves");
    }

    #[test]
    fn luma_is_pillows() {
        let pixel = image::RgbImage::from_pixel(1, 1, image::Rgb([10, 200, 30]));
        assert_eq!(grey(pixel.into()), [124]); // Image.new("RGB", (1, 1), (10, 200, 30)).convert("L")
    }
}
