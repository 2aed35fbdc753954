//! Fine-tuning: trains an encoder and a classification head, from a checkpoint or from scratch.

use super::targets::targets;
use crate::data::Shard;
use crate::infer::{Evaluation, ShareCounts, images};
use crate::model::{self, Chain, Vit};
use crate::random::{Key, Purpose};
use crate::shape::EncoderDims;
use crate::train::error::TrainError;
use crate::train::step::{MicroBatch, RankContext, ShardLoss, Stage};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use std::sync::Arc;

/// The fine-tuning of a classifier.
pub(crate) struct FinetuneStage {
    pub encoder: EncoderDims,
    pub num_classes: usize,
    /// Label smoothing, for batches without mixup and CutMix.
    pub smoothing: f64,
    /// Drop-path rate of each transformer block.
    pub drop_path_rates: Vec<f64>,
    pub device: Device,
    pub evaluation: Evaluation,
}

impl ShardLoss<Vit> for FinetuneStage {
    fn loss(&self, vit: &Vit, shard: &Shard<'_>, key: Key) -> Chain<Vit> {
        let targets = targets(shard, self.num_classes, self.smoothing, &self.device);
        let imgs = images(shard, &self.encoder, &self.device);
        let drop_path = self.drop_path(shard.samples, key);
        let loss = move |logits| model::soft_cross_entropy(logits, targets.clone());
        model::vit_chain(vit, imgs, drop_path.as_ref(), loss)
    }
}

impl Stage for FinetuneStage {
    type Model = Vit;

    fn backward(
        self: &Arc<Self>,
        vit: &mut Vit,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError> {
        micro_batch.in_shards(self, vit)
    }

    fn evaluate(
        &self,
        vit: &Vit,
        rank_context: &RankContext,
    ) -> Result<Option<ShareCounts>, TrainError> {
        let RankContext { rank, replicas, .. } = rank_context;
        Ok(Some(self.evaluation.count(vit, replicas, rank.share(), Vit::forward)?))
    }
}

impl FinetuneStage {
    /// Draws drop-path factors as a tensor `[N, 2 * depth]`; `None` if all rates are 0.
    fn drop_path(&self, samples: &[u64], key: Key) -> Option<Tensor<2>> {
        let rates = &self.drop_path_rates;
        rates.iter().any(|rate| *rate > 0.0).then(|| {
            let shape = [samples.len(), 2 * rates.len()];
            let factors = drop_path_factors(samples, rates, key);
            Tensor::from_data(TensorData::new(factors, shape), &self.device)
        })
    }
}

/// Draws two drop-path factors for each sample and block, `[N, 2 * depth]`.
///
/// The factor 0 drops a branch of the block. Otherwise, the factor is `1 / (1 - rate)`.
fn drop_path_factors(samples: &[u64], rates: &[f64], key: Key) -> Vec<f32> {
    let mut factors = Vec::with_capacity(samples.len() * 2 * rates.len());
    for &sample in samples {
        let mut rng = key.rng(sample, Purpose::DropPath);
        for rate in rates {
            for _branch in 0..2 {
                let keep = 1.0 - rate;
                let kept = rng.random::<f64>() < keep;
                factors.push(if kept { (1.0 / keep) as f32 } else { 0.0 });
            }
        }
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::drop_path_factors;
    use crate::random::Key;
    use crate::shape::StageKind;

    #[test]
    fn branches_are_dropped_at_their_rate_and_keep_their_mean() {
        let key = Key { seed: 1, stage: StageKind::Finetune as u8, epoch: 1 };
        let samples: Vec<u64> = (0..4000).collect();
        let factors = drop_path_factors(&samples, &[0.0, 0.25], key);
        let column = |i: usize| factors.iter().skip(i).step_by(4).copied().collect::<Vec<f32>>();
        assert!(column(0).iter().all(|f| (f - 1.0).abs() < 1e-6));
        let mean: f32 = column(3).iter().sum::<f32>() / 4000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }
}
