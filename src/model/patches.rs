//! Converts images to patches and back.

use crate::shape::{EncoderDims, ImageSize, Precision};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Cuts images `[N, C, H, W]` into patches `[N, L, P]`.
///
/// The values of a patch are ordered by row, column and channel, as in the decoder's output. Panics unless `H` and `W`
/// are multiples of `patch_size`.
pub fn patchify(imgs: Tensor<4>, patch_size: usize) -> Tensor<3> {
    let (x, [n, gh, gw, p, c]) = split(imgs, patch_size);
    // [N, C, gh, p, gw, q] -> [N, gh, gw, p, q, C]
    x.permute([0, 2, 4, 3, 5, 1]).reshape([n, gh * gw, p * p * c])
}

/// Joins patches `[N, L, P]` into images `[N, C, H, W]`. `grid` is the number of patches along each axis.
///
/// This is the inverse of [`patchify`].
pub fn unpatchify(x: Tensor<3>, patch_size: usize, grid: ImageSize) -> Tensor<4> {
    let [n, _, values] = x.dims();
    let ImageSize { height: gh, width: gw } = grid;
    let c = values / (patch_size * patch_size);
    x.reshape([n, gh, gw, patch_size, patch_size, c]).permute([0, 5, 1, 3, 2, 4]).reshape([
        n,
        c,
        gh * patch_size,
        gw * patch_size,
    ])
}

/// Reshapes images to `[N, C, gh, patch_size, gw, patch_size]`. `gh` and `gw` are the numbers of patches.
///
/// Also returns the sizes `[N, gh, gw, patch_size, C]`.
fn split(imgs: Tensor<4>, patch_size: usize) -> (Tensor<6>, [usize; 5]) {
    let [n, c, h, w] = imgs.dims();
    assert!(
        h % patch_size == 0 && w % patch_size == 0,
        "recipe::resolve refuses other input sizes"
    );
    let (gh, gw) = (h / patch_size, w / patch_size);
    (imgs.reshape([n, c, gh, patch_size, gw, patch_size]), [n, gh, gw, patch_size, c])
}

/// Patch embedding: a convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    pub proj: PatchProjection,
    #[module(skip)]
    precision: Precision,
}

/// Parameters of the convolution. `weight` is `[D, C, patch_size, patch_size]`.
#[derive(Module, Debug)]
pub struct PatchProjection {
    pub weight: Param<Tensor<4>>,
    pub bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    /// Creates a patch embedding with zero weights.
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
    /// The values of a patch are ordered by channel, row and column, as in the convolution's weight.
    pub fn cut(&self, imgs: Tensor<4>) -> Tensor<3> {
        let patch_size = self.proj.weight.dims()[2];
        let (x, [n, gh, gw, p, c]) = split(imgs, patch_size);
        x.permute([0, 2, 4, 1, 3, 5]).reshape([n, gh * gw, c * p * p])
    }

    /// Embeds patches `[N, K, P]` from [`PatchEmbed::cut`]. Returns fp32 `[N, K, D]`.
    ///
    /// `K` may be smaller than the number of patches in an image.
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
    use crate::shape::ImageSize;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn unpatchify_undoes_patchify() {
        let device = Device::flex();
        for [h, w] in [[8, 8], [4, 16], [12, 8]] {
            let imgs = Tensor::<1, burn::tensor::Int>::arange(0..(2 * 3 * h * w) as i64, &device)
                .float()
                .reshape([2, 3, h, w]);
            let grid = ImageSize { height: h / 4, width: w / 4 };
            let back = unpatchify(patchify(imgs.clone(), 4), 4, grid);
            assert_eq!(imgs.into_data(), back.into_data());
        }
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
