//! Image files to pixels, as Pillow's `open().convert("RGB")` or `convert("L")` gives them.

use std::io::Cursor;
use std::panic::catch_unwind;
use std::path::Path;
use std::{fmt, fs};

use image::{DynamicImage, ImageReader, Limits};

use super::error::DataError;
use super::jpeg::{self, Decoded, Jpeg};
use super::picture::{CropBox, Picture, Pixels};
use super::split::{Split, Stored};

/// Channels that photographs are decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
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

/// Gives picture `index` of a split, decoded.
pub fn picture(split: &dyn Split, index: usize) -> Result<Picture, DataError> {
    let mut buffer = Vec::new();
    let whole = OpenedImage::stored(split.read(index, &mut buffer)?).and_then(OpenedImage::whole);
    whole.map_err(|problem| DataError::bad_image(&split.name(index), problem))
}

/// Reads and decodes the image file at `path`; what it is is told by its content, not by its name.
pub(super) fn decode_file(path: &Path, colour: Colour) -> Result<Picture, DataError> {
    if path.is_dir() {
        return Err(DataError::layout(path, "a folder, not a picture", "name the pictures in it"));
    }
    let bytes = fs::read(path).map_err(|e| DataError::unreadable(path, e))?;
    let whole = OpenedImage::file(&bytes, colour).and_then(OpenedImage::whole);
    whole.map_err(|problem| DataError::bad_image(path, problem))
}

/// A picture whose size is known, before its pixels are needed.
pub(super) enum OpenedImage<'a> {
    Jpeg(Jpeg<'a>, Colour),
    Picture(Picture),
}

impl<'a> OpenedImage<'a> {
    /// Opens what a split keeps. An error says what is wrong with it, not where it is.
    pub(super) fn stored(stored: Stored<'a>) -> Result<Self, String> {
        match stored {
            Stored::File { bytes, colour } => Self::file(bytes, colour),
            Stored::Picture(picture) => Ok(Self::Picture(picture)),
        }
    }

    fn file(bytes: &'a [u8], colour: Colour) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".to_owned());
        }
        if is_cut_short(bytes) {
            return Err("the JPEG file is truncated: it has no end".to_owned());
        }
        if jpeg::is_jpeg(bytes) {
            let jpeg = Jpeg::open(bytes).map_err(undecodable)?;
            let (width, height) = jpeg.size();
            if (width * height * 3) as u64 > MAX_BYTES {
                return Err(undecodable(format!("{width}x{height} pixels are too many")));
            }
            return Ok(Self::Jpeg(jpeg, colour));
        }
        // A decoder that panics has met a file that it cannot decode, and no more.
        let decoded =
            catch_unwind(|| decode(bytes)).map_err(|_| undecodable("its decoder broke off"))?;
        Ok(Self::Picture(convert(decoded.map_err(undecodable)?, colour)))
    }

    /// Width and height.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Jpeg(jpeg, _) => jpeg.size(),
            Self::Picture(picture) => (picture.width, picture.height),
        }
    }

    /// Gives a picture that holds the pixels inside `crop`, and where in it they are.
    pub(super) fn around(self, crop: CropBox) -> Result<(Picture, CropBox), String> {
        match self {
            Self::Jpeg(jpeg, colour) => {
                let decoded = jpeg.region(crop).map_err(undecodable)?;
                Ok(from_jpeg(decoded, colour))
            }
            Self::Picture(picture) => Ok((picture, crop)),
        }
    }

    /// As [`Self::around`], but a JPEG is decoded in 1/8, 1/4 or 1/2 of its size where the crop keeps at least `side`
    /// pixels in width and height.
    pub(super) fn fast_around(
        self,
        crop: CropBox,
        side: usize,
    ) -> Result<(Picture, CropBox), String> {
        let Self::Jpeg(jpeg, colour) = self else { return self.around(crop) };
        let fits = |shrink: &usize| crop.width.min(crop.height) >= shrink * side;
        let decoded = match [8, 4, 2].into_iter().find(fits) {
            Some(shrink) => jpeg.small_region(crop, shrink),
            None => jpeg.region(crop),
        };
        Ok(from_jpeg(decoded.map_err(undecodable)?, colour))
    }

    /// Decodes all of it.
    pub(super) fn whole(self) -> Result<Picture, String> {
        Ok(self.whole_and_warning()?.0)
    }

    /// Decodes all of it; gives beside it what is wrong with a file that is decoded as far as it goes.
    pub(super) fn whole_and_warning(self) -> Result<(Picture, Option<String>), String> {
        match self {
            Self::Jpeg(jpeg, colour) => {
                let (width, height) = jpeg.size();
                let all = CropBox { top: 0, left: 0, height, width };
                let mut decoded = jpeg.region(all).map_err(undecodable)?;
                let warning = decoded.warning.take();
                Ok((from_jpeg(decoded, colour).0, warning))
            }
            Self::Picture(picture) => Ok((picture, None)),
        }
    }
}

fn from_jpeg(decoded: Decoded, colour: Colour) -> (Picture, CropBox) {
    let Decoded { width, height, pixels, crop, .. } = decoded;
    let (channels, levels) = match colour {
        Colour::Rgb => (3, pixels),
        Colour::Grey => (1, luma(&pixels)),
    };
    (Picture { width, height, channels, pixels: Pixels::U8(levels) }, crop)
}

fn undecodable(problem: impl fmt::Display) -> String {
    format!("cannot be decoded: {problem}")
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

/// Alpha is dropped, not blended. Of 16-bit colours the high byte is kept, while 16-bit grey above 255 is cut to white: so does
/// Pillow, and so do the official results.
fn convert(image: DynamicImage, colour: Colour) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (channels, bytes) = match colour {
        Colour::Rgb => (3, rgb(image)),
        Colour::Grey => (1, luma(&rgb(image))),
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
        DynamicImage::ImageLuma16(pixels) => {
            grey_to_rgb(pixels.as_raw().iter().map(|v| (*v).min(255) as u8).collect())
        }
        DynamicImage::ImageLumaA16(pixels) => grey_to_rgb(keep(&high_bytes(pixels.as_raw()), 2, 1)),
        other => other.into_rgb8().into_raw(),
    }
}

/// Grey stays as it is, since the weights add up to 65,536; colours are weighted as Pillow's 16-bit integers do.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let level = |[r, g, b]: &[u8; 3]| {
        let weighted = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7_471;
        ((weighted + 0x8000) >> 16) as u8
    };
    rgb.as_chunks().0.iter().map(level).collect()
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
        let Some(at) = memchr::memchr(0xff, rest) else { return true };
        let Some(marker) = rest.get(at + 1).copied() else { return true };
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            0xd9 => return false,
            // Filling, a stuffed zero, a restart marker or another one without a body.
            0xff | 0x00 | 0x01 | 0xd0..=0xd8 => {}
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
        assert_eq!(luma(&[10, 200, 30]), [124]); // Image.new("RGB", (1, 1), (10, 200, 30)).convert("L")
    }
}
