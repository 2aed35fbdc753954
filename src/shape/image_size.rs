use serde::{Deserialize, Serialize};
use std::fmt;

/// Height and width of an image (in pixels) or of a grid of patches (in patches).
///
/// In a recipe, this is one number for a square image, or `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ImageSize {
    pub height: usize,
    pub width: usize,
}

/// A size as written in a recipe: `224` or `[128, 1024]`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Side(usize),
    Sides([usize; 2]),
}

impl ImageSize {
    /// Returns the size of a square image.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    pub fn is_square(self) -> bool {
        self.height == self.width
    }

    /// Returns height times width.
    ///
    /// Returns `usize::MAX` if the product overflows.
    pub fn area(self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// Returns the length of the longer side.
    pub fn longer(self) -> usize {
        self.height.max(self.width)
    }

    /// Returns how many whole squares with side `side` fit along the height and the width.
    #[must_use]
    pub fn in_squares_of(self, side: usize) -> Self {
        Self { height: self.height / side, width: self.width / side }
    }

    /// Multiplies the height and the width by `side`.
    #[must_use]
    pub fn times(self, side: usize) -> Self {
        Self { height: self.height * side, width: self.width * side }
    }
}

impl From<usize> for ImageSize {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

impl From<Written> for ImageSize {
    fn from(written: Written) -> Self {
        match written {
            Written::Side(side) => Self::square(side),
            Written::Sides([height, width]) => Self { height, width },
        }
    }
}

impl From<ImageSize> for Written {
    fn from(size: ImageSize) -> Self {
        if size.is_square() {
            Self::Side(size.height)
        } else {
            Self::Sides([size.height, size.width])
        }
    }
}

impl fmt::Display for ImageSize {
    /// Writes the size as in a recipe: `224`, or `[128, 1024]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_square() {
            write!(f, "{}", self.height)
        } else {
            write!(f, "[{}, {}]", self.height, self.width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageSize;

    #[test]
    fn the_area_of_an_impossible_size_does_not_wrap() {
        assert_eq!(ImageSize { height: 3, width: 4 }.area(), 12);
        let half = 1 << (usize::BITS / 2);
        assert_eq!(ImageSize { height: half, width: half }.area(), usize::MAX);
    }
}
