//! Linear probing: trains a linear classifier on the features of a frozen encoder.

use super::targets::targets;
use crate::infer::{Evaluation, ShareCounts, host, images};
use crate::model::{self, NamedParam, ProbeHead, Vit};
use crate::shape::EncoderDims;
use crate::train::devices::Rank;
use crate::train::error::TrainError;
use crate::train::step::{MicroBatch, RankContext, Stage, StepPart};
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// The training of a linear classifier on the features of a frozen encoder.
pub(crate) struct LinprobeStage {
    /// The encoder. This network's own head is not used.
    pub frozen: Vit,
    pub encoder: EncoderDims,
    pub num_classes: usize,
    pub device: Device,
    pub evaluation: Evaluation,
}

impl Stage for LinprobeStage {
    type Model = ProbeHead;

    /// Runs the encoder on each shard, and then the linear classifier on the whole micro-batch.
    ///
    /// The classifier's `BatchNorm` needs the statistics of the whole micro-batch.
    fn backward(
        self: &Arc<Self>,
        head: &mut ProbeHead,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError> {
        let targets = targets(&micro_batch.whole(), self.num_classes, 0.0, &self.device);
        let features = self.features(&micro_batch)?;
        *head = observe(head.clone(), &features, &micro_batch.rank_context.rank)?;
        micro_batch
            .at_once(head, |head| model::soft_cross_entropy(head.forward_train(features), targets));
        Ok(())
    }

    fn evaluate(
        &self,
        head: &ProbeHead,
        rank_context: &RankContext,
    ) -> Result<Option<ShareCounts>, TrainError> {
        let RankContext { rank, replicas, .. } = rank_context;
        let frozen = self.frozen.clone();
        let forward = move |head: &ProbeHead, imgs| head.forward(frozen.forward_features(imgs));
        Ok(Some(self.evaluation.count(head, replicas, rank.share(), forward)?))
    }

    fn export(&self, head: &ProbeHead) -> Vec<NamedParam> {
        let encoder =
            model::named(&self.frozen).into_iter().filter(|p| !p.name.starts_with("head."));
        let head = model::named(head)
            .into_iter()
            .map(|p| NamedParam { name: model::official_probe_name(&p.name).to_owned(), ..p });
        encoder.chain(head).collect()
    }
}

impl LinprobeStage {
    /// Returns the features of a micro-batch, `[N, D]`.
    fn features(
        self: &Arc<Self>,
        micro_batch: &MicroBatch<'_, '_>,
    ) -> Result<Tensor<2>, TrainError> {
        let stage = Arc::clone(self);
        micro_batch.rank_context.timer.time(StepPart::Forward, &self.device, || {
            let parts = micro_batch.map_shards(move |shard| {
                stage.frozen.forward_features(images(shard, &stage.encoder, &stage.device))
            })?;
            Ok(Tensor::cat(parts, 0))
        })
    }
}

/// Updates the running statistics of `BatchNorm` with the micro-batches of all ranks, in rank order.
fn observe(
    mut head: ProbeHead,
    features: &Tensor<2>,
    rank: &Rank,
) -> Result<ProbeHead, TrainError> {
    let statistics = ProbeHead::statistics(features.clone());
    if rank.world() == 1 {
        return Ok(head.observe(statistics));
    }
    let width = features.dims()[1];
    let own = host(&Tensor::cat(statistics.into(), 0), &[])?.values;
    for values in rank.exchange(own)? {
        let both = Tensor::from_data(TensorData::new(values, [2 * width]), &features.device());
        head = head.observe([both.clone().narrow(0, 0, width), both.narrow(0, width, width)]);
    }
    Ok(head)
}
