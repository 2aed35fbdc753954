use crate::data::error::DataError;

/// A decoded picture at its original size, before any crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Number of channels. A single channel is repeated if the model has more.
    pub channels: usize,
    /// `[H, W, C]`.
    pub pixels: Pixels,
}

/// The values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Levels in 0..255, for pictures from image files.
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

/// A picture in the form in which a split stores it.
pub enum Stored<'a> {
    /// The bytes of an image file, and the channels of the decoded picture.
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
    /// Returns the kind of pictures for a model with `in_chans` channels. Fails unless `in_chans` is 1 or 3.
    pub(in crate::data) fn of_channels(in_chans: usize) -> Result<Self, DataError> {
        match in_chans {
            1 => Ok(Self::Grey),
            3 => Ok(Self::Rgb),
            other => Err(DataError::setting(
                format!("cannot decode images to data.in_chans = {other} channels"),
                "set data.in_chans = 3 for colour or 1 for grey",
            )),
        }
    }
}
