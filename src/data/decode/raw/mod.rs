//! Reads the unscaled numbers of image files, such as 16-bit or multi-channel TIFF.
//!
//! The recipe key `data.range` selects this way of reading. The numbers equal those of tifffile, NumPy and Pillow
//! before any conversion. [`ValueScale`] then scales `data.range` to 0..1.
//!
//! | file | channels |
//! | --- | --- |
//! | TIFF | the samples of the first page |
//! | NumPy array (`.npy`) | 1 for `[H, W]`, C for `[C, H, W]` |
//! | PNG | grey or RGB, 8 or 16 bits |
//! | JPEG, WebP, BMP, GIF | grey or RGB, 8 bits, converted as Pillow does |

pub(in crate::data) mod npy;
pub(super) mod samples;

use super::bitmap::MAX_BYTES;
use super::error::ImageError;
use super::format::Format;
use super::opened_image::OpenedImage;
use super::picture::{Colour, Picture, Pixels, ValueScale};
use super::{png_webp, tiff};

/// The unscaled numbers of an image file.
pub(in crate::data) struct RawPicture {
    pub(in crate::data) width: usize,
    pub(in crate::data) height: usize,
    pub(in crate::data) channels: usize,
    /// Unscaled numbers, `[H, W, C]`.
    pub(in crate::data) values: Vec<f32>,
}

impl RawPicture {
    /// Decodes an image file without scaling. Fails if the file does not have `channels` channels.
    ///
    /// If `channels` is 3, a file with one channel is also allowed.
    pub(in crate::data) fn decode(bytes: &[u8], channels: usize) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let raw = ImageError::catch(|| decode(bytes, channels))?;
        if raw.channels != channels && (raw.channels, channels) != (1, 3) {
            let pages = tiff::is_tiff(bytes) && tiff::has_more_pages(bytes)?;
            return Err(ImageError::Channels { file: raw.channels, recipe: channels, pages });
        }
        if raw.values.iter().any(|value| value.is_nan()) {
            return Err(ImageError::NotANumber);
        }
        Ok(raw)
    }

    /// Scales the range `scale.range` to 0..1. Clamps numbers outside the range.
    pub(in crate::data) fn scaled(self, scale: ValueScale) -> Picture {
        let [low, high] = scale.range;
        let unit = |value: f32| ((f64::from(value) - low) / (high - low)).clamp(0.0, 1.0) as f32;
        Picture {
            width: self.width,
            height: self.height,
            channels: self.channels,
            pixels: Pixels::F32(self.values.into_iter().map(unit).collect()),
        }
    }

    /// Fails if `width`, `height` or `channels` is 0, or if the picture needs too much memory.
    pub(super) fn check_size(
        width: usize,
        height: usize,
        channels: usize,
    ) -> Result<(), ImageError> {
        if width == 0 || height == 0 || channels == 0 {
            return Err(ImageError::damaged(format!("the image has no pixels: {width}x{height}")));
        }
        let values = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
        match values {
            Some(values) if values as u64 <= MAX_BYTES => Ok(()),
            _ => Err(ImageError::too_large(width as u64, height as u64)),
        }
    }
}

fn decode(bytes: &[u8], channels: usize) -> Result<RawPicture, ImageError> {
    if npy::is_npy(bytes) {
        return npy::decode(bytes);
    }
    match Format::of(bytes)? {
        Format::Tiff => tiff::raw(bytes, channels),
        Format::Png => png_webp::raw_png(bytes, channels),
        Format::Bmp | Format::Gif | Format::Jpeg | Format::Webp => {
            let colour = if channels == 1 { Colour::Grey } else { Colour::Rgb };
            Ok(of_levels(OpenedImage::levels(bytes, colour)?.whole()?))
        }
        other => Err(ImageError::Unsupported(format!(
            "mae does not support {other:?} files with `data.range`, only TIFF, PNG, .npy, JPEG, WebP, BMP and GIF files"
        ))),
    }
}

fn of_levels(picture: Picture) -> RawPicture {
    let Picture { width, height, channels, pixels } = picture;
    let Pixels::U8(levels) = pixels else { unreachable!("image files have levels") };
    RawPicture { width, height, channels, values: levels.into_iter().map(f32::from).collect() }
}

/// Returns whether a PNG or TIFF file has more than 8 bits per number.
pub(in crate::data) fn is_deep(bytes: &[u8]) -> bool {
    match Format::of(bytes) {
        Ok(Format::Png) => bytes.get(24) == Some(&16),
        Ok(Format::Tiff) => tiff::bits(bytes).is_ok_and(|bits| bits > 8),
        _ => false,
    }
}
