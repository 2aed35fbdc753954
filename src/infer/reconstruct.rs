//! Figures of reconstructions, as in Fig. 2 to 4 of the paper.

use super::error::InferError;
use super::host::host;
use super::same_encoder::same_encoder;
use crate::checkpoint::{Opened, load_module};
use crate::figure::{Figure, FigureRow, Tile};
use crate::model::{Mae, Masks};
use crate::random::{Key, NO_STAGE};
use crate::recipe::{DataPlan, Plan};
use crate::shape::{EncoderDims, ImageSize, LossPatches, MaeLoss, MaskKind, Masking};
use burn::tensor::{Device, Tensor, TensorData};

/// Grey level of removed patches in a figure, from 0 to 255.
const HIDDEN: u8 = 128;

/// A masked autoencoder, from a checkpoint or from a running training.
pub struct Autoencoder {
    pub(crate) mae: Mae,
    pub(crate) encoder: EncoderDims,
    pub(crate) loss: MaeLoss,
    pub(crate) device: Device,
    /// Name of the model in error messages.
    pub(crate) name: String,
}

/// An image that a masked autoencoder reconstructs.
pub struct ReconstructionInput {
    /// Normalized pixels, `[C, H, W]`. `H` and `W` are the `input_size` of the network.
    pub values: Vec<f32>,
    /// Index of the image. The mask of the image depends on this index.
    pub place: u64,
}

/// Kind, ratio and seed of the masks in a figure.
///
/// The mask of an image depends only on these settings and the image's index. So two networks with the same number of
/// patches get the same masks. With a larger ratio, a random mask removes the same patches and additional ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskSettings {
    pub masking: Masking,
    pub seed: u64,
}

impl Autoencoder {
    /// Loads the masked autoencoder of a checkpoint.
    ///
    /// `plan` provides settings that the tensors do not show, such as `norm_pix_loss`.
    pub fn load(opened: &Opened, plan: &Plan, device: &Device) -> Result<Self, InferError> {
        same_encoder(opened, &plan.model)?;
        let zeros = Mae::zeros(&plan.encoder_dims(), &plan.model.decoder_dims(), device);
        let mae = load_module(zeros, &opened.file, &opened.path)?;
        Ok(Self {
            mae,
            encoder: plan.encoder_dims(),
            loss: plan.pretrain.as_ref().map_or(MaeLoss::masked(false), |pretrain| pretrain.loss),
            device: device.clone(),
            name: opened.path.display().to_string(),
        })
    }

    /// Returns the loss that the model was trained with.
    ///
    /// With `norm_pix_loss`, the model predicts normalized patches. Figures then use the mean and variance of the
    /// original patches.
    pub fn loss(&self) -> MaeLoss {
        self.loss
    }

    /// Returns four pictures: original, masked image, reconstruction, and reconstruction with the visible patches.
    ///
    /// `data` provides the normalization of the image. Fails if the mask ratio removes no patch or all patches.
    pub fn tiles(
        &self,
        subject: &ReconstructionInput,
        masking: MaskSettings,
        data: &DataPlan,
    ) -> Result<Vec<Tile>, InferError> {
        let EncoderDims { in_chans, input_size: size, patch_size, .. } = self.encoder;
        let masks = self.masks(subject.place, masking)?;
        let shape = [1, in_chans, size.height, size.width];
        let imgs = TensorData::new(subject.values.clone(), shape);
        let imgs = Tensor::from_data(imgs, &self.device);
        let painted = self.mae.reconstruct(imgs, &masks, self.loss.norm_pix_loss).reshape([-1]);
        let painted = host(&painted, &shape)?.values;
        if !painted.iter().all(|value| value.is_finite()) {
            return Err(InferError::Setting {
                problem: format!(
                    "cannot reconstruct with {}: the output of the network contains NaN or infinity",
                    self.name
                ),
                hint: "download the checkpoint again, or use another checkpoint".to_owned(),
            });
        }
        let (original, painted) = (tile(&subject.values, size, data), tile(&painted, size, data));
        let grid = self.encoder.grid();
        let visible =
            |y: usize, x: usize| masks.mask[y / patch_size * grid.width + x / patch_size] == 0.0;
        let grey = Tile { width: size.width, rgb: vec![HIDDEN; size.area() * 3] };
        let masked = put_back(&original, &grey, visible);
        let pasted = put_back(&original, &painted, visible);
        Ok(vec![original, masked, painted, pasted])
    }

    fn masks(&self, place: u64, masking: MaskSettings) -> Result<Masks, InferError> {
        let MaskSettings { masking, seed } = masking;
        let Masking { kind, ratio: mask_ratio, .. } = masking;
        if kind == MaskKind::Grid && (mask_ratio - Masking::GRID_RATIO).abs() > 1e-9 {
            return Err(InferError::Setting {
                problem: format!(
                    "cannot mask an image: grid masks keep one of every four patches, but the mask ratio is {mask_ratio}"
                ),
                hint: "set a mask ratio of 0.75, or add `--set pretrain.mask=random`".to_owned(),
            });
        }
        let grid = self.encoder.grid();
        let (patches, kept) = (grid.area(), masking.len_keep(grid));
        if kept == 0 || kept >= patches {
            let what = if kept == 0 { "keeps" } else { "removes" };
            return Err(InferError::Setting {
                problem: format!(
                    "cannot mask an image: the mask ratio {mask_ratio} {what} none of the {patches} patches"
                ),
                hint: "set a mask ratio closer to 0.75".to_owned(),
            });
        }
        let key = Key { seed, stage: NO_STAGE, epoch: 0 };
        Ok(Masks::draw(masking, grid, &[place], key))
    }
}

/// Describes the masks for the label of a figure, one entry per line.
pub fn mask_label(masking: Masking) -> Vec<String> {
    let Masking { kind, ratio, granularity } = masking;
    let mut label = vec![format!("mask ratio {ratio}")];
    if kind != MaskKind::Random {
        label.push(format!("{kind} mask"));
    }
    if granularity > 1 {
        label.push(format!("{granularity} x {granularity} patches"));
    }
    label
}

/// Replaces pixels of `under` by those of `over`, wherever `visible(row, column)` is true.
fn put_back(over: &Tile, under: &Tile, visible: impl Fn(usize, usize) -> bool) -> Tile {
    let width = over.width;
    let pixels = over.rgb.chunks_exact(3).zip(under.rgb.chunks_exact(3)).enumerate();
    let rgb = pixels.flat_map(|(i, (over, under))| {
        let pixel = if visible(i / width, i % width) { over } else { under };
        [pixel[0], pixel[1], pixel[2]]
    });
    Tile { width, rgb: rgb.collect() }
}

/// Converts normalized pixels `[C, H, W]` to an RGB picture.
fn tile(values: &[f32], size: ImageSize, data: &DataPlan) -> Tile {
    let plane = size.area();
    let level = |pixel: usize, channel: usize| {
        let channel = channel.min(data.in_chans - 1);
        let value = values[channel * plane + pixel];
        let value = value * data.std[channel] + data.mean[channel];
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let rgb = (0..plane).flat_map(|pixel| [0, 1, 2].map(|channel| level(pixel, channel)));
    Tile { width: size.width, rgb: rgb.collect() }
}

/// Combines rows from [`Autoencoder::tiles`] into a figure. Its footer explains the pictures.
///
/// `losses` are the losses that the models were trained with.
pub fn reconstructions(groups: Vec<Vec<FigureRow>>, losses: &[MaeLoss]) -> Figure {
    let mut footer = Vec::new();
    if losses.iter().any(|loss| loss.patches == LossPatches::Masked) {
        footer.push("the loss ignores visible patches, so their reconstruction is untrained");
    }
    if losses.iter().any(|loss| loss.norm_pix_loss) {
        let borrowed =
            "norm_pix_loss: reconstructed patches have the original patches' mean and variance";
        footer.push(borrowed);
    }
    Figure {
        heads: vec!["original", "masked", "reconstruction", "reconstruction\n+ visible"],
        groups,
        footer,
    }
}

#[cfg(test)]
mod tests {
    use super::{Autoencoder, HIDDEN, MaskSettings, ReconstructionInput};
    use crate::figure::Tile;
    use crate::model::{self, Mae};
    use crate::recipe::DataPlan;
    use crate::shape::{DecoderDims, EncoderDims, ImageSize, MaeLoss, Masking, Precision};
    use burn::tensor::Device;

    const SIDE: usize = 8;
    const PATCH: usize = 2;
    const LEVELS: [u8; 3] = [3, 77, 250];

    fn autoencoder(norm_pix_loss: bool) -> Autoencoder {
        let encoder = EncoderDims {
            input_size: ImageSize::square(SIDE),
            patch_size: PATCH,
            in_chans: 3,
            embed_dim: 16,
            depth: 1,
            num_heads: 2,
            mlp_dim: 32,
            norm_eps: 1e-6,
            precision: Precision::Fp32,
        };
        let decoder = DecoderDims {
            embed_dim: 16,
            depth: 1,
            num_heads: 2,
            mlp_dim: 32,
            encoder_mask_token: false,
        };
        let device = Device::flex();
        let mae = model::init_mae(Mae::zeros(&encoder, &decoder, &device), 0);
        let loss = MaeLoss::masked(norm_pix_loss);
        Autoencoder { mae, encoder, loss, device, name: "a test".to_owned() }
    }

    fn data() -> DataPlan {
        DataPlan::of_pictures(SIDE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    }

    /// Returns an image in which all pixels of a channel are equal.
    fn subject() -> ReconstructionInput {
        let data = data();
        let normalized = |c: usize| (f32::from(LEVELS[c]) / 255.0 - data.mean[c]) / data.std[c];
        let values = (0..3).flat_map(|c| vec![normalized(c); SIDE * SIDE]).collect();
        ReconstructionInput { values, place: 5 }
    }

    /// Returns the indices of the pixels that differ from the original image.
    fn changed(tile: &Tile) -> Vec<usize> {
        let pixels = tile.rgb.chunks_exact(3).enumerate();
        pixels.filter(|(_, rgb)| *rgb != LEVELS).map(|(i, _)| i).collect()
    }

    #[test]
    fn removed_patches_are_grey_or_reconstructed_and_visible_patches_are_original() {
        let masking = MaskSettings { masking: Masking::random(0.7), seed: 1 };
        let tiles = autoencoder(false).tiles(&subject(), masking, &data()).unwrap();
        assert!(changed(&tiles[0]).is_empty(), "the first tile is the original");
        let hidden = changed(&tiles[1]);
        let grey = |i: &usize| tiles[1].rgb[3 * i..][..3] == [HIDDEN; 3];
        assert!(hidden.iter().all(grey));
        // The mask keeps int(16 * 0.3) = 4 whole patches.
        assert_eq!(hidden.len(), (16 - 4) * PATCH * PATCH);
        let patch = |i: &usize| (i / SIDE / PATCH, i % SIDE / PATCH);
        assert_eq!(hidden.iter().map(patch).collect::<std::collections::BTreeSet<_>>().len(), 12);
        for i in 0..SIDE * SIDE {
            let from = if hidden.contains(&i) { 2 } else { 0 };
            assert_eq!(tiles[3].rgb[3 * i..][..3], tiles[from].rgb[3 * i..][..3], "pixel {i}");
        }
        assert_eq!(changed(&tiles[2]).len(), SIDE * SIDE, "visible patches are reconstructed, too");
    }

    #[test]
    fn the_mask_depends_only_on_seed_and_place_and_a_smaller_ratio_removes_a_subset() {
        let hidden = |norm_pix_loss, mask_ratio, seed, place| {
            let subject = ReconstructionInput { place, ..subject() };
            let masking = MaskSettings { masking: Masking::random(mask_ratio), seed };
            changed(&autoencoder(norm_pix_loss).tiles(&subject, masking, &data()).unwrap()[1])
        };
        let one = hidden(false, 0.75, 0, 0);
        assert_eq!(one, hidden(true, 0.75, 0, 0));
        assert_ne!(one, hidden(false, 0.75, 1, 0));
        assert_ne!(one, hidden(false, 0.75, 0, 1));
        let less = hidden(false, 0.5, 0, 0);
        assert!(less.len() < one.len() && less.iter().all(|i| one.contains(i)));
    }

    #[test]
    fn with_norm_pix_loss_a_patch_without_contrast_is_reconstructed_exactly() {
        let data = data();
        let flat = ReconstructionInput { values: vec![0.5; 3 * SIDE * SIDE], place: 0 };
        let masking = MaskSettings { masking: Masking::random(0.75), seed: 0 };
        let tiles = autoencoder(true).tiles(&flat, masking, &data).unwrap();
        assert_eq!(tiles[2], tiles[0], "it has the original's mean and no variance");
        let painted = &autoencoder(false).tiles(&flat, masking, &data).unwrap()[2];
        assert_ne!(*painted, tiles[0]);
    }

    #[test]
    fn a_ratio_that_removes_nothing_or_everything_is_refused() {
        for (mask_ratio, expected) in [(0.0, "removes none of the 16"), (0.99, "keeps none")] {
            let masking = MaskSettings { masking: Masking::random(mask_ratio), seed: 0 };
            let error = autoencoder(false).tiles(&subject(), masking, &data()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
