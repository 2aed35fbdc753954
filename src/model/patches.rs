//! Converts images to patches and back.

use crate::shape::{EncoderDims, Precision};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Cuts images `[N, C, H, W]` into patches `[N, L, P]`.
///
/// As in the decoder's output, the values of a patch are ordered by row, column and channel. Panics unless `H` equals
/// `W` and is a multiple of `patch_size`.
pub fn patchify(imgs: Tensor<4>, patch_size: usize) -> Tensor<3> {
    let (x, [n, grid, p, c]) = split(imgs, patch_size);
    // [N, C, gh, p, gw, q] -> [N, gh, gw, p, q, C]
    x.permute([0, 2, 4, 3, 5, 1]).reshape([n, grid * grid, p * p * c])
}

/// Joins patches `[N, L, P]` from [`patchify`] into images `[N, C, H, W]`.
pub fn unpatchify(x: Tensor<3>, patch_size: usize) -> Tensor<4> {
    let [n, l, values] = x.dims();
    let grid = l.isqrt();
    let c = values / (patch_size * patch_size);
    x.reshape([n, grid, grid, patch_size, patch_size, c]).permute([0, 5, 1, 3, 2, 4]).reshape([
        n,
        c,
        grid * patch_size,
        grid * patch_size,
    ])
}

/// Reshapes images to `[N, C, grid, patch_size, grid, patch_size]`.
///
/// Also returns the sizes `[N, grid, patch_size, C]`.
fn split(imgs: Tensor<4>, patch_size: usize) -> (Tensor<6>, [usize; 4]) {
    let [n, c, h, w] = imgs.dims();
    assert!(h == w && h % patch_size == 0, "recipe::resolve refuses other input sizes");
    let grid = h / patch_size;
    (imgs.reshape([n, c, grid, patch_size, grid, patch_size]), [n, grid, patch_size, c])
}

/// The patch embedding: a convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    pub proj: PatchProjection,
    #[module(skip)]
    precision: Precision,
}

/// The parameters of the convolution. `weight` is `[D, C, patch_size, patch_size]`.
#[derive(Module, Debug)]
pub struct PatchProjection {
    pub weight: Param<Tensor<4>>,
    pub bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    /// Allocates a patch embedding with zero weights.
    pub fn zeros(dims: &EncoderDims, device: &Device) -> Self {
        let p = dims.patch_size;
        let weight = Tensor::zeros([dims.embed_dim, dims.in_chans, p, p], device);
        let bias = Tensor::zeros([dims.embed_dim], device);
        Self {
            proj: PatchProjection {
                weight: Param::from_tensor(weight),
                bias: Param::from_tensor(bias),
            },
            precision: dims.precision,
        }
    }

    /// Cuts images `[N, C, H, W]` into patches `[N, L, P]`.
    ///
    /// As in the weight, the values of a patch are ordered by channel, row and column.
    pub fn cut(&self, imgs: Tensor<4>) -> Tensor<3> {
        let patch_size = self.proj.weight.dims()[2];
        let (x, [n, grid, p, c]) = split(imgs, patch_size);
        x.permute([0, 2, 4, 1, 3, 5]).reshape([n, grid * grid, c * p * p])
    }

    /// Embeds patches `[N, K, P]` from [`PatchEmbed::cut`], and returns fp32 `[N, K, D]`.
    ///
    /// `K` may be less than `L`, the number of patches in an image.
    pub fn forward(&self, patches: Tensor<3>) -> Tensor<3> {
        let weight = self.proj.weight.val();
        let [d, c, p, q] = weight.dims();
        let weight = weight.reshape([d, c * p * q]);
        self.precision.wide(self.precision.linear(patches, weight, self.proj.bias.val()))
    }
}

#[cfg(test)]
mod tests {
    use super::{patchify, unpatchify};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn unpatchify_undoes_patchify() {
        let device = Device::flex();
        let imgs = Tensor::<1, burn::tensor::Int>::arange(0..2 * 3 * 8 * 8, &device)
            .float()
            .reshape([2, 3, 8, 8]);
        let back = unpatchify(patchify(imgs.clone(), 4), 4);
        assert_eq!(imgs.into_data(), back.into_data());
    }

    #[test]
    fn a_patch_is_ordered_row_column_channel() {
        let device = Device::flex();
        let imgs = Tensor::<1, burn::tensor::Int>::arange(0..2 * 4 * 4, &device)
            .float()
            .reshape([1, 2, 4, 4]);
        let first: Vec<f32> =
            patchify(imgs, 2).slice([0..1, 0..1]).into_data().try_into_vec().unwrap();
        assert_eq!(first, vec![0.0, 16.0, 1.0, 17.0, 4.0, 20.0, 5.0, 21.0]);
    }
}
