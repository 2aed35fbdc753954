//! The picture type of colour jitter and RandAugment: 8-bit RGB.

use crate::data::decode::picture::{Picture, Pixels};

/// An 8-bit RGB picture with at least one pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    /// Pixel values, `[H, W, 3]`.
    pub pixels: Vec<u8>,
}

impl Rgb {
    pub(super) fn colours(&self) -> &[[u8; 3]] {
        self.pixels.as_chunks().0
    }

    pub(super) fn with_colours(&self, colours: Vec<[u8; 3]>) -> Self {
        Self { width: self.width, height: self.height, pixels: colours.into_flattened() }
    }
}

/// Converts a picture to 8-bit RGB. Scales floats (0..1) to 0..=255. Repeats a grey channel three times.
impl From<&Picture> for Rgb {
    fn from(picture: &Picture) -> Self {
        let level = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        let levels: Vec<u8> = match &picture.pixels {
            Pixels::U8(levels) => levels.clone(),
            Pixels::F32(values) => values.iter().map(|value| level(*value)).collect(),
        };
        let pixels = match picture.channels {
            1 => levels.iter().flat_map(|level| [*level; 3]).collect(),
            _ => levels,
        };
        Self { width: picture.width, height: picture.height, pixels }
    }
}

impl From<Rgb> for Picture {
    fn from(picture: Rgb) -> Self {
        let Rgb { width, height, pixels } = picture;
        Self { width, height, channels: 3, pixels: Pixels::U8(pixels) }
    }
}
