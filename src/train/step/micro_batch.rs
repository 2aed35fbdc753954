//! A micro-batch, and two ways to compute its gradients: shard by shard, or all images at once.

use super::gradient::{GradientSum, add_to};
use super::job::RankContext;
use super::step_timer::{StepPart, StepTimer};
use crate::data::{Batch, Shard};
use crate::infer::DeviceError;
use crate::model::{self, BackwardMode, Chain, PartialGrads};
use crate::random::Key;
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// A stage whose loss is a mean over images. So each shard can run separately.
pub(crate) trait ShardLoss<M>: Send + Sync + 'static {
    /// Returns the forward pass from the images of a shard to their mean loss.
    ///
    /// `key` selects the random numbers of the epoch.
    fn loss(&self, model: &M, shard: &Shard<'_>, key: Key) -> Chain<M>;
}

/// A micro-batch of one rank, and the sum that receives its gradients.
pub(crate) struct MicroBatch<'a, 'r> {
    pub(super) batch: Arc<Batch>,
    /// Selects the random numbers of the epoch.
    pub(super) key: Key,
    /// Weight of this micro-batch in the mean loss of the update.
    pub(super) weight: f64,
    pub(super) gradient_checkpointing: bool,
    pub(crate) rank_context: &'r RankContext,
    pub(super) sum: &'a mut GradientSum<'r>,
}

impl MicroBatch<'_, '_> {
    /// Returns the whole micro-batch as one shard.
    pub(crate) fn whole(&self) -> Shard<'_> {
        self.batch.shard(0..self.batch.len())
    }

    /// Runs `work` on each shard. Returns the results in shard order.
    pub(crate) fn map_shards<T: Send + 'static>(
        &self,
        work: impl Fn(&Shard<'_>) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, TrainError> {
        let batch = Arc::clone(&self.batch);
        let ranges = self.rank_context.replicas.shards(batch.len());
        let work = move |range| work(&batch.shard(range));
        Ok(self.rank_context.replicas.map(ranges, work)?)
    }

    /// Computes loss and gradients of each shard, and adds them to `sum` in shard order.
    ///
    /// Each shard has its own copy of `model` with autodiff. A shard has a weight proportional to its number of images.
    /// On a GPU, there is only one shard, and `sum` receives gradients during the backward pass.
    pub(crate) fn in_shards<M: Module + Sync + 'static>(
        self,
        stage: &Arc<impl ShardLoss<M>>,
        model: &M,
    ) -> Result<(), TrainError> {
        let Self { batch, key, weight, gradient_checkpointing, rank_context, sum } = self;
        let RankContext { replicas, timer, .. } = rank_context;
        let n = batch.len();
        let (stage, timer) = (Arc::clone(stage), timer.clone());
        let mode = sum.backward_mode(gradient_checkpointing);
        let pass = ShardPass { stage, batch, key, mode, timer };
        if replicas.is_whole() {
            let loss =
                DeviceError::catch(|| pass.run(model, 0..n, weight, |grads| sum.add(grads)))?;
            sum.add_loss(loss);
            return Ok(());
        }
        let of_shard = move |model: &M, range: Range<usize>| {
            let weight = weight * range.len() as f64 / n as f64;
            let mut grads = PartialGrads::new();
            let loss = pass.run(model, range, weight, |section| grads.extend(section));
            (loss, grads)
        };
        let (mut losses, mut grads) = (Vec::new(), Vec::new());
        let mut add = |(loss, shard)| {
            losses.push(loss);
            add_to(&mut grads, shard);
        };
        if replicas.share_operations(model.num_params(), n) {
            for range in replicas.shards(n) {
                add(replicas.inside(|| of_shard(model, range))?);
            }
        } else {
            let inputs = replicas.shards(n).map(|range| (model.clone(), range));
            let results = replicas.map(inputs, move |(model, range)| of_shard(&model, range))?;
            results.into_iter().for_each(add);
        }
        sum.add_loss(losses.into_iter().reduce(|a, b| a + b).expect("a batch is never empty"));
        sum.add(model::present(grads));
        Ok(())
    }

    /// Computes loss and gradients of the whole micro-batch, and adds them to `sum`.
    ///
    /// `loss` returns the mean loss, `[1]`.
    pub(crate) fn at_once<M: Module>(self, model: &M, loss: impl FnOnce(&M) -> Tensor<1>) {
        let timer = &self.rank_context.timer;
        let device = model::device(model);
        let replica = model.clone().train();
        let loss = timer.time(StepPart::Forward, &device, || loss(&replica) * self.weight);
        let grads = timer
            .time(StepPart::Backward, &device, || model::grads(&replica, &mut loss.backward()));
        self.sum.add_loss(loss.inner());
        self.sum.add(grads.into_iter().enumerate().collect());
    }
}

struct ShardPass<S> {
    stage: Arc<S>,
    batch: Arc<Batch>,
    key: Key,
    mode: BackwardMode,
    timer: StepTimer,
}

impl<S> ShardPass<S> {
    /// Runs forward and backward pass of the images in `range`. Returns the loss, `[1]`.
    ///
    /// Multiplies loss and gradients by `weight`. `take` receives the gradients.
    fn run<M: Module + 'static>(
        &self,
        model: &M,
        range: Range<usize>,
        weight: f64,
        take: impl FnMut(PartialGrads),
    ) -> Tensor<1>
    where
        S: ShardLoss<M>,
    {
        let device = model::device(model);
        let forward = self.timer.time(StepPart::Forward, &device, || {
            let chain = self.stage.loss(model, &self.batch.shard(range), self.key);
            chain.weighted(weight).forward(model, self.mode)
        });
        self.timer.time(StepPart::Backward, &device, || forward.backward(take))
    }
}

#[cfg(test)]
mod tests {
    use super::{MicroBatch, ShardLoss};
    use crate::data::{Batch, Images, Shard, Targets};
    use crate::infer::{DeviceError, Replicas, images};
    use crate::model::{Chain, Vit, init_vit, vit_chain};
    use crate::random::{Key, NO_STAGE};
    use crate::shape::{EncoderDims, Precision};
    use crate::train::devices::{Link, Rank, on_threads};
    use crate::train::error::TrainError;
    use crate::train::step::gradient::{Gradient, GradientSum};
    use crate::train::step::job::RankContext;
    use crate::train::step::step_timer::StepTimer;
    use burn::tensor::{Device, Tensor};
    use std::sync::Arc;

    const DIMS: EncoderDims = EncoderDims {
        input_size: crate::shape::ImageSize::square(4),
        patch_size: 2,
        in_chans: 1,
        embed_dim: 4,
        depth: 2,
        num_heads: 1,
        mlp_dim: 4,
        norm_eps: 1e-6,
        precision: Precision::Fp32,
    };

    /// A test stage. Its loss is a function of the logits.
    struct LogitLoss(fn(Tensor<2>) -> Tensor<1>);

    impl ShardLoss<Vit> for LogitLoss {
        fn loss(&self, vit: &Vit, shard: &Shard<'_>, _key: Key) -> Chain<Vit> {
            vit_chain(vit, images(shard, &DIMS, &Device::flex()), None, self.0)
        }
    }

    /// Returns the gradient, and the number of all-reduces that started during the backward pass.
    fn update(
        rank_context: &RankContext,
        loss: fn(Tensor<2>) -> Tensor<1>,
    ) -> Result<(usize, Gradient), TrainError> {
        let vit = init_vit(Vit::zeros(&DIMS, 2, true, &Device::flex()), 0);
        let stage = Arc::new(LogitLoss(loss));
        let mut pending = 0;
        let RankContext { rank, timer, .. } = rank_context;
        let sum = GradientSum::of_update(rank, timer, true, 1, |sum| {
            let images = Images::Values(vec![0.5; 2 * 16].into());
            let batch = Batch { images, targets: Targets::Hard(vec![0, 1]), samples: vec![0, 1] };
            let micro_batch = MicroBatch {
                batch: Arc::new(batch),
                key: Key { seed: 0, stage: NO_STAGE, epoch: 1 },
                weight: 1.0,
                gradient_checkpointing: false,
                rank_context,
                sum: &mut *sum,
            };
            micro_batch.in_shards(&stage, &vit)?;
            pending = sum.pending.len();
            Ok(())
        })?;
        Ok((pending, sum.finish()?))
    }

    fn rank_context(rank: Rank) -> RankContext {
        RankContext { rank, replicas: Replicas::whole(), timer: StepTimer::default() }
    }

    #[test]
    fn one_shard_reduced_section_by_section_gives_the_gradients_of_a_whole_pass() {
        let loss = |logits: Tensor<2>| logits.square().sum();
        let (pending, alone) = update(&rank_context(Rank::alone()), loss).unwrap();
        assert_eq!(pending, 0);
        let both =
            on_threads(2, &Link::Simulated(1), |rank| update(&rank_context(rank), loss).unwrap());
        for (pending, both) in both {
            assert_eq!(pending, 3, "the head with the last block, the first block, the embeddings");
            for ((place, sum), (_, own)) in both.grads.into_iter().zip(&alone.grads) {
                let twice = own.clone() * 2.0;
                assert_eq!(sum.into_data(), twice.into_data(), "{place}");
            }
        }
    }

    #[test]
    fn a_panic_in_a_single_shard_is_an_error() {
        let end = update(&rank_context(Rank::alone()), |_| panic!("no memory: out of memory"));
        assert!(matches!(end, Err(TrainError::Device(DeviceError::OutOfMemory(_)))));
    }
}
