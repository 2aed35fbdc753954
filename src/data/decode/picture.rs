use crate::data::error::DataError;
use crate::recipe::DataPlan;

/// A decoded picture, before crop and augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Number of channels. For a model with more channels, the loader repeats a single channel.
    pub channels: usize,
    /// Pixel values, `[H, W, C]`.
    pub pixels: Pixels,
}

/// Pixel values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 8-bit values from 0 to 255, such as image files read without `data.range`.
    U8(Vec<u8>),
    /// Floats from 0 to 1, such as image files read with `data.range`.
    F32(Vec<f32>),
}

/// The colours of a decoded image: grey or RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// One channel (ITU-R 601 luma).
    Grey,
    Rgb,
}

/// How to read the pixels of an image file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Reads 8-bit values, and converts them to grey or RGB like Pillow.
    Levels(Colour),
    /// Reads the numbers in the file, and scales them to floats from 0 to 1.
    Values(ValueScale),
}

/// Number of channels, and the range of pixel values that is scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueScale {
    pub channels: usize,
    /// The recipe key `data.range = [lo, hi]`: `lo` becomes 0, and `hi` becomes 1.
    pub range: [f64; 2],
}

/// A picture that a split returns: an undecoded image file or decoded pixels.
pub enum Stored<'a> {
    /// An undecoded image file. `reading` says how to decode the bytes.
    File {
        bytes: &'a [u8],
        reading: Reading,
    },
    Picture(Picture),
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
    /// Returns the rectangle of the whole picture.
    pub fn whole(&self) -> CropBox {
        CropBox { top: 0, left: 0, height: self.height, width: self.width }
    }
}

impl Reading {
    /// Returns how to read the image files of the recipe's data set.
    ///
    /// Without `data.range`, fails if the recipe key `data.in_chans` is not 1 or 3.
    pub(in crate::data) fn of(plan: &DataPlan) -> Result<Self, DataError> {
        let channels = plan.in_chans;
        match (plan.range, channels) {
            (Some(range), _) => Ok(Self::Values(ValueScale { channels, range })),
            (None, 1) => Ok(Self::Levels(Colour::Grey)),
            (None, 3) => Ok(Self::Levels(Colour::Rgb)),
            (None, other) => Err(DataError::setting(
                format!("cannot decode images to {other} channels (`data.in_chans = {other}`)"),
                "set `data.in_chans` to 3 for colour or to 1 for grey. To read the numbers of TIFF, PNG and .npy files, set `data.range = [lo, hi]`",
            )),
        }
    }

    /// Returns whether decoded pictures have 8-bit values.
    pub(in crate::data) fn gives_levels(self) -> bool {
        matches!(self, Self::Levels(_))
    }
}
