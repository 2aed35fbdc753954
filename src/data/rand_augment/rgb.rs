//! The pictures that RandAugment works on.

/// A picture of bytes in three channels, at least one pixel wide and high.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    /// `[H, W, 3]`.
    pub pixels: Vec<u8>,
}

impl Rgb {
    /// The pixels in reading order.
    pub(super) fn colours(&self) -> &[[u8; 3]] {
        self.pixels.as_chunks().0
    }

    /// Gives a picture of the same size with other pixels.
    pub(super) fn with_colours(&self, colours: Vec<[u8; 3]>) -> Self {
        Self { width: self.width, height: self.height, pixels: colours.into_flattened() }
    }
}
