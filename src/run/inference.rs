//! Loads checkpoints onto devices that pass the device check, and measures them.

use crate::checkpoint::{Head, Opened};
use crate::data::{DataSet, EvalTransform, Split};
use crate::infer::{
    Autoencoder, Classifier, Evaluation, FeatureExtractor, Pooling, StopFlag, Tally,
};
use crate::recipe::Plan;
use crate::train::{
    ChosenDevice, DeviceCheck, DeviceThreads, Hosts, Rank, TrainError, check_device, on_every_rank,
};
use std::sync::Arc;

/// Batch size for evaluation and feature extraction.
pub const EVAL_BATCH: usize = 64;

/// Loads a classifier from an opened checkpoint.
///
/// `plan` has the settings that tensor shapes do not show, such as the number of heads. Fails if the device and the CPU
/// give different results for a batch of `images` images. `runtime.verify_device = false` skips this check.
pub fn load_classifier(
    opened: &Opened,
    plan: &Plan,
    device: &ChosenDevice,
    images: usize,
) -> Result<Classifier, TrainError> {
    if let Head::Linear { classes, global_pool } | Head::Probe { classes, global_pool } =
        opened.facts.head
    {
        let trial = DeviceCheck::Classifier { images, classes, global_pool, trained: false };
        check_device(device, plan, trial)?;
    }
    Ok(Classifier::load(opened, plan, &device.device)?)
}

/// Loads a masked autoencoder from an opened checkpoint.
///
/// `plan` has the settings that tensor shapes do not show, such as the number of heads. Fails if the device and the CPU
/// give different results for an image. `runtime.verify_device = false` skips this check.
pub fn load_autoencoder(
    opened: &Opened,
    plan: &Plan,
    device: &ChosenDevice,
) -> Result<Autoencoder, TrainError> {
    check_device(device, plan, DeviceCheck::Autoencoder { images: 1 })?;
    Ok(Autoencoder::load(opened, plan, &device.device)?)
}

/// Loads the encoder of an opened checkpoint, to compute features.
///
/// `layer` and `pooling` select the features, as in [`FeatureExtractor::load`]. Fails if the device and the CPU give
/// different results for a batch. `runtime.verify_device = false` skips this check.
pub fn load_features(
    opened: &Opened,
    plan: &Plan,
    device: &ChosenDevice,
    (layer, pooling): (Option<usize>, Option<Pooling>),
) -> Result<FeatureExtractor, TrainError> {
    let images = EVAL_BATCH;
    let trial = DeviceCheck::Classifier { images, classes: 1, global_pool: false, trained: false };
    check_device(device, plan, trial)?;
    Ok(FeatureExtractor::load(opened, plan, &device.device, layer, pooling)?)
}

/// Images to measure a classifier on.
#[derive(Clone)]
pub struct EvalImages {
    pub split: Arc<dyn Split>,
    pub transform: EvalTransform,
    /// Labels that the classifier may predict; `None` for all labels.
    pub among: Option<Arc<[u32]>>,
}

impl EvalImages {
    /// Returns the validation split. Fails if the data has none.
    pub fn validation(plan: &Plan, data: &DataSet) -> Result<Self, TrainError> {
        let split = validation(plan, data, "measure an accuracy")?;
        Ok(Self { split, transform: EvalTransform::new(&plan.data), among: None })
    }
}

/// Returns the validation split of a data set. If there is none, the error says that mae cannot do `what`.
pub(super) fn validation(
    plan: &Plan,
    data: &DataSet,
    what: &str,
) -> Result<Arc<dyn Split>, TrainError> {
    data.val.clone().ok_or_else(|| TrainError::Setting {
        problem: format!("cannot {what}: {} has no validation split", plan.data.path.display()),
        hint: "add a `val/` folder with the same class folders as `train/`".to_owned(),
    })
}

/// Loads a classifier and counts its predictions on each of `sets`. The devices of all hosts share the images.
///
/// All hosts must call this function with the same arguments, and get the same result. It has the same bits for any
/// number of devices and hosts. Returns `None` if the user stops the command. Fails if a loss is NaN or infinite.
pub fn evaluate(
    opened: Arc<Opened>,
    plan: &Plan,
    sets: Vec<EvalImages>,
    (device, hosts): (&ChosenDevice, &Hosts),
    stop: &StopFlag,
) -> Result<Option<Vec<Tally>>, TrainError> {
    let device_threads = DeviceThreads::start(device.devices.len());
    let (plan, stop) = (plan.clone(), stop.clone());
    on_every_rank(device, &device_threads, hosts, move |rank, device| {
        let classifier = load_classifier(&opened, &plan, &device, EVAL_BATCH)?;
        let replicas = device.replicas();
        check_same_sets(&rank, &sets)?;
        let parts = replicas.shards(EVAL_BATCH).count();
        let mut tallies = Vec::new();
        for EvalImages { split, transform, among } in sets.clone() {
            let images = (split, transform);
            let pass = Evaluation::of_images(&plan, images, EVAL_BATCH, &device.device, &stop);
            let own = classifier.tally(&pass, among, &replicas, rank.share())?;
            let shares: Option<Vec<Tally>> = rank.exchange(own)?.into_iter().collect();
            let Some(shares) = shares else { return Ok(None) };
            let whole = Tally::of_shares(&shares, parts);
            classifier.checked(&whole)?;
            tallies.push(whole);
        }
        Ok(Some(tallies))
    })
}

/// Fails if a rank on a different host sees a different number of images in one of the sets.
fn check_same_sets(rank: &Rank, sets: &[EvalImages]) -> Result<(), TrainError> {
    let own: Vec<u64> = sets.iter().map(|set| set.split.len() as u64).collect();
    let all = rank.exchange(own)?;
    let Some(other) = all.iter().position(|other| *other != all[0]) else { return Ok(()) };
    let images = |of: &[u64]| of.iter().sum::<u64>();
    Err(TrainError::Setting {
        problem: format!(
            "cannot measure on several hosts: rank {other} sees {} images, but rank 0 sees {}",
            images(&all[other]),
            images(&all[0])
        ),
        hint: "give all hosts the same images, under the same paths".to_owned(),
    })
}
