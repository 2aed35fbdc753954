//! How a pre-training chooses the patches that it hides from the encoder.

use super::{ImageSize, len_keep};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

// Not a doc comment, because it would appear in the JSON schema of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskKind {
    Random,
    Block,
    Grid,
}

impl fmt::Display for MaskKind {
    /// Writes the value as in a recipe, such as `random`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Block => "block",
            Self::Grid => "grid",
        })
    }
}

/// Settings of the masks in pre-training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    pub kind: MaskKind,
    /// Fraction of the patches that are hidden.
    pub ratio: f64,
    /// Side of the squares that a random mask hides or keeps as a whole, in patches; 1 in the paper.
    ///
    /// Always 1 for block and grid masks.
    pub granularity: usize,
}

impl Masking {
    /// Mask ratio of grid masks, which keep one of every four patches.
    pub const GRID_RATIO: f64 = 0.75;

    /// Returns the settings for random masks of single patches, as in the official code.
    pub fn random(ratio: f64) -> Self {
        Self { kind: MaskKind::Random, ratio, granularity: 1 }
    }

    /// Returns the number of patches that the encoder sees.
    ///
    /// `grid` is the number of patches along the height and the width of the image.
    pub fn len_keep(&self, grid: ImageSize) -> usize {
        let squares = grid.in_squares_of(self.granularity).area();
        len_keep(squares, self.ratio) * self.granularity.pow(2)
    }
}
