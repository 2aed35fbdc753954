//! Whether a device computes right: a step of a small model in the run's own shapes, held against the CPU.
//!
//! A GPU, or software that plays one, may compute wrong products without an error (seen: every product whose inner length
//! is no multiple of 4 came out as zeros). A few seconds at the start of a run find that.

use super::ChosenDevice;
use super::TrainError;
use super::crew::Crew;
use super::crew::Parts;
use super::device::Backend;
use super::dims;
use crate::model;
use crate::model::EncoderDims;
use crate::model::Mae;
use crate::model::Masks;
use crate::recipe::Plan;
use crate::recipe::Precision;
use burn::module::Module;
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::TensorData;

/// Largest difference, as a share of a tensor's largest entry. Wrong products differ by about 1; TF32 by about 1e-3, and
/// bf16's gradients by 2.4e-2.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 0.02,
        Precision::Bf16 => 0.1,
    }
}
/// Images in the step.
const IMAGES: usize = 2;

/// Runs one step of one block in the shapes of `plan` on `device` and on the CPU, and fails if they differ.
///
/// Each device is tried on its own thread of the crew.
pub(super) fn check(device: &ChosenDevice, plan: &Plan, crew: &Crew) -> Result<(), TrainError> {
    if device.backend == Backend::Cpu || !plan.runtime.verify_device {
        return Ok(());
    }
    let (device, plan, devices) = (device.clone(), plan.clone(), device.devices.len());
    let check = move |index| check_one(&device.of(index), &plan);
    let checked = crew.all(devices, Parts::Independent, check);
    checked.into_iter().collect()
}

fn check_one(device: &ChosenDevice, plan: &Plan) -> Result<(), TrainError> {
    let (expected, got) = (step(plan, &Device::flex())?, step(plan, &device.device)?);
    for ((name, expected), (_, got)) in expected.iter().zip(&got) {
        let largest = expected.iter().fold(1e-12f64, |m, v| m.max(f64::from(v.abs())));
        let distance = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        let worst = got
            .iter()
            .zip(expected)
            .map(distance)
            .fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        if worst / largest > tolerance(plan.runtime.precision) || got.len() != expected.len() {
            return Err(TrainError::Setting {
                problem: format!(
                    "{} computes wrong: {name} of a small step is {:.0} % of its largest entry away from the CPU's",
                    device.name,
                    100.0 * worst / largest
                ),
                hint: "update the graphics driver, or use another runtime.device; `mae verify tests/golden --device D` shows \
                       more"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

type Named = Vec<(String, Vec<f32>)>;

/// The loss and gradients of a masked autoencoder with one block on each side.
fn step(plan: &Plan, device: &Device) -> Result<Named, TrainError> {
    let encoder = EncoderDims { depth: 1, ..dims::encoder(plan) };
    let decoder = model::DecoderDims { depth: 1, ..dims::decoder(&plan.model) };
    let mae = model::init_mae(Mae::zeros(&encoder, &decoder, device), plan.seed);
    let (patches, side) = (encoder.num_patches(), encoder.input_size);
    let mask_ratio = plan.pretrain.as_ref().map_or(0.75, |pretrain| pretrain.mask_ratio);
    let noise: Vec<f32> = (0..IMAGES * patches).map(|i| (i * 7919 % 104_729) as f32).collect();
    let masks = Masks::from_noise(&noise, patches, mask_ratio);
    let pixels: Vec<f32> = (0..IMAGES * encoder.in_chans * side * side)
        .map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0)
        .collect();
    let pixels = TensorData::new(pixels, [IMAGES, encoder.in_chans, side, side]);
    let replica = mae.clone().train();
    let loss = replica.forward(Tensor::from_data(pixels, device), &masks, false).loss;
    let read = |tensor: Tensor<1>| -> Result<Vec<f32>, TrainError> {
        tensor.try_into_vec_as().map_err(|e| TrainError::from_device(format!("{e:?}")))
    };
    let mut found = vec![("the loss".to_owned(), read(loss.clone().inner())?)];
    let mut grads = loss.backward();
    let grads = model::grads(&replica, &mut grads);
    for (name, grad) in model::trainable_names(&mae).into_iter().zip(grads) {
        // A key bias has no gradient but rounding noise.
        if !name.ends_with("qkv.bias") {
            found.push((format!("the gradient of {name}"), read(grad)?));
        }
    }
    Ok(found)
}
