use crate::data::error::DataError;

/// An image at the size its format has it, before any crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// 1 or more. A model with more channels gets a single channel repeated.
    pub channels: usize,
    /// `[H, W, C]`.
    pub pixels: Pixels,
}

/// The values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Levels of a photograph, 0..255.
    U8(Vec<u8>),
    /// Values in 0..1, of formats whose pictures have the model's `input_size` already.
    F32(Vec<f32>),
}

/// The channels that photographs are decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Luma by ITU-R 601.
    Grey,
    Rgb,
}

/// A picture as its split stores it.
pub enum Stored<'a> {
    /// The bytes of an image file, and the channels to decode them to.
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
    /// Returns the colour for a model with `data.in_chans` channels. Fails unless that is 1 or 3.
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
