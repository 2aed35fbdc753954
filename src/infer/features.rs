//! Features of images: the output of an encoder, as one vector for each image or token.

use super::error::InferError;
use super::evaluate::Evaluation;
use super::host::host;
use super::replicas::Replicas;
use super::same_encoder::same_encoder;
use super::stop::StopFlag;
use crate::checkpoint::{Head, Opened, load_frozen};
use crate::data::{EvalTransform, Share, Split};
use crate::model::Vit;
use crate::recipe::Plan;
use crate::shape::EncoderDims;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// Which tokens of a block's output become the features of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The class token, `[D]`.
    Cls,
    /// The mean of all patch tokens, `[D]`.
    Mean,
    /// The class token and all patch tokens, `[1 + L, D]`.
    Tokens,
}

/// Computes features with the encoder of a checkpoint.
pub struct FeatureExtractor {
    vit: Vit,
    encoder: EncoderDims,
    layer: usize,
    pooling: Pooling,
    device: Device,
}

/// Features and labels of several images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Features of all images, concatenated in image order.
    pub values: Vec<f32>,
    pub labels: Vec<u32>,
}

impl FeatureExtractor {
    /// Loads the encoder of any checkpoint. `plan` provides settings that the tensors do not show.
    ///
    /// The features come from the transformer block `layer`, counted from 1; `None` is the last block. If `pooling` is
    /// `None`, the features are the input of the checkpoint's head: the mean of the patches if the checkpoint has
    /// `fc_norm`, otherwise the class token.
    pub fn load(
        opened: &Opened,
        plan: &Plan,
        device: &Device,
        layer: Option<usize>,
        pooling: Option<Pooling>,
    ) -> Result<Self, InferError> {
        same_encoder(opened, &plan.model)?;
        let encoder = plan.encoder_dims();
        let layer = layer.unwrap_or(encoder.depth);
        if !(1..=encoder.depth).contains(&layer) {
            return Err(InferError::Setting {
                problem: format!(
                    "cannot use the output of layer {layer}: the encoder has layers 1 to {}",
                    encoder.depth
                ),
                hint: format!("choose a layer from 1 to {}", encoder.depth),
            });
        }
        let global_pool = match opened.facts.head {
            Head::Linear { global_pool, .. } | Head::Probe { global_pool, .. } => global_pool,
            Head::Absent => opened.file.tensors.contains_key("fc_norm.weight"),
        };
        let pooling = pooling.unwrap_or(if global_pool { Pooling::Mean } else { Pooling::Cls });
        let zeros = Vit::zeros(&encoder, 1, global_pool, device);
        let vit = load_frozen(zeros, &opened.file, &opened.path)?;
        Ok(Self { vit, encoder, layer, pooling, device: device.clone() })
    }

    /// Returns the shape of one image's features: `[1 + L, D]` for [`Pooling::Tokens`], otherwise `[D]`.
    pub fn shape(&self) -> Vec<usize> {
        match self.pooling {
            Pooling::Cls | Pooling::Mean => vec![self.encoder.embed_dim],
            Pooling::Tokens => vec![1 + self.encoder.num_patches(), self.encoder.embed_dim],
        }
    }

    /// Prepares to read all images of `split`, with the transforms of evaluation.
    pub fn pass(
        &self,
        plan: &Plan,
        split: Arc<dyn Split>,
        batch_size: usize,
        stop: &StopFlag,
    ) -> Evaluation {
        let images = (split, EvalTransform::new(&plan.data));
        Evaluation::of_images(plan, images, batch_size, &self.device, stop)
    }

    /// Computes the features of a share of the images of `pass`. Calls `take` with the features of a few images at a
    /// time, in image order.
    ///
    /// Calls `take` with the features of a few images at a time, in image order. Returns false if the user stops the
    /// command.
    pub fn each<E: From<InferError>>(
        &self,
        pass: &Evaluation,
        (replicas, share): (&Replicas, Share),
        take: impl FnMut(Features) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (layer, pooling) = (self.layer, self.pooling);
        let features = move |vit: &Vit, imgs: Tensor<4>, labels: &[u32]| {
            let features = pooled(vit, vit.forward_blocks(imgs, layer), layer, pooling);
            Ok(Features { values: host(&features, &[])?.values, labels: labels.to_vec() })
        };
        pass.each_shard(&self.vit, replicas, share, features, take)
    }

    /// Computes the features of a share of the images of `pass`. Returns `None` if the user stops the command.
    pub fn of_share(
        &self,
        pass: &Evaluation,
        (replicas, share): (&Replicas, Share),
    ) -> Result<Option<Features>, InferError> {
        let mut all = Features::default();
        let whole = self.each(pass, (replicas, share), |part: Features| {
            all.values.extend(part.values);
            all.labels.extend(part.labels);
            Ok::<_, InferError>(())
        })?;
        Ok(whole.then_some(all))
    }
}

/// Returns the flattened features of images. `x` is the output of block `layer`, `[N, 1 + L, D]`.
///
/// After the last block, applies the encoder's `norm` or `fc_norm`. After earlier blocks, applies no normalization.
fn pooled(vit: &Vit, x: Tensor<3>, layer: usize, pooling: Pooling) -> Tensor<1> {
    let is_last = layer == vit.blocks.len();
    let [n, tokens, d] = x.dims();
    let x = match pooling {
        Pooling::Cls => x.slice([0..n, 0..1]),
        Pooling::Mean | Pooling::Tokens => x,
    };
    let x = match &vit.norm {
        Some(norm) if is_last => norm.forward(x),
        _ => x,
    };
    if pooling != Pooling::Mean {
        return x.reshape([-1]);
    }
    let mean = x.slice([0..n, 1..tokens]).mean_dim(1).reshape([n, d]);
    match &vit.fc_norm {
        Some(fc_norm) if is_last => fc_norm.forward(mean).reshape([-1]),
        _ => mean.reshape([-1]),
    }
}
