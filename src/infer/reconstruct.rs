//! What a masked autoencoder makes of pictures, side by side: the paper's Fig. 2 to 4.

use super::error::InferError;
use super::host::host;
use super::same_encoder::same_encoder;
use crate::checkpoint::{Opened, load_module};
use crate::figure::{Figure, FigureRow, Tile};
use crate::model::{self, Mae, Masks};
use crate::random::{Key, NO_STAGE};
use crate::recipe::{DataPlan, Plan};
use crate::shape::{self, EncoderDims};
use burn::tensor::{Device, Tensor, TensorData};

/// The level that stands for what is hidden, as in the paper.
const HIDDEN: u8 = 128;

/// A masked autoencoder that is ready to paint.
pub struct Autoencoder {
    pub(crate) mae: Mae,
    pub(crate) encoder: EncoderDims,
    pub(crate) norm_pix_loss: bool,
    pub(crate) device: Device,
    /// In words, for errors.
    pub(crate) name: String,
}

/// A picture to be masked and painted anew.
pub struct ReconstructionInput {
    /// `[C, H, W]`, normalized, at the network's `input_size`.
    pub values: Vec<f32>,
    /// Its number among the pictures of a figure.
    pub place: u64,
}

/// What is hidden of a picture.
///
/// The mask is drawn for the seed and the picture's place alone: networks with as many patches are asked the same, and a
/// smaller ratio hides a part of what a larger one hides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskSettings {
    pub mask_ratio: f64,
    pub seed: u64,
}

impl Autoencoder {
    /// Makes one of an opened checkpoint with a decoder; `plan` says what shapes do not: heads, epsilon, `norm_pix_loss`.
    pub fn load(opened: &Opened, plan: &Plan, device: &Device) -> Result<Self, InferError> {
        same_encoder(opened, &plan.model)?;
        let zeros = Mae::zeros(&plan.encoder_dims(), &plan.model.decoder_dims(), device);
        let mae = load_module(zeros, &opened.file, &opened.path)?;
        Ok(Self {
            mae,
            encoder: plan.encoder_dims(),
            norm_pix_loss: plan.pretrain.as_ref().is_some_and(|pretrain| pretrain.norm_pix_loss),
            device: device.clone(),
            name: opened.path.display().to_string(),
        })
    }

    /// Whether its reconstructions carry the mean and variance of the original's patches.
    pub fn norm_pix_loss(&self) -> bool {
        self.norm_pix_loss
    }

    /// Gives a picture four times: as it is, masked, reconstructed, and the reconstruction with the visible patches put back.
    ///
    /// `data` has the normalization. Fails where the ratio hides nothing or everything.
    pub fn tiles(
        &self,
        subject: &ReconstructionInput,
        masking: MaskSettings,
        data: &DataPlan,
    ) -> Result<Vec<Tile>, InferError> {
        let EncoderDims { in_chans, input_size: side, patch_size, .. } = self.encoder;
        let masks = self.masks(subject.place, masking)?;
        let shape = [1, in_chans, side, side];
        let imgs = TensorData::new(subject.values.clone(), shape);
        let imgs = Tensor::from_data(imgs, &self.device);
        let painted = self.mae.reconstruct(imgs, &masks, self.norm_pix_loss).reshape([-1]);
        let painted = host(&painted, &shape)?.values;
        if !painted.iter().all(|value| value.is_finite()) {
            return Err(InferError::Setting {
                problem: format!("{}: what it paints are no finite numbers", self.name),
                hint: "its weights are damaged; take another copy, or another checkpoint"
                    .to_owned(),
            });
        }
        let (original, painted) = (tile(&subject.values, side, data), tile(&painted, side, data));
        let grid = self.encoder.grid();
        let visible =
            |y: usize, x: usize| masks.mask[y / patch_size * grid + x / patch_size] == 0.0;
        let grey = Tile { side, rgb: vec![HIDDEN; side * side * 3] };
        let masked = put_back(&original, &grey, visible);
        let pasted = put_back(&original, &painted, visible);
        Ok(vec![original, masked, painted, pasted])
    }

    fn masks(&self, place: u64, masking: MaskSettings) -> Result<Masks, InferError> {
        let MaskSettings { mask_ratio, seed } = masking;
        let patches = self.encoder.num_patches();
        let kept = shape::len_keep(patches, mask_ratio);
        if kept == 0 || kept >= patches {
            let what = if kept == 0 { "keeps" } else { "hides" };
            return Err(InferError::Setting {
                problem: format!(
                    "a mask ratio of {mask_ratio} {what} none of the {patches} patches of an image"
                ),
                hint: "give one nearer to 0.75".to_owned(),
            });
        }
        let key = Key { seed, stage: NO_STAGE, epoch: 0 };
        Ok(Masks::from_noise(&model::mask_noise(&[place], patches, key), patches, mask_ratio))
    }
}

/// Gives `under` with the pixels of `over` where `visible` says so of a row and a column.
fn put_back(over: &Tile, under: &Tile, visible: impl Fn(usize, usize) -> bool) -> Tile {
    let side = over.side;
    let pixels = over.rgb.chunks_exact(3).zip(under.rgb.chunks_exact(3)).enumerate();
    let rgb = pixels.flat_map(|(i, (over, under))| {
        let pixel = if visible(i / side, i % side) { over } else { under };
        [pixel[0], pixel[1], pixel[2]]
    });
    Tile { side, rgb: rgb.collect() }
}

/// Undoes the normalization of `[C, H, W]`. Fewer channels than three are repeated, more are left out.
fn tile(values: &[f32], side: usize, data: &DataPlan) -> Tile {
    let plane = side * side;
    let level = |pixel: usize, channel: usize| {
        let channel = channel.min(data.in_chans - 1);
        let value = values[channel * plane + pixel];
        let value = value * data.std[channel] + data.mean[channel];
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let rgb = (0..plane).flat_map(|pixel| [0, 1, 2].map(|channel| level(pixel, channel)));
    Tile { side, rgb: rgb.collect() }
}

/// Gives the figure of rows of [`Autoencoder::tiles`], with what people take for faults, or for skill, in lines below.
pub fn reconstructions(groups: Vec<Vec<FigureRow>>, norm_pix_loss: bool) -> Figure {
    let mut footer =
        vec!["visible patches have no part in the loss: what is painted there is untrained"];
    if norm_pix_loss {
        let borrowed =
            "norm_pix_loss: reconstructed patches carry the original patch's mean and variance";
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
    use crate::shape::{DecoderDims, EncoderDims, Precision};
    use burn::tensor::Device;

    const SIDE: usize = 8;
    const PATCH: usize = 2;
    const LEVELS: [u8; 3] = [3, 77, 250];

    fn autoencoder(norm_pix_loss: bool) -> Autoencoder {
        let encoder = EncoderDims {
            input_size: SIDE,
            patch_size: PATCH,
            in_chans: 3,
            embed_dim: 16,
            depth: 1,
            num_heads: 2,
            mlp_dim: 32,
            norm_eps: 1e-6,
            precision: Precision::Fp32,
        };
        let decoder = DecoderDims { embed_dim: 16, depth: 1, num_heads: 2, mlp_dim: 32 };
        let device = Device::flex();
        let mae = model::init_mae(Mae::zeros(&encoder, &decoder, &device), 0);
        Autoencoder { mae, encoder, norm_pix_loss, device, name: "a test".to_owned() }
    }

    fn data() -> DataPlan {
        DataPlan::of_pictures(SIDE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    }

    /// Each channel one level, normalized.
    fn subject() -> ReconstructionInput {
        let data = data();
        let normalized = |c: usize| (f32::from(LEVELS[c]) / 255.0 - data.mean[c]) / data.std[c];
        let values = (0..3).flat_map(|c| vec![normalized(c); SIDE * SIDE]).collect();
        ReconstructionInput { values, place: 5 }
    }

    /// Pixels that are not those of the original.
    fn changed(tile: &Tile) -> Vec<usize> {
        let pixels = tile.rgb.chunks_exact(3).enumerate();
        pixels.filter(|(_, rgb)| *rgb != LEVELS).map(|(i, _)| i).collect()
    }

    #[test]
    fn hidden_patches_are_grey_or_painted_and_visible_ones_are_the_originals() {
        let masking = MaskSettings { mask_ratio: 0.7, seed: 1 };
        let tiles = autoencoder(false).tiles(&subject(), masking, &data()).unwrap();
        assert!(changed(&tiles[0]).is_empty(), "normalization is undone to the level");
        let hidden = changed(&tiles[1]);
        let grey = |i: &usize| tiles[1].rgb[3 * i..][..3] == [HIDDEN; 3];
        assert!(hidden.iter().all(grey));
        // int(16 * 0.3) = 4 patches stay, whole ones.
        assert_eq!(hidden.len(), (16 - 4) * PATCH * PATCH);
        let patch = |i: &usize| (i / SIDE / PATCH, i % SIDE / PATCH);
        assert_eq!(hidden.iter().map(patch).collect::<std::collections::BTreeSet<_>>().len(), 12);
        for i in 0..SIDE * SIDE {
            let from = if hidden.contains(&i) { 2 } else { 0 };
            assert_eq!(tiles[3].rgb[3 * i..][..3], tiles[from].rgb[3 * i..][..3], "pixel {i}");
        }
        assert_eq!(changed(&tiles[2]).len(), SIDE * SIDE, "visible patches are painted, too");
    }

    #[test]
    fn the_mask_depends_on_seed_and_place_alone_and_a_smaller_ratio_hides_less_of_it() {
        let hidden = |norm_pix_loss, mask_ratio, seed, place| {
            let subject = ReconstructionInput { place, ..subject() };
            let masking = MaskSettings { mask_ratio, seed };
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
    fn under_norm_pix_loss_a_patch_without_contrast_comes_back_as_it_was() {
        let data = data();
        let flat = ReconstructionInput { values: vec![0.5; 3 * SIDE * SIDE], place: 0 };
        let masking = MaskSettings { mask_ratio: 0.75, seed: 0 };
        let tiles = autoencoder(true).tiles(&flat, masking, &data).unwrap();
        assert_eq!(tiles[2], tiles[0], "its mean is the original's, its variance nothing");
        let painted = &autoencoder(false).tiles(&flat, masking, &data).unwrap()[2];
        assert_ne!(*painted, tiles[0]);
    }

    #[test]
    fn a_ratio_that_hides_nothing_or_everything_is_refused() {
        for (mask_ratio, expected) in [(0.0, "hides none of the 16"), (0.99, "keeps none")] {
            let masking = MaskSettings { mask_ratio, seed: 0 };
            let error = autoencoder(false).tiles(&subject(), masking, &data()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
