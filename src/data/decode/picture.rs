use crate::data::error::DataError;
use crate::recipe::DataPlan;

/// A decoded picture, before crop and augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Number of channels. For models with more channels, a single channel is repeated.
    pub channels: usize,
    /// Pixel values, `[H, W, C]`.
    pub pixels: Pixels,
}

/// Pixel values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 8-bit values, for image files without `data.range` and for synthetic images with 1 or 3 channels.
    U8(Vec<u8>),
    /// Floats from 0 to 1, for image files with `data.range`, for the digits, and for all other synthetic images.
    ///
    /// Digits and synthetic images have the size `input_size`.
    F32(Vec<f32>),
}

/// Whether to decode to grey or RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// One channel (ITU-R 601 luma).
    Grey,
    Rgb,
}

/// How to read the pixels of an image file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// As 8-bit values, converted to grey or RGB like Pillow.
    Levels(Colour),
    /// As the numbers in the file, scaled to floats from 0 to 1.
    Values(ValueScale),
}

/// How to scale the numbers in image files: the recipe keys `data.in_chans` and `data.range`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueScale {
    pub channels: usize,
    /// The number that becomes 0, and the number that becomes 1.
    pub range: [f64; 2],
}

/// A picture as a split returns it: the bytes of an image file, or decoded pixels.
pub enum Stored<'a> {
    /// The bytes of an image file. `reading` says how to decode them.
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
    /// Fails if `data.in_chans` is not 1 or 3 and the recipe has no `data.range`.
    pub(in crate::data) fn of(plan: &DataPlan) -> Result<Self, DataError> {
        let channels = plan.in_chans;
        match (plan.range, channels) {
            (Some(range), _) => Ok(Self::Values(ValueScale { channels, range })),
            (None, 1) => Ok(Self::Levels(Colour::Grey)),
            (None, 3) => Ok(Self::Levels(Colour::Rgb)),
            (None, other) => Err(DataError::setting(
                format!("cannot decode images with `data.in_chans = {other}` channels"),
                "set `data.in_chans` to 3 for colour, or to 1 for grey; or set `data.range = [lo, hi]` to read the numbers of \
                 TIFF, PNG and .npy files",
            )),
        }
    }

    /// Returns whether this way of reading gives pictures with 8-bit values.
    pub(in crate::data) fn gives_levels(self) -> bool {
        matches!(self, Self::Levels(_))
    }
}
