//! Pre-training: a masked autoencoder learns to fill in what it does not see.

use super::stage::Stage;
use crate::data::Batch;
use crate::infer::{Autoencoder, Evaluated, images};
use crate::model::{self, Mae, Masks};
use crate::random::Key;
use crate::shape::EncoderDims;
use crate::train::{Gallery, GradientSum, JobDir, RankContext, TrainError, backward_in_shards};
use burn::tensor::Device;
use std::ops::Range;

/// The first stage of a recipe.
pub(crate) struct PretrainStage {
    pub encoder: EncoderDims,
    pub mask_ratio: f64,
    pub norm_pix_loss: bool,
    pub warmup_epochs: usize,
    pub gradient_checkpointing: bool,
    pub device: Device,
    pub gallery: Gallery,
}

impl Stage for PretrainStage {
    type Model = Mae;

    fn backward(
        &self,
        model: &mut Mae,
        batch: Batch,
        key: Key,
        scale: f64,
        rank_context: &RankContext,
        sum: &mut GradientSum<'_>,
    ) -> Result<(), TrainError> {
        let (in_chans, side) = (self.encoder.in_chans, self.encoder.input_size);
        let (patches, mask_ratio) = (self.encoder.num_patches(), self.mask_ratio);
        let (norm_pix_loss, device) = (self.norm_pix_loss, self.device.clone());
        let chain = move |mae: &Mae, batch: &Batch, range: Range<usize>, weight| {
            let noise = model::mask_noise(&batch.samples[range.clone()], patches, key);
            let masks = Masks::from_noise(&noise, patches, mask_ratio);
            let imgs = images(batch, range, in_chans, side, &device);
            model::mae_chain(mae, imgs, &masks, norm_pix_loss, weight)
        };
        let pass = sum.pass(self.gradient_checkpointing);
        backward_in_shards(model, batch, scale, rank_context, pass, sum, chain)
    }

    fn evaluate(&self, _model: &Mae, _team: &RankContext) -> Result<Evaluated, TrainError> {
        Ok(Evaluated::Nothing)
    }

    fn show(&self, model: &Mae, dir: &JobDir, epoch: usize) -> Result<(), TrainError> {
        let autoencoder = Autoencoder {
            mae: model.clone(),
            encoder: self.encoder.clone(),
            norm_pix_loss: self.norm_pix_loss,
            device: self.device.clone(),
            name: format!("epoch {epoch}"),
        };
        self.gallery.show(&autoencoder, self.mask_ratio, dir, epoch)
    }

    fn notice(&self, epoch: usize, train_loss: f64) -> Option<String> {
        let settled = epoch == self.warmup_epochs + 1;
        (self.norm_pix_loss && settled && train_loss > 0.995).then(|| {
            format!(
                "the loss is {train_loss:.3} after the warm-up. With norm_pix_loss, 1.0 is what a decoder gets that \
                 paints every patch in its own mean: nothing of the content is learned yet. If it stays there, raise blr \
                 or train longer"
            )
        })
    }
}
