//! The gradient of an update, summed over micro-batches and ranks.
//!
//! With NCCL, the all-reduce of a bucket starts as soon as the bucket is full. Meanwhile, the GPU computes the
//! remaining gradients.

use super::step_timer::StepTimer;
use crate::infer::check_faults;
use crate::model::{self, BackwardMode, PartialGrads};
use crate::train::devices::{Bucket, PendingReduce, Rank};
use crate::train::error::TrainError;
use burn::tensor::Tensor;

/// Sums losses and gradients over the micro-batches of one update.
pub(crate) struct GradientSum<'a> {
    rank: &'a Rank,
    /// Bucket size in gradient values; `None` puts all gradients into one bucket.
    bucket_size: Option<usize>,
    /// Whether the all-reduce of a full bucket starts during the backward pass.
    early: bool,
    is_last: bool,
    loss: Option<Tensor<1>>,
    /// Gradient sums, in the order of [`crate::model::trainable_names`].
    grads: Vec<Option<Tensor<1>>>,
    /// Indices in `grads` of complete gradients that are in no bucket yet.
    unbucketed: Vec<usize>,
    /// Full buckets. Each has the indices of its gradients in `grads`.
    buckets: Vec<(Vec<usize>, Bucket)>,
    /// All-reduces that have started. Each has the indices of its gradients in `grads`.
    pub(super) pending: Vec<(Vec<usize>, PendingReduce)>,
    /// Error of an all-reduce that started early. [`GradientSum::finish`] returns it.
    failed: Option<TrainError>,
}

/// Loss and gradients of an update, summed over all ranks.
pub(crate) struct Gradient {
    /// Mean loss of the update, `[1]`.
    pub loss: Tensor<1>,
    /// Gradients of all trained parameters that affect the loss.
    pub grads: PartialGrads,
}

impl<'a> GradientSum<'a> {
    /// Calls `run` for each micro-batch of an update. `run` must add loss and gradients to the sum.
    ///
    /// If `early` is true, the all-reduce of a full bucket starts during the backward pass. A running `timer` prevents
    /// this, to measure computation and communication separately.
    pub(crate) fn of_update(
        rank: &'a Rank,
        timer: &StepTimer,
        early: bool,
        micro_batches: usize,
        mut run: impl FnMut(&mut Self) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let mut sum = Self {
            rank,
            bucket_size: rank.bucket_size(),
            early: early && !timer.is_running(),
            is_last: false,
            loss: None,
            grads: Vec::new(),
            unbucketed: Vec::new(),
            buckets: Vec::new(),
            pending: Vec::new(),
            failed: None,
        };
        for left in (0..micro_batches).rev() {
            sum.is_last = left == 0;
            run(&mut sum)?;
        }
        Ok(sum)
    }

    /// Returns how to run the backward pass of the current micro-batch.
    pub(super) fn backward_mode(&self, gradient_checkpointing: bool) -> BackwardMode {
        match self.bucket_size {
            _ if gradient_checkpointing => BackwardMode::Recomputed,
            Some(values) if self.is_last => BackwardMode::Sections(values),
            _ => BackwardMode::Whole,
        }
    }

    /// Adds the loss of a micro-batch, `[1]`, already multiplied by the micro-batch's weight.
    pub(crate) fn add_loss(&mut self, loss: Tensor<1>) {
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }

    /// Adds the gradients of a micro-batch, already multiplied by the micro-batch's weight.
    ///
    /// All ranks must add gradients in the same order.
    pub(crate) fn add(&mut self, grads: PartialGrads) {
        let places: Vec<usize> = grads.iter().map(|(place, _)| *place).collect();
        add_to(&mut self.grads, grads);
        let Some(values) = self.bucket_size.filter(|_| self.is_last && self.failed.is_none())
        else {
            return;
        };
        self.unbucketed.extend(places);
        let unbucketed = self.unbucketed.iter().filter_map(|&place| self.grads[place].as_ref());
        if unbucketed.map(|grad| grad.dims()[0]).sum::<usize>() < values {
            return;
        }
        let places = std::mem::take(&mut self.unbucketed);
        let grads = places.iter().filter_map(|&place| self.grads[place].take()).collect();
        self.buckets.push((places, self.rank.pack(grads)));
        if self.early {
            self.failed = check_faults().map_err(TrainError::from).and_then(|()| self.send()).err();
        }
    }

    /// Waits for all all-reduces. Returns loss and gradients, summed over all ranks.
    pub(crate) fn finish(mut self) -> Result<Gradient, TrainError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let left = model::present(std::mem::take(&mut self.grads));
        let (left, mut rest): (Vec<_>, Vec<_>) = left.into_iter().unzip();
        rest.push(self.loss.take().expect("a batch is never empty"));
        self.buckets.push((left, self.rank.pack(rest)));
        for (_, bucket) in &self.buckets {
            bucket.check()?;
        }
        self.send()?;
        let mut loss = None;
        for (places, reduce) in self.pending {
            let mut sums = reduce.finish()?;
            loss = if sums.len() > places.len() { sums.pop() } else { None };
            add_to(&mut self.grads, places.into_iter().zip(sums));
        }
        let loss = loss.expect("the last bucket contains the loss");
        Ok(Gradient { loss, grads: model::present(self.grads) })
    }

    fn send(&mut self) -> Result<(), TrainError> {
        for (places, bucket) in self.buckets.drain(..) {
            self.pending.push((places, self.rank.start_reduce(bucket)?));
        }
        Ok(())
    }
}

/// Adds each gradient to the entry of `sums` with the same index.
pub(crate) fn add_to(
    sums: &mut Vec<Option<Tensor<1>>>,
    grads: impl IntoIterator<Item = (usize, Tensor<1>)>,
) {
    for (place, grad) in grads {
        if sums.len() <= place {
            sums.resize(place + 1, None);
        }
        sums[place] = Some(match sums[place].take() {
            Some(sum) => sum + grad,
            None => grad,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Gradient, GradientSum, PartialGrads, Rank, StepTimer, TrainError};
    use crate::infer::DeviceError;
    use crate::model::BackwardMode;
    use crate::train::devices::{Link, on_threads};
    use burn::tensor::{Device, Tensor};

    fn tensor(values: [f32; 2]) -> Tensor<1> {
        Tensor::from_data(values, &Device::flex())
    }

    /// Returns gradients for the parameters 2 and 0, in backward order.
    fn grads(micro_batch: usize) -> [PartialGrads; 2] {
        let value = micro_batch as f32;
        [vec![(2, tensor([value, 1.0]))], vec![(0, tensor([-value, 2.0]))]]
    }

    /// Computes an update of four micro-batches that the ranks share.
    fn update(rank: &Rank, timer: &StepTimer, early: bool) -> Gradient {
        let mut turns = (rank.index()..4).step_by(rank.world());
        let sum = GradientSum::of_update(rank, timer, early, 4 / rank.world(), |sum| {
            let micro_batch = turns.next().unwrap();
            for grads in grads(micro_batch) {
                sum.add(grads);
            }
            sum.add_loss(Tensor::from_data([micro_batch as f32], &Device::flex()));
            Ok(())
        });
        sum.unwrap().finish().unwrap()
    }

    #[test]
    fn an_update_sums_over_micro_batches_and_ranks() {
        let (off, running) = (StepTimer::default(), StepTimer::running());
        let mut all = vec![update(&Rank::alone(), &off, true)];
        for link in [Link::Host, Link::Simulated(1), Link::Simulated(3)] {
            all.extend(on_threads(2, &link, |rank| update(&rank, &off, true)));
            all.extend(on_threads(2, &link, |rank| update(&rank, &off, false)));
            all.extend(on_threads(2, &link, |rank| update(&rank, &running, true)));
        }
        assert_eq!(all.len(), 1 + 3 * 3 * 2);
        for gradient in all {
            gradient.loss.into_data().assert_eq(&[6.0f32].into(), true);
            let [(0, first), (2, last)]: [_; 2] = gradient.grads.try_into().unwrap() else {
                panic!("expected the gradients of parameters 0 and 2");
            };
            first.into_data().assert_eq(&[-6.0f32, 8.0].into(), true);
            last.into_data().assert_eq(&[6.0f32, 4.0].into(), true);
        }
    }

    /// Returns for each micro-batch: the [`BackwardMode`], the number of full buckets, and the number of started
    /// all-reduces.
    fn buckets_of(
        link: &Link,
        early: bool,
        timer: &StepTimer,
    ) -> Vec<(BackwardMode, usize, usize)> {
        let seen = on_threads(2, link, |rank| {
            let mut seen = Vec::new();
            let sum = GradientSum::of_update(&rank, timer, early, 2, |sum| {
                let pass = sum.backward_mode(false);
                assert_eq!(sum.backward_mode(true), BackwardMode::Recomputed);
                for grads in grads(1) {
                    sum.add(grads);
                }
                seen.push((pass, sum.buckets.len(), sum.pending.len()));
                sum.add_loss(tensor([1.0, 0.0]));
                Ok(())
            });
            sum.unwrap().finish().unwrap();
            seen
        });
        assert_eq!(seen[0], seen[1]);
        seen[0].clone()
    }

    #[test]
    fn the_last_micro_batch_starts_the_all_reduces_early() {
        let (off, running) = (StepTimer::default(), StepTimer::running());
        let seen = |link, early, timer| {
            let [first, last] = buckets_of(&link, early, timer).try_into().unwrap();
            assert_eq!(
                first,
                (BackwardMode::Whole, 0, 0),
                "sums are not final before the last micro-batch"
            );
            last
        };
        assert_eq!(seen(Link::Simulated(1), true, &off), (BackwardMode::Sections(1), 0, 2));
        assert_eq!(
            seen(Link::Simulated(3), true, &off),
            (BackwardMode::Sections(3), 0, 1),
            "the first gradient alone does not fill a bucket"
        );
        assert_eq!(seen(Link::Simulated(1), false, &off), (BackwardMode::Sections(1), 2, 0));
        assert_eq!(seen(Link::Simulated(1), true, &running), (BackwardMode::Sections(1), 2, 0));
        assert_eq!(seen(Link::Host, true, &off), (BackwardMode::Whole, 0, 0));
    }

    #[test]
    fn if_one_rank_fails_no_rank_gets_the_gradient() {
        let ends = on_threads(2, &Link::Simulated(1), |rank| {
            let failing = rank.index() == 1;
            let sum = GradientSum::of_update(&rank, &StepTimer::default(), true, 1, |sum| {
                let [first, second] = grads(1);
                sum.add(first);
                if failing {
                    return Err(DeviceError::Crashed("no memory".to_owned()).into());
                }
                sum.add(second);
                sum.add_loss(tensor([1.0, 0.0]));
                Ok(())
            });
            sum.and_then(GradientSum::finish).err()
        });
        assert!(matches!(
            ends[..],
            [Some(TrainError::OtherRank), Some(TrainError::Device(DeviceError::Crashed(_)))]
        ));
    }
}
