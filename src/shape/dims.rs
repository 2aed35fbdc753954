//! Dimensions of the networks, and the official code's arithmetic for them.

use super::Precision;

/// Dimensions of the encoder, plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDims {
    /// Side of the square image, in pixels.
    pub input_size: usize,
    pub patch_size: usize,
    pub in_chans: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the hidden layer of a block's MLP.
    pub mlp_dim: usize,
    /// Epsilon beside the variance in every `LayerNorm`; the official code has 1e-6.
    pub norm_eps: f64,
    /// Of products and activations.
    pub precision: Precision,
}

impl EncoderDims {
    /// Patches on a side of the image.
    pub fn grid(&self) -> usize {
        self.input_size / self.patch_size
    }

    /// `L`, patches in an image.
    pub fn num_patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// `P`, values in a patch.
    pub fn patch_values(&self) -> usize {
        self.patch_size * self.patch_size * self.in_chans
    }
}

/// Width of an MLP's hidden layer: `int(width * mlp_ratio)`, as the official code counts.
///
/// A ratio that was made of two widths, as 120 / 44, gives its 120 back.
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
}

/// Number of patches kept: `int(L * (1 - mask_ratio))`, in the official code's arithmetic (f64).
pub fn len_keep(num_patches: usize, mask_ratio: f64) -> usize {
    (num_patches as f64 * (1.0 - mask_ratio)) as usize
}
