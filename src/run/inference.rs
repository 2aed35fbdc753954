//! Loads checkpoints onto checked devices, and evaluates a classifier on all devices.

use crate::checkpoint::{Head, Opened};
use crate::data::DataSet;
use crate::infer::{Autoencoder, Classifier, Evaluated, StopFlag};
use crate::recipe::Plan;
use crate::train::{
    ChosenDevice, DeviceCheck, DeviceThreads, Hosts, TrainError, check_device, on_every_rank,
};

/// Loads a classifier from an opened checkpoint.
///
/// `plan` provides settings that tensor shapes do not show, such as the number of heads. Fails if a batch of `images`
/// images gives different results on the device and on the CPU. `runtime.verify_device = false` skips this check.
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
/// `plan` provides settings that tensor shapes do not show, such as the number of heads. Fails if an image gives
/// different results on the device and on the CPU. `runtime.verify_device = false` skips this check.
pub fn load_autoencoder(
    opened: &Opened,
    plan: &Plan,
    device: &ChosenDevice,
) -> Result<Autoencoder, TrainError> {
    check_device(device, plan, DeviceCheck::Autoencoder { images: 1 })?;
    Ok(Autoencoder::load(opened, plan, &device.device)?)
}

/// Loads a classifier and measures its accuracy on the validation split of `data`.
///
/// The devices in `device` share the images.
pub fn evaluate(
    opened: Opened,
    plan: Plan,
    data: DataSet,
    batch_size: usize,
    device: &ChosenDevice,
    stop: &StopFlag,
) -> Result<Evaluated, TrainError> {
    let device_threads = DeviceThreads::start(device.devices.len());
    let stop = stop.clone();
    on_every_rank(device, &device_threads, &Hosts::default(), move |rank, device| {
        let classifier = load_classifier(&opened, &plan, &device, batch_size)?;
        let replicas = device.replicas();
        let own = classifier.count(&plan, &data, batch_size, &replicas, rank.share(), &stop)?;
        let measured = Evaluated::from_shares(rank.exchange(own)?);
        Ok(classifier.check(measured)?)
    })
}
