//! Decodes image files of any format.

use std::io::Cursor;
use std::path::Path;
use std::{fmt, fs};

use image::{DynamicImage, ImageReader, Limits};

use crate::data::error::DataError;
use crate::data::panics;

use super::error::ImageError;
use super::jpeg::{self, Decoded, Jpeg};
use super::picture::{Colour, CropBox, Picture, Pixels, Stored};

/// Maximum side of a picture in pixels, as in libjpeg.
const MAX_SIDE: u32 = 65_500;
/// Maximum size of a decoded picture in bytes, as in Pillow.
const MAX_BYTES: u64 = 512 << 20;

/// Reads and decodes the image file at `path` to RGB.
pub fn read_picture(path: &Path) -> Result<Picture, DataError> {
    decode_file(path, Colour::Rgb)
}

/// Reads and decodes an image file. Ignores the file extension.
pub(in crate::data) fn decode_file(path: &Path, colour: Colour) -> Result<Picture, DataError> {
    if path.is_dir() {
        let hint = "pass the image files in this folder";
        return Err(DataError::layout(path, "this is a folder, not an image", hint));
    }
    let bytes = fs::read(path).map_err(|e| DataError::unreadable(path, e))?;
    let whole = OpenedImage::file(&bytes, colour).and_then(OpenedImage::whole);
    whole.map_err(|error| DataError::bad_image(path, &error))
}

/// An open image. JPEG files are decoded later and only as far as needed.
pub(in crate::data) enum OpenedImage<'a> {
    Jpeg(Jpeg<'a>, Colour),
    Picture(Picture),
}

impl<'a> OpenedImage<'a> {
    /// Opens a picture of a split.
    pub(in crate::data) fn stored(stored: Stored<'a>) -> Result<Self, ImageError> {
        match stored {
            Stored::File { bytes, colour } => Self::file(bytes, colour),
            Stored::Picture(picture) => Ok(Self::Picture(picture)),
        }
    }

    fn file(bytes: &'a [u8], colour: Colour) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if is_truncated(bytes) {
            return Err(ImageError::Truncated);
        }
        if jpeg::is_jpeg(bytes) {
            let jpeg = Jpeg::open(bytes)?;
            let (width, height) = jpeg.size();
            if (width * height * 3) as u64 > MAX_BYTES {
                let most = MAX_BYTES / 3_000_000;
                return Err(undecodable(format!(
                    "{width}x{height} pixels are too many: the limit is {most} megapixels"
                )));
            }
            return Ok(Self::Jpeg(jpeg, colour));
        }
        // Some decoders panic on damaged files. Turn this into an error.
        let decoded =
            panics::catch(|| decode(bytes)).map_err(|_| undecodable("the decoder panicked"))?;
        Ok(Self::Picture(convert(decoded.map_err(undecodable)?, colour)))
    }

    /// Returns width and height in pixels.
    pub(in crate::data) fn size(&self) -> (usize, usize) {
        match self {
            Self::Jpeg(jpeg, _) => jpeg.size(),
            Self::Picture(picture) => (picture.width, picture.height),
        }
    }

    /// Decodes at least the part inside `crop`.
    ///
    /// Also returns the position of `crop` in the decoded picture.
    pub(in crate::data) fn around(self, crop: CropBox) -> Result<(Picture, CropBox), ImageError> {
        match self {
            Self::Jpeg(jpeg, colour) => Ok(from_jpeg(jpeg.region(crop)?, colour)),
            Self::Picture(picture) => Ok((picture, crop)),
        }
    }

    /// Decodes like [`Self::around`], but scales JPEG files by 1/2, 1/4 or 1/8 if possible.
    ///
    /// The scaled `crop` still has at least `side` pixels on each side.
    pub(in crate::data) fn fast_around(
        self,
        crop: CropBox,
        side: usize,
    ) -> Result<(Picture, CropBox), ImageError> {
        let Self::Jpeg(jpeg, colour) = self else { return self.around(crop) };
        let fits = |shrink: &usize| crop.width.min(crop.height) >= shrink * side;
        let decoded = match [8, 4, 2].into_iter().find(fits) {
            Some(shrink) => jpeg.small_region(crop, shrink),
            None => jpeg.region(crop),
        };
        Ok(from_jpeg(decoded?, colour))
    }

    pub(in crate::data) fn whole(self) -> Result<Picture, ImageError> {
        Ok(self.whole_and_warning()?.0)
    }

    /// Decodes the whole image. Also returns the decoder's warning about damaged data.
    pub(in crate::data) fn whole_and_warning(
        self,
    ) -> Result<(Picture, Option<String>), ImageError> {
        match self {
            Self::Jpeg(jpeg, colour) => {
                let (width, height) = jpeg.size();
                let all = CropBox { top: 0, left: 0, height, width };
                let mut decoded = jpeg.region(all)?;
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

fn undecodable(problem: impl fmt::Display) -> ImageError {
    ImageError::Undecodable(problem.to_string())
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

/// Converts an image to 8-bit RGB or grey, like Pillow. Drops the alpha channel.
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

fn luma(rgb: &[u8]) -> Vec<u8> {
    let level = |[r, g, b]: &[u8; 3]| {
        let weighted = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7_471;
        ((weighted + 0x8000) >> 16) as u8
    };
    rgb.as_chunks().0.iter().map(level).collect()
}

/// Keeps the first `kept` of `channels` values of each pixel.
fn keep(values: &[u8], channels: usize, kept: usize) -> Vec<u8> {
    values.chunks_exact(channels).flat_map(|pixel| &pixel[..kept]).copied().collect()
}

fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// Returns whether `bytes` is a JPEG file without an end marker.
fn is_truncated(bytes: &[u8]) -> bool {
    const SOI: [u8; 2] = [0xff, 0xd8];
    if !bytes.starts_with(&SOI) {
        return false;
    }
    let mut rest = &bytes[2..];
    loop {
        // Skip to the next marker, between segments or inside a scan.
        let Some(at) = memchr::memchr(0xff, rest) else { return true };
        let Some(marker) = rest.get(at + 1).copied() else { return true };
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            0xd9 => return false,
            // Fill bytes, a stuffed zero, or a marker without a body, such as a restart.
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
        assert!(is_truncated(&cut), "the end marker inside a thumbnail is not the end of the file");
        assert!(!is_truncated(&[&cut[..], &[0xff, 0xd9]].concat()));
        assert!((2..cut.len()).all(|length| is_truncated(&cut[..length])));
        assert!(!is_truncated(b"\x89PNG"), "decoders of other formats report truncated files");
    }

    #[test]
    fn luma_is_pillows() {
        assert_eq!(luma(&[10, 200, 30]), [124]); // Image.new("RGB", (1, 1), (10, 200, 30)).convert("L")
    }
}
