use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::data::decode::error::ImageError;
use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Colour, Pixels, Reading, Stored};
use crate::data::decode::raw::{RawPicture, is_deep};
use crate::data::error::DataError;
use crate::data::formats::split::Split;

use super::numbers::ImageNumbers;

pub(super) struct Looked {
    pub(super) result: Result<Image, DataError>,
    /// Path of the image if there is an error or a warning; otherwise `None`.
    pub(super) name: Option<PathBuf>,
}

/// Size and statistics of a decoded image.
pub(super) struct Image {
    /// Width and height in pixels.
    pub(super) size: (usize, usize),
    pub(super) bytes: u64,
    pub(super) hash: [u8; 32],
    pub(super) warning: Option<String>,
    /// For each channel, `[mean, mean square]` of the pixel values (0 to 1).
    pub(super) moments: Vec<[f64; 2]>,
    /// The pixel values in the file, before scaling. Kept if they have more than 8 bits, or if `data.range` is set.
    pub(super) numbers: Option<ImageNumbers>,
    /// Whether the decoder reduced the pixel values to 8 bits.
    pub(super) is_cut: bool,
}

/// Reads and decodes image `index` of a split. If `with_numbers` is true, also keeps the unscaled pixel values.
pub(super) fn look_at(
    split: &dyn Split,
    index: usize,
    with_numbers: bool,
    buffer: &mut Vec<u8>,
) -> Looked {
    let images = with_numbers.then(|| split.len());
    let bad_image = |error: ImageError| error.of(&split.name(index));
    let result =
        split.read(index, buffer).and_then(|stored| image(stored, images).map_err(bad_image));
    let named = !matches!(&result, Ok(Image { warning: None, .. }));
    Looked { result, name: named.then(|| split.name(index)) }
}

/// Decodes an image. If `images` is not `None`, also keeps the unscaled pixel values.
///
/// `images` is the number of images that share the memory for these values.
fn image(stored: Stored<'_>, images: Option<usize>) -> Result<Image, ImageError> {
    let (bytes, hash) = match &stored {
        Stored::File { bytes, .. } => (bytes.len(), Sha256::digest(bytes)),
        Stored::Picture(picture) => match &picture.pixels {
            Pixels::U8(levels) => (levels.len(), Sha256::digest(levels)),
            Pixels::F32(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (bytes.len(), Sha256::digest(&bytes))
            }
        },
    };
    let mut is_cut = false;
    let (picture, warning, numbers) = match stored {
        Stored::File { bytes, reading: Reading::Values(scale) } => {
            let raw = RawPicture::decode(bytes, scale.channels)?;
            let numbers = images.map(|images| ImageNumbers::of(&raw, images));
            (raw.scaled(scale), None, numbers)
        }
        Stored::File { bytes, reading: Reading::Levels(colour) } if is_deep(bytes) => {
            is_cut = true;
            let numbers = images.and_then(|images| cut_numbers(bytes, colour, images));
            (OpenedImage::stored(stored)?.whole()?, None, numbers)
        }
        stored => {
            let (picture, warning) = OpenedImage::stored(stored)?.whole_and_warning()?;
            (picture, warning, None)
        }
    };
    let moments = (0..picture.channels).map(|channel| match &picture.pixels {
        Pixels::U8(levels) => moments_of_levels(levels, channel, picture.channels),
        Pixels::F32(values) => moments_of_values(values, channel, picture.channels),
    });
    Ok(Image {
        size: (picture.width, picture.height),
        bytes: bytes as u64,
        hash: hash.into(),
        warning,
        moments: moments.collect(),
        numbers,
        is_cut,
    })
}

/// Returns the unscaled pixel values of a file with more than 8 bits; `None` if decoding fails.
fn cut_numbers(bytes: &[u8], colour: Colour, images: usize) -> Option<ImageNumbers> {
    let channels = if colour == Colour::Grey { 1 } else { 3 };
    // The file may have a different number of channels than the recipe. The decoder then converts the colours.
    let raw = match RawPicture::decode(bytes, channels) {
        Err(ImageError::Channels { file, .. }) => RawPicture::decode(bytes, file).ok()?,
        raw => raw.ok()?,
    };
    Some(ImageNumbers::of(&raw, images))
}

fn moments_of_levels(levels: &[u8], channel: usize, channels: usize) -> [f64; 2] {
    let (mut sum, mut squares) = (0u64, 0u64);
    for level in levels.iter().skip(channel).step_by(channels) {
        let level = u64::from(*level);
        sum += level;
        squares += level * level;
    }
    let pixels = (levels.len() / channels) as f64;
    [sum as f64 / 255.0 / pixels, squares as f64 / (255.0 * 255.0) / pixels]
}

fn moments_of_values(values: &[f32], channel: usize, channels: usize) -> [f64; 2] {
    let values = || values.iter().skip(channel).step_by(channels).map(|v| f64::from(*v));
    let pixels = values().count() as f64;
    [values().sum::<f64>() / pixels, values().map(|v| v * v).sum::<f64>() / pixels]
}
