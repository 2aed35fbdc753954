use crate::data::error::DataError;

/// A decoded picture, before crop and augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Number of channels. A single channel is repeated for models with more channels.
    pub channels: usize,
    /// Pixel values, `[H, W, C]`.
    pub pixels: Pixels,
}

/// Pixel values of a [`Picture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 8-bit values, for image files and for synthetic images with 1 or 3 channels.
    U8(Vec<u8>),
    /// Floats from 0 to 1, for the digits and for synthetic images with 2 or more than 3 channels.
    ///
    /// The side of these images is `input_size`.
    F32(Vec<f32>),
}

/// Whether to decode to grey or RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// One channel (ITU-R 601 luma).
    Grey,
    Rgb,
}

/// A picture of a split: an image file or decoded pixels.
pub enum Stored<'a> {
    /// The bytes of an image file, which the loader decodes to `colour`.
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
    /// Returns the rectangle of the whole picture.
    pub fn whole(&self) -> CropBox {
        CropBox { top: 0, left: 0, height: self.height, width: self.width }
    }
}

impl Colour {
    /// Returns grey for 1 channel and RGB for 3. Other numbers of channels are errors.
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
