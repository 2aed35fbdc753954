//! Linear probing: a linear classifier on the features of a frozen encoder.

use super::stage::Stage;
use super::targets::soft_cross_entropy;
use crate::data::Batch;
use crate::infer::{Evaluated, Evaluation, Replicas, host, images};
use crate::model::{self, NamedParam, ProbeHead, Vit};
use crate::random::Key;
use crate::shape::EncoderDims;
use crate::train::{GradientSum, Rank, RankContext, StepPart, TrainError};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// The stage that asks how good the features are as they stand.
pub(crate) struct LinprobeStage {
    /// Its head is not used.
    pub frozen: Vit,
    pub encoder: EncoderDims,
    pub num_classes: usize,
    pub device: Device,
    pub evaluation: Evaluation,
}

impl Stage for LinprobeStage {
    type Model = ProbeHead;

    /// The encoder runs in shards; `BatchNorm` and the head see the whole micro-batch, whose statistics they need.
    fn backward(
        &self,
        model: &mut ProbeHead,
        batch: Batch,
        _key: Key,
        scale: f64,
        rank_context: &RankContext,
        sum: &mut GradientSum<'_>,
    ) -> Result<(), TrainError> {
        let (n, classes) = (batch.len(), self.num_classes);
        let targets = batch.shard(0..n).targets.soft(classes, 0.0);
        let targets = Tensor::from_data(TensorData::new(targets, [n, classes]), &self.device);
        let features = rank_context.timer.time(StepPart::Forward, &self.device, || {
            self.features(batch, &rank_context.replicas)
        })?;
        let head = model.clone().train();
        *model = observe(model.clone(), &features, &rank_context.rank)?;
        let loss = rank_context.timer.time(StepPart::Forward, &self.device, || {
            soft_cross_entropy(head.forward_train(features), targets) * scale
        });
        let grads = rank_context
            .timer
            .time(StepPart::Backward, &self.device, || model::grads(&head, &mut loss.backward()));
        sum.add_loss(loss.inner());
        sum.add(grads.into_iter().enumerate().collect());
        Ok(())
    }

    fn evaluate(
        &self,
        model: &ProbeHead,
        rank_context: &RankContext,
    ) -> Result<Evaluated, TrainError> {
        let frozen = self.frozen.clone();
        let own = self.evaluation.count(
            model,
            &rank_context.replicas,
            rank_context.rank.share(),
            move |head, imgs| head.forward(frozen.forward_features(imgs)),
        )?;
        Ok(Evaluated::from_shares(rank_context.rank.exchange(own)?))
    }

    fn export(&self, model: &ProbeHead) -> Vec<NamedParam> {
        let encoder =
            model::named(&self.frozen).into_iter().filter(|p| !p.name.starts_with("head."));
        let head = model::named(model)
            .into_iter()
            .map(|p| NamedParam { name: model::official_probe_name(&p.name).to_owned(), ..p });
        encoder.chain(head).collect()
    }
}

/// Moves the running statistics by the micro-batch of every rank, in their order: as one rank would that takes them all.
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

impl LinprobeStage {
    /// Gives the frozen encoder's features of a batch, `[N, D]`.
    fn features(&self, batch: Batch, replicas: &Replicas) -> Result<Tensor<2>, TrainError> {
        let batch = Arc::new(batch);
        let inputs: Vec<_> = replicas
            .shards(batch.len())
            .map(|range| (self.frozen.clone(), Arc::clone(&batch), range))
            .collect();
        let (in_chans, side) = (self.encoder.in_chans, self.encoder.input_size);
        let device = self.device.clone();
        let parts = replicas.map(inputs, move |(vit, batch, range)| {
            vit.forward_features(images(&batch, range, in_chans, side, &device))
        })?;
        Ok(Tensor::cat(parts, 0))
    }
}
