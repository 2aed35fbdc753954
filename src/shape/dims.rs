//! Dimensions of the networks, computed as in the official code.

use super::{ImageSize, Precision};

/// Dimensions of the encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDims {
    /// Height and width of the input image, in pixels.
    pub input_size: ImageSize,
    pub patch_size: usize,
    pub in_chans: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the hidden layer in the MLP of a block.
    pub mlp_dim: usize,
    /// Epsilon of every `LayerNorm`; 1e-6 in the official code.
    pub norm_eps: f64,
    /// Precision of matrix products and activations.
    pub precision: Precision,
}

impl EncoderDims {
    /// Returns the numbers of patches along the height and the width of the image.
    pub fn grid(&self) -> ImageSize {
        self.input_size.in_squares_of(self.patch_size)
    }

    /// Returns `L`, the number of patches in an image.
    pub fn num_patches(&self) -> usize {
        self.grid().area()
    }

    /// Returns `P`, the number of values in a patch: pixels times channels.
    pub fn patch_values(&self) -> usize {
        self.patch_size * self.patch_size * self.in_chans
    }
}

/// Returns the hidden width of an MLP: `int(width * mlp_ratio)`, as in the official code.
///
/// Corrects rounding errors: width 44 with ratio 120 / 44 gives 120, not 119.
pub fn mlp_dim(width: usize, mlp_ratio: f64) -> usize {
    (width as f64 * mlp_ratio + 1e-6) as usize
}

/// Dimensions of MAE's decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderDims {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_dim: usize,
    /// Whether the encoder already gets the mask tokens, so that its output has all patches.
    ///
    /// False in the paper: only the decoder gets mask tokens.
    pub encoder_mask_token: bool,
}

/// Returns the number of visible patches: `int(num_patches * (1 - mask_ratio))`.
///
/// The product is computed in f64, as in the official code.
pub fn len_keep(num_patches: usize, mask_ratio: f64) -> usize {
    (num_patches as f64 * (1.0 - mask_ratio)) as usize
}
