use crate::data::error::DataError;

/// A decoded picture at its original size, before any crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Number of channels. If the model has more channels, a single channel is repeated.
    pub channels: usize,
    /// Pixel values, `[H, W, C]`.
    pub pixels: Pixels,
}

/// Pixel values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 8-bit values (0..255), for pictures from image files.
    U8(Vec<u8>),
    /// Values in 0..1, for digits and some synthetic images, which already have the model's `input_size`.
    F32(Vec<f32>),
}

/// Whether image files are decoded to grey or to RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// One channel: luma by ITU-R 601.
    Grey,
    Rgb,
}

/// A picture as a split stores it: an image file, or decoded pixels.
pub enum Stored<'a> {
    /// The bytes of an image file. The decoder converts the picture to the colour type `colour`.
    File {
        bytes: &'a [u8],
        colour: Colour,
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
    /// Returns the box that covers the whole picture.
    pub fn whole(&self) -> CropBox {
        CropBox { top: 0, left: 0, height: self.height, width: self.width }
    }
}

impl Colour {
    /// Returns the colour type for a model with `in_chans` channels: grey for 1, RGB for 3. Other numbers are errors.
    pub(in crate::data) fn of_channels(in_chans: usize) -> Result<Self, DataError> {
        match in_chans {
            1 => Ok(Self::Grey),
            3 => Ok(Self::Rgb),
            other => Err(DataError::setting(
                format!("cannot decode images with `data.in_chans = {other}` channels"),
                "set `data.in_chans` to 3 for colour, or to 1 for grey",
            )),
        }
    }
}
