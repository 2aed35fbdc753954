//! The shards of a micro-batch: each runs forward and backward on a replica of the model.

use super::gradient::{GradientSum, add_to};
use super::step_timer::{StepPart, StepTimer};
use crate::data::Batch;
use crate::infer::DeviceError;
use crate::model::{self, BackwardMode, Chain, PartialGrads};
use crate::train::{RankContext, TrainError};
use burn::module::Module;
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Runs a micro-batch in shards, into `sum`: `chain_of` gets the model, a range of the batch, and what the range's mean loss
/// counts.
///
/// Every shard counts by its images; losses and gradients are added in shard order. A lone shard's gradients are added as they
/// come, on the calling thread.
pub(crate) fn backward_in_shards<M, F>(
    model: &M,
    batch: Batch,
    scale: f64,
    rank_context: &RankContext,
    pass: BackwardMode,
    sum: &mut GradientSum<'_>,
    chain_of: F,
) -> Result<(), TrainError>
where
    M: Module + Sync + 'static,
    F: Fn(&M, &Batch, Range<usize>, f64) -> Chain<M> + Send + Sync + 'static,
{
    let n = batch.len();
    let shards: Vec<_> = rank_context.replicas.shards(n).collect();
    if shards.len() == 1 {
        let loss = DeviceError::catch(|| {
            let chain = || chain_of(model, &batch, 0..n, scale);
            forward_backward(model, chain, pass, &rank_context.timer, |grads| sum.add(grads))
        })?;
        sum.add_loss(loss);
        return Ok(());
    }
    let timer = rank_context.timer.clone();
    let batch = Arc::new(batch);
    let inputs = shards.into_iter().map(|range| (model.clone(), Arc::clone(&batch), range));
    let results =
        rank_context.replicas.map(inputs.collect::<Vec<_>>(), move |(model, batch, range)| {
            let weight = scale * range.len() as f64 / n as f64;
            let chain = || chain_of(&model, &batch, range, weight);
            let mut grads = PartialGrads::new();
            let loss = forward_backward(&model, chain, pass, &timer, |more| grads.extend(more));
            (loss, grads)
        })?;
    let mut grads = Vec::new();
    let mut losses = Vec::new();
    for (loss, shard) in results {
        losses.push(loss);
        add_to(&mut grads, shard);
    }
    sum.add_loss(losses.into_iter().reduce(|a, b| a + b).expect("a batch is never empty"));
    sum.add(model::present(grads));
    Ok(())
}

/// Runs a chain forward and backward, each timed; gives the loss.
fn forward_backward<M: Module>(
    model: &M,
    chain: impl FnOnce() -> Chain<M>,
    pass: BackwardMode,
    timer: &StepTimer,
    give: impl FnMut(PartialGrads),
) -> Tensor<1> {
    let device = model::device(model);
    let forward = timer.time(StepPart::Forward, &device, || chain().forward(model, pass));
    timer.time(StepPart::Backward, &device, || forward.backward(give))
}

#[cfg(test)]
mod tests {
    use super::super::gradient::{Gradient, GradientSum};
    use super::backward_in_shards;
    use crate::data::{Batch, Images, Targets};
    use crate::infer::{DeviceError, Replicas, images as images_of};
    use crate::model::{Vit, init_vit, vit_chain};
    use crate::shape::{EncoderDims, Precision};
    use crate::train::{Link, Rank, RankContext, StepTimer, TrainError, on_threads};
    use burn::tensor::{Device, Tensor};

    /// Runs a micro-batch of two images on a lone rank of `rank_context`; `loss` is that of a classifier with two blocks.
    fn micro_batch(
        rank_context: &RankContext,
        loss: fn(Tensor<2>) -> Tensor<1>,
    ) -> Result<(usize, Gradient), TrainError> {
        let dims = EncoderDims {
            input_size: 4,
            patch_size: 2,
            in_chans: 1,
            embed_dim: 4,
            depth: 2,
            num_heads: 1,
            mlp_dim: 4,
            norm_eps: 1e-6,
            precision: Precision::Fp32,
        };
        let vit = init_vit(Vit::zeros(&dims, 2, true, &Device::flex()), 0);
        let mut sent = 0;
        let sum =
            GradientSum::of_update(&rank_context.rank, &rank_context.timer, true, 1, |sum| {
                let images = Images::Values(vec![0.5; 2 * 16]);
                let batch =
                    Batch { images, targets: Targets::Hard(vec![0, 1]), samples: vec![0, 1] };
                let pass = sum.pass(false);
                backward_in_shards(
                    &vit,
                    batch,
                    1.0,
                    rank_context,
                    pass,
                    sum,
                    move |vit, batch, range, weight| {
                        let imgs = images_of(batch, range, 1, 4, &Device::flex());
                        vit_chain(vit, imgs, None, move |logits| loss(logits) * weight)
                    },
                )?;
                sent = sum.pending.len();
                Ok(())
            })?;
        Ok((sent, sum.finish()?))
    }

    fn rank_context(rank: Rank) -> RankContext {
        RankContext { rank, replicas: Replicas::whole(), timer: StepTimer::default() }
    }

    #[test]
    fn a_lone_shard_sends_section_by_section_what_a_whole_pass_gives() {
        let loss = |logits: Tensor<2>| logits.square().sum();
        let (sent, alone) = micro_batch(&rank_context(Rank::alone()), loss).unwrap();
        assert_eq!(sent, 0);
        let both = on_threads(2, &Link::Simulated(1), |rank| {
            micro_batch(&rank_context(rank), loss).unwrap()
        });
        for (sent, both) in both {
            assert_eq!(sent, 3, "the head with the last block, the first block, the embeddings");
            for ((place, sum), (_, own)) in both.grads.into_iter().zip(&alone.grads) {
                let twice = own.clone() * 2.0;
                assert_eq!(sum.into_data(), twice.into_data(), "{place}");
            }
        }
    }

    #[test]
    fn a_panic_in_a_lone_shard_is_an_error() {
        let end = micro_batch(&rank_context(Rank::alone()), |_| panic!("no memory: out of memory"));
        assert!(matches!(end, Err(TrainError::Device(DeviceError::OutOfMemory(_)))));
    }
}
