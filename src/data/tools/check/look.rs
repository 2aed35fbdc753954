use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::data::decode::error::ImageError;
use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Pixels, Stored};
use crate::data::error::DataError;
use crate::data::formats::split::Split;

pub(super) struct Looked {
    pub(super) result: Result<Image, DataError>,
    /// Path of the image, but only if there is an error or a warning.
    pub(super) name: Option<PathBuf>,
}

/// Size and statistics of a decoded image.
pub(super) struct Image {
    /// Width and height in pixels.
    pub(super) size: (usize, usize),
    pub(super) bytes: u64,
    pub(super) hash: [u8; 32],
    pub(super) warning: Option<String>,
    /// For each channel, mean and mean square of the pixel values (0..1).
    pub(super) moments: Vec<[f64; 2]>,
}

/// Reads and decodes image `index` of a split.
pub(super) fn look_at(split: &dyn Split, index: usize, buffer: &mut Vec<u8>) -> Looked {
    let bad_image = |error: ImageError| DataError::bad_image(&split.name(index), &error);
    let result = split.read(index, buffer).and_then(|stored| image(stored).map_err(bad_image));
    let named = !matches!(&result, Ok(Image { warning: None, .. }));
    Looked { result, name: named.then(|| split.name(index)) }
}

fn image(stored: Stored<'_>) -> Result<Image, ImageError> {
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
    let (picture, warning) = OpenedImage::stored(stored)?.whole_and_warning()?;
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
    })
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
