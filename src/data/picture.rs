use super::rand_augment::Rgb;

/// An image as its format gives it: before any crop, at its own size.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// 1 or more; a model that wants more than a one-channel picture has gets that channel repeated.
    pub channels: usize,
    /// `[H, W, C]`.
    pub pixels: Pixels,
}

/// A picture's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// A photograph's, 0..255.
    U8(Vec<u8>),
    /// Made by a format that has already put them at the model's `input_size`, 0..1.
    F32(Vec<f32>),
}

/// A rectangle inside a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Picture {
    /// The box that is the whole picture.
    pub fn whole(&self) -> CropBox {
        CropBox { top: 0, left: 0, height: self.height, width: self.width }
    }
}

/// Colours as RandAugment wants them: whole levels in three channels. One channel is repeated.
impl Picture {
    pub(super) fn to_rgb(&self) -> Rgb {
        let level = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        let levels: Vec<u8> = match &self.pixels {
            Pixels::U8(levels) => levels.clone(),
            Pixels::F32(values) => values.iter().map(|value| level(*value)).collect(),
        };
        let pixels = match self.channels {
            1 => levels.iter().flat_map(|level| [*level; 3]).collect(),
            _ => levels,
        };
        Rgb { width: self.width, height: self.height, pixels }
    }
}

impl From<Rgb> for Picture {
    fn from(picture: Rgb) -> Self {
        let Rgb { width, height, pixels } = picture;
        Self { width, height, channels: 3, pixels: Pixels::U8(pixels) }
    }
}
