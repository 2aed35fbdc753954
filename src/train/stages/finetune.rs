//! Fine-tuning: a classifier, the whole encoder trained, from a checkpoint or from nothing.

use super::stage::Stage;
use super::targets::soft_cross_entropy;
use crate::data::Batch;
use crate::infer::{Evaluated, Evaluation, images};
use crate::model::{self, Vit, drop_path_rates};
use crate::random::{Key, Purpose};
use crate::shape::EncoderDims;
use crate::train::{GradientSum, RankContext, TrainError, backward_in_shards};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use std::ops::Range;

/// The stage that makes the accuracies people quote.
pub(crate) struct FinetuneStage {
    pub encoder: EncoderDims,
    pub num_classes: usize,
    /// Spread over all classes where the batch is not mixed (a mixed one has it in its targets).
    pub smoothing: f64,
    pub drop_path: f64,
    pub gradient_checkpointing: bool,
    pub device: Device,
    pub evaluation: Evaluation,
}

impl Stage for FinetuneStage {
    type Model = Vit;

    fn backward(
        &self,
        model: &mut Vit,
        batch: Batch,
        key: Key,
        scale: f64,
        rank_context: &RankContext,
        sum: &mut GradientSum<'_>,
    ) -> Result<(), TrainError> {
        let (in_chans, side) = (self.encoder.in_chans, self.encoder.input_size);
        let (classes, smoothing) = (self.num_classes, self.smoothing);
        let rates = drop_path_rates(self.drop_path, self.encoder.depth);
        let device = self.device.clone();
        let chain = move |vit: &Vit, batch: &Batch, range: Range<usize>, weight| {
            let n = range.len();
            let targets = batch.shard(range.clone()).targets.soft(classes, smoothing);
            let targets = Tensor::from_data(TensorData::new(targets, [n, classes]), &device);
            let samples = &batch.samples[range.clone()];
            let imgs = images(batch, range, in_chans, side, &device);
            let factors = rates.iter().any(|rate| *rate > 0.0).then(|| {
                let factors = drop_path_factors(samples, &rates, key);
                Tensor::from_data(TensorData::new(factors, [n, 2 * rates.len()]), &device)
            });
            let loss = move |logits| soft_cross_entropy(logits, targets.clone()) * weight;
            model::vit_chain(vit, imgs, factors.as_ref(), loss)
        };
        let pass = sum.pass(self.gradient_checkpointing);
        backward_in_shards(model, batch, scale, rank_context, pass, sum, chain)
    }

    fn evaluate(&self, model: &Vit, rank_context: &RankContext) -> Result<Evaluated, TrainError> {
        let own = self.evaluation.count(
            model,
            &rank_context.replicas,
            rank_context.rank.share(),
            Vit::forward,
        )?;
        Ok(Evaluated::from_shares(rank_context.rank.exchange(own)?))
    }
}

/// Draws each sample's residual factors, `[N, 2 * depth]`: 0 drops a branch, 1 / (1 - rate) keeps it.
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
