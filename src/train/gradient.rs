//! The gradient of an update, in the making.
//!
//! The gradients of its micro-batches are added up, and then over the ranks. What the last micro-batch adds is final: each
//! part of it is sent to the other ranks as soon as it is there, while the device computes the next.

use super::Rank;
use super::TrainError;
use super::Watch;
use super::ranks::Sending;
use crate::model;
use crate::model::PartialGrads;
use crate::model::Pass;
use burn::module::Module;
use burn::tensor::Tensor;

/// Sums of gradients and losses over the micro-batches of an update.
pub struct GradientSum<'a> {
    rank: &'a Rank,
    /// Whether parts are sent before all are there: not where a watch takes the parts of a step apart.
    early: bool,
    is_last: bool,
    loss: Option<Tensor<1>>,
    /// By place in [`model::trainable_names`].
    grads: Vec<Option<Tensor<1>>>,
    sent: Vec<(Vec<usize>, Sending)>,
    failed: Option<TrainError>,
}

/// The gradient of an update.
pub(super) struct Gradient {
    /// Loss, `[1]`.
    pub loss: Tensor<1>,
    /// Gradients of the trained parameters, flattened, in the order of [`model::trainable_names`].
    pub grads: Vec<Tensor<1>>,
}

impl<'a> GradientSum<'a> {
    pub(super) fn new(rank: &'a Rank, watch: &Watch) -> Self {
        Self {
            rank,
            early: rank.world() > 1 && !watch.is_running(),
            is_last: false,
            loss: None,
            grads: Vec::new(),
            sent: Vec::new(),
            failed: None,
        }
    }

    /// The next micro-batch is the update's last: its gradients are sent as they come.
    pub(super) fn last(&mut self) {
        self.is_last = true;
    }

    /// How to pass backward, if nothing else is asked for.
    pub(super) fn pass(&self) -> Pass {
        if self.early && self.is_last { Pass::Parts(self.rank.message()) } else { Pass::Whole }
    }

    /// Adds the scaled loss of some images, `[1]`.
    pub(super) fn add_loss(&mut self, loss: Tensor<1>) {
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }

    /// Adds scaled gradients. The parameters of a part, and the order of parts, are the same on all ranks.
    pub(super) fn add(&mut self, part: PartialGrads) {
        let places: Vec<usize> = part.iter().map(|(place, _)| *place).collect();
        add_to(&mut self.grads, part);
        if !(self.early && self.is_last) || self.failed.is_some() {
            return;
        }
        let sums = places.iter().map(|&place| self.grads[place].take().expect("just added"));
        match self.rank.send(sums.collect()) {
            Ok(sending) => self.sent.push((places, sending)),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Gives the sums over all ranks. A parameter of `model` that no gradient came for has zeros.
    pub(super) fn finish<M: Module>(mut self, model: &M) -> Result<Gradient, TrainError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let left: Vec<usize> =
            (0..self.grads.len()).filter(|&place| self.grads[place].is_some()).collect();
        let mut tensors: Vec<_> =
            left.iter().filter_map(|&place| self.grads[place].take()).collect();
        tensors.push(self.loss.expect("a batch is never empty"));
        let mut sums = self.rank.send(tensors)?.finish()?;
        let loss = sums.pop().expect("the loss went in last");
        add_to(&mut self.grads, left.into_iter().zip(sums));
        for (places, sending) in self.sent {
            add_to(&mut self.grads, places.into_iter().zip(sending.finish()?));
        }
        let trained = model::named(model).into_iter().filter(|param| param.trained).enumerate();
        let grads = trained.map(|(place, param)| {
            let grad = self.grads.get_mut(place).and_then(Option::take);
            grad.unwrap_or_else(|| param.values.zeros_like())
        });
        Ok(Gradient { loss, grads: grads.collect() })
    }
}

/// Adds gradients up by their places.
pub(super) fn add_to(
    sums: &mut Vec<Option<Tensor<1>>>,
    part: impl IntoIterator<Item = (usize, Tensor<1>)>,
) {
    for (place, grad) in part {
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
    use super::Gradient;
    use super::GradientSum;
    use super::Rank;
    use super::TrainError;
    use super::Watch;
    use crate::model::Linear;
    use crate::model::PartialGrads;
    use crate::model::Pass;
    use crate::model::Precision;
    use burn::tensor::Device;
    use burn::tensor::Tensor;
    use std::thread;

    fn tensor(values: [f32; 2]) -> Tensor<1> {
        Tensor::from_data(values, &Device::flex())
    }

    /// The weight's gradient in a micro-batch; the bias has none.
    fn part(micro_batch: usize) -> PartialGrads {
        vec![(0, tensor([micro_batch as f32, 1.0]))]
    }

    /// An update of four micro-batches, `world` ranks taking turns.
    fn update(rank: &Rank, watch: &Watch) -> Gradient {
        let mut sum = GradientSum::new(rank, watch);
        for micro_batch in (rank.index()..4).step_by(rank.world()) {
            if micro_batch + rank.world() >= 4 {
                sum.last();
            }
            sum.add(part(micro_batch));
            sum.add_loss(Tensor::from_data([micro_batch as f32], &Device::flex()));
        }
        let model = Linear::zeros(1, 2, Precision::Fp32, &Device::flex());
        sum.finish(&model).unwrap()
    }

    fn on_two_ranks<T: Send>(work: impl Fn(Rank) -> T + Sync) -> Vec<T> {
        let work = &work;
        thread::scope(|scope| {
            let ranks = Rank::group(2, None).into_iter();
            let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a rank")).collect()
        })
    }

    #[test]
    fn an_update_adds_up_micro_batches_and_ranks() {
        let running = Watch::running();
        let mut all = vec![update(&Rank::alone(), &Watch::default())];
        all.extend(on_two_ranks(|rank| update(&rank, &Watch::default())));
        all.extend(on_two_ranks(|rank| update(&rank, &running)));
        assert_eq!(all.len(), 5);
        for gradient in all {
            gradient.loss.into_data().assert_eq(&[6.0f32].into(), true);
            let [weight, bias] = gradient.grads.try_into().expect("two parameters");
            weight.into_data().assert_eq(&[6.0f32, 4.0].into(), true);
            bias.into_data().assert_eq(&[0.0f32, 0.0].into(), true);
        }
    }

    #[test]
    fn parts_of_the_last_micro_batch_are_sent_before_the_next_is_there() {
        let ends = on_two_ranks(|rank| {
            let mut sum = GradientSum::new(&rank, &Watch::default());
            assert_eq!(sum.pass(), Pass::Whole);
            sum.add(vec![(1, tensor([1.0, 0.0]))]);
            assert!(sum.sent.is_empty(), "there is more to come for it");
            sum.last();
            assert_eq!(sum.pass(), Pass::Parts(1));
            sum.add(vec![(1, tensor([2.0, 0.0]))]);
            assert_eq!(sum.sent.len(), 1);
            if rank.index() == 1 {
                return None; // as an error would
            }
            sum.add(part(0));
            let (_, sending) = sum.sent.remove(0);
            let sums = sending.finish().unwrap().remove(0);
            let model = Linear::zeros(1, 2, Precision::Fp32, &Device::flex());
            let failed = matches!(sum.finish(&model), Err(TrainError::OtherRank));
            Some((sums.into_data(), failed))
        });
        let (sums, failed) = ends.into_iter().flatten().next().expect("rank 0 ends");
        sums.assert_eq(&[6.0f32, 0.0].into(), true);
        assert!(failed);
    }
}
