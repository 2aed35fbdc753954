//! Pre-training: a masked autoencoder learns to reconstruct the removed patches of images.

use super::gallery::Gallery;
use crate::data::Shard;
use crate::infer::{Autoencoder, images};
use crate::model::{self, Chain, Mae, Masks};
use crate::random::Key;
use crate::shape::{EncoderDims, MaeLoss, Masking};
use crate::train::error::TrainError;
use crate::train::step::{JobDir, MicroBatch, ShardLoss, Stage};
use burn::tensor::Device;
use std::sync::Arc;

/// The pre-training of a masked autoencoder.
pub(crate) struct PretrainStage {
    pub encoder: EncoderDims,
    pub masking: Masking,
    pub loss: MaeLoss,
    pub warmup_epochs: usize,
    pub device: Device,
    pub gallery: Gallery,
}

impl ShardLoss<Mae> for PretrainStage {
    /// Returns the forward pass with one mask for each image.
    ///
    /// By default, only the removed patches count in the loss (paper §3).
    fn loss(&self, mae: &Mae, shard: &Shard<'_>, key: Key) -> Chain<Mae> {
        let masks = Masks::draw(self.masking, self.encoder.grid(), shard.samples, key);
        let imgs = images(shard, &self.encoder, &self.device);
        model::mae_chain(mae, imgs, &masks, self.loss)
    }
}

impl Stage for PretrainStage {
    type Model = Mae;

    fn backward(
        self: &Arc<Self>,
        mae: &mut Mae,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError> {
        micro_batch.in_shards(self, mae)
    }

    fn show(&self, mae: &Mae, dir: &JobDir, epoch: usize) -> Result<(), TrainError> {
        let autoencoder = Autoencoder {
            mae: mae.clone(),
            encoder: self.encoder.clone(),
            loss: self.loss,
            device: self.device.clone(),
            name: format!("epoch {epoch}"),
        };
        self.gallery.show(&autoencoder, self.masking, &dir.path, epoch)
    }

    fn notice(&self, epoch: usize, train_loss: f64) -> Option<String> {
        let warmed_up = epoch == self.warmup_epochs + 1;
        (self.loss.norm_pix_loss && warmed_up && train_loss > 0.995).then(|| {
            format!(
                "the training loss is still {train_loss:.3} after the warm-up, so the model has not learned the image \
                 content yet. With `norm_pix_loss`, predicting the mean of every patch gives a loss of 1.0. If the \
                 loss stays near 1.0, raise `pretrain.blr` or train for more epochs"
            )
        })
    }
}
