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
