//! The masked autoencoder (paper §3, official `MaskedAutoencoderViT`).

use super::block::{Block, select_rows};
use super::layers::{LayerNorm, Linear};
use super::masking::Masks;
use super::patches::{PatchEmbed, patchify, unpatchify};
use super::pos_embed::sincos_pos_embed;
use crate::ops;
use crate::shape::{DecoderDims, EncoderDims, ImageSize, LossPatches, MaeLoss};
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A masked autoencoder.
///
/// The encoder sees only the kept patches. A small decoder predicts the pixels of all patches.
#[derive(Module, Debug)]
pub struct Mae {
    pub cls_token: Param<Tensor<3>>,
    /// Fixed sin-cos position embeddings of the encoder, `[1, 1 + L, D]`.
    ///
    /// Checkpoints store these embeddings, but training does not change them.
    pub pos_embed: Param<Tensor<3>>,
    /// Mask token in the input of the decoder, `[1, 1, D]`. It stands for each removed patch.
    pub mask_token: Option<Param<Tensor<3>>>,
    /// Mask token in the input of the encoder (paper, table 1c). It replaces the decoder's mask token, which is then
    /// `None`.
    pub encoder_mask_token: Option<Param<Tensor<3>>>,
    pub decoder_pos_embed: Param<Tensor<3>>,
    pub patch_embed: PatchEmbed,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
    pub decoder_embed: Linear,
    pub decoder_blocks: Vec<Block>,
    pub decoder_norm: LayerNorm,
    pub decoder_pred: Linear,
    #[module(skip)]
    patch_size: usize,
}

/// The index tensors of [`Masks`] on the device.
#[derive(Clone)]
pub(super) struct MaskRows {
    /// Index of each kept patch among the patches of the whole batch, `[N * K]`.
    keep: Tensor<1, Int>,
    /// Index of each kept patch among the patches of its image, `[N * K]`.
    keep_in_image: Tensor<1, Int>,
    /// Index of each patch in the batch after shuffling, `[N * L]`.
    restore: Tensor<1, Int>,
    /// The inverse permutation of `restore`, `[N * L]`.
    shuffle: Tensor<1, Int>,
    /// 1 for a removed patch, 0 for a kept patch, `[N, L]`.
    removed: Tensor<2>,
    /// Index of each removed patch in the whole batch, `[N * (L - K)]`.
    removed_patches: Tensor<1, Int>,
    /// The same among the tokens of the decoder, which has a class token per image.
    pub(super) removed_tokens: Tensor<1, Int>,
}

impl MaskRows {
    pub(super) fn new(masks: &Masks, device: &Device) -> Self {
        let n = masks.len();
        let l = masks.mask.len() / n;
        let rows = |ids: &[i32], per_image: usize| -> Vec<i32> {
            ids.iter().enumerate().map(|(i, id)| (i / per_image * l) as i32 + id).collect()
        };
        let ints = |ids: Vec<i32>| {
            let len = ids.len();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [len]), device)
        };
        let is_removed = masks.mask.iter().enumerate().filter(|(_, mask)| **mask > 0.0);
        let restore = rows(&masks.ids_restore, l);
        let mut shuffle = vec![0; restore.len()];
        for (patch, shuffled) in restore.iter().enumerate() {
            shuffle[*shuffled as usize] = patch as i32;
        }
        let removed: Vec<i32> = is_removed.map(|(patch, _)| patch as i32).collect();
        Self {
            keep: ints(rows(&masks.ids_keep, masks.len_keep)),
            keep_in_image: ints(masks.ids_keep.clone()),
            restore: ints(restore),
            shuffle: ints(shuffle),
            removed: Tensor::from_data(TensorData::new(masks.mask.clone(), [n, l]), device),
            removed_tokens: ints(removed.iter().map(|at| at + at / l as i32 + 1).collect()),
            removed_patches: ints(removed),
        }
    }
}

/// The result of [`Mae::forward`].
pub struct MaeOutput {
    /// Mean squared error over the removed patches or over all patches, `[1]`.
    pub loss: Tensor<1>,
    /// Predicted pixels of every patch, `[N, L, P]`.
    pub pred: Tensor<3>,
}

impl Mae {
    /// Creates the network with zero weights, and with fixed position embeddings.
    pub fn zeros(encoder: &EncoderDims, decoder: &DecoderDims, device: &Device) -> Self {
        let token = |d: usize| Param::from_tensor(Tensor::zeros([1, 1, d], device));
        let fixed = |d: usize| {
            let table = TensorData::new(
                sincos_pos_embed(d, encoder.grid()),
                [1, 1 + encoder.num_patches(), d],
            );
            Param::from_tensor(Tensor::from_data(table, device)).set_require_grad(false)
        };
        let eps = encoder.norm_eps;
        let block = |d: usize, heads, mlp| Block::zeros(d, heads, mlp, encoder, device);
        let linear = |d_in, d_out| Linear::zeros(d_in, d_out, encoder.precision, device);
        Self {
            cls_token: token(encoder.embed_dim),
            pos_embed: fixed(encoder.embed_dim),
            mask_token: (!decoder.encoder_mask_token).then(|| token(decoder.embed_dim)),
            encoder_mask_token: decoder.encoder_mask_token.then(|| token(encoder.embed_dim)),
            decoder_pos_embed: fixed(decoder.embed_dim),
            patch_embed: PatchEmbed::zeros(encoder, device),
            blocks: (0..encoder.depth)
                .map(|_| block(encoder.embed_dim, encoder.num_heads, encoder.mlp_dim))
                .collect(),
            norm: LayerNorm::new(encoder.embed_dim, eps, device),
            decoder_embed: linear(encoder.embed_dim, decoder.embed_dim),
            decoder_blocks: (0..decoder.depth)
                .map(|_| block(decoder.embed_dim, decoder.num_heads, decoder.mlp_dim))
                .collect(),
            decoder_norm: LayerNorm::new(decoder.embed_dim, eps, device),
            decoder_pred: linear(decoder.embed_dim, encoder.patch_values()),
            patch_size: encoder.patch_size,
        }
    }

    /// Reconstructs images `[N, C, H, W]` from their kept patches, and computes the loss.
    ///
    /// With `norm_pix_loss`, each target patch is normalized with its own mean and unbiased variance.
    pub fn forward(&self, imgs: Tensor<4>, masks: &Masks, loss: MaeLoss) -> MaeOutput {
        let rows = MaskRows::new(masks, &imgs.device());
        let latent = self.encode_rows(imgs.clone(), &rows);
        let pred = without_class_token(self.decode_rows(latent, &rows));
        MaeOutput { loss: self.score(pred.clone(), imgs, &rows, loss), pred }
    }

    /// Returns images `[N, C, H, W]` with the predicted pixels of every patch.
    ///
    /// If `norm_pix_loss` is true, the network predicts normalized patches. This function then scales each predicted
    /// patch to the mean and variance of the original patch.
    pub fn reconstruct(&self, imgs: Tensor<4>, masks: &Masks, norm_pix_loss: bool) -> Tensor<4> {
        let [_, _, height, width] = imgs.dims();
        let grid = ImageSize { height, width }.in_squares_of(self.patch_size);
        let rows = MaskRows::new(masks, &imgs.device());
        let latent = self.encode_rows(imgs.clone(), &rows);
        let pred = without_class_token(self.decode_rows(latent, &rows));
        let painted =
            if norm_pix_loss { denormalized(pred, patchify(imgs, self.patch_size)) } else { pred };
        unpatchify(painted, self.patch_size, grid)
    }

    /// Runs the encoder and its last LayerNorm. Returns tokens `[N, 1 + K, D]`.
    ///
    /// Token 0 is the class token. The next tokens are the kept patches.
    pub fn forward_encoder(&self, imgs: Tensor<4>, masks: &Masks) -> Tensor<3> {
        let rows = MaskRows::new(masks, &imgs.device());
        self.encode_rows(imgs, &rows)
    }

    fn encode_rows(&self, imgs: Tensor<4>, rows: &MaskRows) -> Tensor<3> {
        let x = self.encoder_tokens(imgs, rows);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.norm.forward(x)
    }

    /// Returns the input of the encoder's first block: the class token and the kept patches, `[N, 1 + K, D]`.
    ///
    /// With an encoder mask token, the result also has a mask token for each removed patch, `[N, 1 + L, D]`.
    pub(super) fn encoder_tokens(&self, imgs: Tensor<4>, rows: &MaskRows) -> Tensor<3> {
        let patches = self.patch_embed.cut(imgs);
        let [n, l, values] = patches.dims();
        let keep = rows.keep.dims()[0] / n;
        let kept = patches.reshape([n * l, values]).select(0, rows.keep.clone());
        let kept = kept.reshape([n, keep, values]);
        if let Some(token) = &self.encoder_mask_token {
            let x = unshuffled(self.patch_embed.forward(kept), &token.val(), rows);
            let [_, _, d] = x.dims();
            return Tensor::cat(vec![self.cls_token.val().expand([n, 1, d]), x], 1)
                + self.pos_embed.val();
        }
        let pos_embed = self.pos_embed.val();
        let d = pos_embed.dims()[2];
        let pos = pos_embed.clone().slice([0..1, 1..1 + l]).reshape([l, d]);
        let pos = pos.select(0, rows.keep_in_image.clone()).reshape([n, keep, d]);
        let x = self.patch_embed.forward(kept) + pos;
        let cls = self.cls_token.val() + pos_embed.slice([0..1, 0..1]);
        Tensor::cat(vec![cls.expand([n, 1, d]), x], 1)
    }

    /// Predicts pixels from the encoder's output.
    ///
    /// The input is `[N, 1 + K, D]`. The result is `[N, 1 + L, P]`; its first row belongs to the class token and has no
    /// meaning.
    pub fn forward_decoder(&self, latent: Tensor<3>, masks: &Masks) -> Tensor<3> {
        let rows = MaskRows::new(masks, &latent.device());
        self.decode_rows(latent, &rows)
    }

    fn decode_rows(&self, latent: Tensor<3>, rows: &MaskRows) -> Tensor<3> {
        let x = self.decoder_tokens(latent, rows);
        let x = self.decoder_blocks.iter().fold(x, |x, block| block.forward(x));
        self.predict(x)
    }

    /// Returns the input of the first decoder block, `[N, 1 + L, D]`.
    pub(super) fn decoder_tokens(&self, latent: Tensor<3>, rows: &MaskRows) -> Tensor<3> {
        let x = self.decoder_embed.forward(latent);
        let Some(token) = &self.mask_token else { return x + self.decoder_pos_embed.val() };
        let [n, tokens, _] = x.dims();
        let cls = x.clone().slice([0..n, 0..1]);
        let visible = x.slice([0..n, 1..tokens]);
        let x = unshuffled(visible, &token.val(), rows);
        Tensor::cat(vec![cls, x], 1) + self.decoder_pos_embed.val()
    }

    /// Returns predicted pixels `[N, 1 + L, P]` from the last decoder block's output.
    pub(super) fn predict(&self, x: Tensor<3>) -> Tensor<3> {
        self.decoder_pred.forward(self.decoder_norm.forward(x))
    }

    /// Returns the loss `[1]` between predicted patches `[N, L, P]` and the images.
    pub(super) fn score(
        &self,
        pred: Tensor<3>,
        imgs: Tensor<4>,
        rows: &MaskRows,
        MaeLoss { norm_pix_loss, patches }: MaeLoss,
    ) -> Tensor<1> {
        let target = target(patchify(imgs, self.patch_size), norm_pix_loss);
        let counted = match patches {
            LossPatches::Masked => rows.removed.clone(),
            LossPatches::All => rows.removed.ones_like(),
        };
        loss(pred, target, counted)
    }

    /// Returns the loss `[1]` over the removed patches, from predictions of only these patches, `[N, L - K, P]`.
    pub(super) fn score_removed(
        &self,
        pred: Tensor<3>,
        imgs: Tensor<4>,
        rows: &MaskRows,
        norm_pix_loss: bool,
    ) -> Tensor<1> {
        let patches = select_rows(patchify(imgs, self.patch_size), &rows.removed_patches);
        (pred - target(patches, norm_pix_loss)).square().mean()
    }
}

/// Puts the visible patches `[N, K, D]` at their original places, and the mask token at all other places.
fn unshuffled(visible: Tensor<3>, mask_token: &Tensor<3>, rows: &MaskRows) -> Tensor<3> {
    let [n, keep, d] = visible.dims();
    let l = rows.restore.dims()[0] / n;
    let removed = mask_token.clone().expand([n, l - keep, d]);
    let shuffled = Tensor::cat(vec![visible, removed], 1).reshape([n * l, d]);
    ops::permuted(shuffled, &rows.restore, &rows.shuffle).reshape([n, l, d])
}

pub(super) fn without_class_token(tokens: Tensor<3>) -> Tensor<3> {
    let [n, all, _] = tokens.dims();
    tokens.slice([0..n, 1..all])
}

/// Returns the pixels that the decoder should predict, `[N, L, P]` (paper §3).
fn target(patches: Tensor<3>, norm_pix_loss: bool) -> Tensor<3> {
    if !norm_pix_loss {
        return patches;
    }
    let (_, centred, spread) = moments(patches);
    centred / spread
}

/// Scales predicted patches to the mean and variance of the original `patches`.
fn denormalized(pred: Tensor<3>, patches: Tensor<3>) -> Tensor<3> {
    let (mean, _, spread) = moments(patches);
    pred * spread + mean
}

/// Returns for each patch: the mean, the pixels minus the mean, and the standard deviation.
fn moments(patches: Tensor<3>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
    let values = patches.dims()[2] as f64;
    let mean = patches.clone().mean_dim(2);
    let centred = patches - mean.clone();
    let variance = centred.clone().square().sum_dim(2) / (values - 1.0);
    (mean, centred, (variance + 1e-6).sqrt())
}

/// Returns the mean squared error `[1]` over the patches for which `counted` is 1.
fn loss(pred: Tensor<3>, target: Tensor<3>, counted: Tensor<2>) -> Tensor<1> {
    let per_patch = (pred - target).square().mean_dim(2).squeeze_dim::<2>(2);
    (per_patch * counted.clone()).sum() / counted.sum()
}

#[cfg(test)]
mod tests {
    use super::{denormalized, target};
    use burn::tensor::{Device, Int, Tensor};

    #[test]
    fn a_perfect_prediction_of_normalized_patches_gives_the_original_patches() {
        let device = Device::flex();
        let patches = Tensor::<1, Int>::arange(0..2 * 3 * 12, &device).float().reshape([2, 3, 12]);
        let patches = (patches * 0.7).sin() + 0.3;
        let normalized = target(patches.clone(), true);
        let spread: f32 = normalized.clone().square().mean().into_scalar();
        assert!(
            (spread - 11.0 / 12.0).abs() < 1e-3,
            "the variance is not the unbiased variance: {spread}"
        );
        let wrong = (denormalized(normalized, patches.clone()) - patches).abs().max();
        assert!(wrong.into_scalar::<f32>() < 1e-6);
    }
}
