//! Checks a device before a run: compares one training step of a one-block model with the CPU.
//!
//! A GPU or a software adapter can compute wrong matrix products without an error. The step has the tensor shapes of
//! the run, so it finds such errors before the training.
//!
//! The device gets a full batch that repeats two images. The CPU gets the two images once, which is faster. Mean loss
//! and gradients must be equal.

use super::device::{Backend, ChosenDevice};
use super::device_threads::{DeviceThreads, TaskCoupling};
use crate::infer::DeviceError;
use crate::model::{self, Mae, Masks, Vit};
use crate::recipe::Plan;
use crate::shape::{self, EncoderDims, Precision};
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// Returns the largest accepted difference between device and CPU, relative to the tensor's largest value.
///
/// Observed differences of correct gradients are up to 1e-3 (fp32) and 2.9e-2 (bf16).
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 5e-3,
        Precision::Bf16 | Precision::Fp16 => 0.1,
    }
}
/// A test batch has at most this many different images.
const IMAGES: usize = 2;

/// A training step that is computed on a device and on the CPU.
///
/// The model has one block, and otherwise the dimensions of the run's model.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeviceCheck {
    /// Compares loss and gradients of a masked autoencoder.
    Autoencoder { images: usize },
    /// Compares the loss of a classifier. If `trained` is true, also compares the gradients.
    Classifier { images: usize, classes: usize, global_pool: bool, trained: bool },
}

fn of_stages(plan: &Plan, classes: usize) -> Vec<DeviceCheck> {
    let pretrain = plan
        .pretrain
        .as_ref()
        .map(|stage| DeviceCheck::Autoencoder { images: stage.training.batch_size });
    let finetune = plan.finetune.as_ref().map(|stage| DeviceCheck::Classifier {
        images: stage.training.batch_size,
        classes,
        global_pool: stage.global_pool,
        trained: true,
    });
    let linprobe = plan.linprobe.as_ref().map(|stage| DeviceCheck::Classifier {
        images: stage.training.batch_size,
        classes,
        global_pool: stage.global_pool,
        trained: false,
    });
    [pretrain, finetune, linprobe].into_iter().flatten().collect()
}

/// Compares one step of each stage on each device with the CPU. Fails if a result differs.
pub(crate) fn check_stages(
    device: &ChosenDevice,
    plan: &Plan,
    classes: usize,
    device_threads: &DeviceThreads,
) -> Result<(), TrainError> {
    let (device, plan, devices) = (device.clone(), plan.clone(), device.devices.len());
    let checks = of_stages(&plan, classes);
    let check = move |index| {
        let device = device.of(index);
        checks.iter().try_for_each(|step| check(&device, &plan, *step))
    };
    let checked = device_threads.all(devices, TaskCoupling::Independent, check);
    checked.into_iter().collect()
}

/// Compares one step on `device` with the CPU. Fails if a result differs.
///
/// Does nothing if `device` is the CPU or `runtime.verify_device` is false.
pub(crate) fn check(
    device: &ChosenDevice,
    plan: &Plan,
    step: DeviceCheck,
) -> Result<(), TrainError> {
    if device.backend == Backend::Cpu || !plan.runtime.verify_device {
        return Ok(());
    }
    let expected = step.results(plan, &Device::flex(), 1)?;
    let got = step.results(plan, &device.device, step.copies())?;
    let Some((name, difference)) = largest_difference(&expected, &got) else { return Ok(()) };
    if difference <= tolerance(plan.runtime.precision) {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!(
            "cannot compute on {}: this device returns wrong results. In a test step, {name} differs from the CPU \
             result by {:.2} % of the largest value",
            device.name,
            100.0 * difference
        ),
        hint: "update the GPU driver, or set another `runtime.device`. Run `mae verify tests/golden --device D` for details"
            .to_owned(),
    })
}

type Named = Vec<(String, Vec<f32>)>;

/// Returns the tensor with the largest relative difference, as name and difference.
fn largest_difference<'a>(expected: &'a Named, got: &Named) -> Option<(&'a str, f64)> {
    let shares = expected.iter().zip(got).map(|((name, expected), (_, got))| {
        let largest = expected.iter().fold(1e-12f64, |m, v| m.max(f64::from(v.abs())));
        let distance = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        let worst = got.iter().zip(expected).map(distance);
        let worst = worst.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        let same = got.len() == expected.len();
        (name.as_str(), if same { worst / largest } else { f64::INFINITY })
    });
    shares.max_by(|a, b| a.1.total_cmp(&b.1))
}

impl DeviceCheck {
    fn images(self) -> usize {
        match self {
            Self::Autoencoder { images } | Self::Classifier { images, .. } => images,
        }
    }

    fn distinct(self) -> usize {
        self.images().min(IMAGES)
    }

    fn copies(self) -> usize {
        self.images() / self.distinct()
    }

    fn results(self, plan: &Plan, device: &Device, copies: usize) -> Result<Named, TrainError> {
        let encoder = EncoderDims { depth: 1, ..plan.encoder_dims() };
        let imgs = self.pixels(&encoder, copies, device);
        match self {
            Self::Autoencoder { .. } => {
                let decoder = shape::DecoderDims { depth: 1, ..plan.model.decoder_dims() };
                let mae = model::init_mae(Mae::zeros(&encoder, &decoder, device), plan.seed);
                let mae = mae.train();
                let masks = self.masks(plan, encoder.num_patches(), copies);
                read(&mae, &mae.forward(imgs, &masks, shape::MaeLoss::masked(false)).loss, true)
            }
            Self::Classifier { classes, global_pool, trained, .. } => {
                let vit = Vit::zeros(&encoder, classes, global_pool, device);
                let vit = model::init_vit(vit, plan.seed).train();
                let labels: Vec<u32> = (0..self.distinct() * copies)
                    .map(|i| ((i % self.distinct()) % classes) as u32)
                    .collect();
                let targets = shape::soft_targets(&labels, classes, 0.0);
                let targets = TensorData::new(targets, [labels.len(), classes]);
                let targets = Tensor::from_data(targets, device);
                read(&vit, &model::soft_cross_entropy(vit.forward(imgs), targets), trained)
            }
        }
    }

    fn pixels(self, encoder: &EncoderDims, copies: usize, device: &Device) -> Tensor<4> {
        let (channels, size) = (encoder.in_chans, encoder.input_size);
        let values = (0..self.distinct() * channels * size.area())
            .map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0);
        let values = values.collect::<Vec<f32>>().repeat(copies);
        let shape = [self.distinct() * copies, channels, size.height, size.width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn masks(self, plan: &Plan, patches: usize, copies: usize) -> Masks {
        let mask_ratio = plan.pretrain.as_ref().map_or(0.75, |pretrain| pretrain.masking.ratio);
        let noise = (0..self.distinct() * patches).map(|i| (i * 7919 % 104_729) as f32);
        Masks::from_noise(&noise.collect::<Vec<f32>>().repeat(copies), patches, mask_ratio)
    }
}

/// Copies the loss from the device, and the gradients if `gradients` is true.
fn read<M: Module>(module: &M, loss: &Tensor<1>, gradients: bool) -> Result<Named, TrainError> {
    let values = |tensor: Tensor<1>| -> Result<Vec<f32>, TrainError> {
        Ok(tensor.try_into_vec_as().map_err(|e| DeviceError::from_driver(format!("{e:?}")))?)
    };
    let mut found = vec![("the loss".to_owned(), values(loss.clone().inner())?)];
    if gradients {
        let mut grads = loss.backward();
        let grads = model::grads(module, &mut grads);
        for (name, grad) in model::trainable_names(module).into_iter().zip(grads) {
            // The correct gradient of a key bias is zero, so only rounding errors would be compared.
            if !name.ends_with("qkv.bias") {
                found.push((format!("the gradient of {name}"), values(grad)?));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe;

    const RECIPE: &str = r#"
name = "step"
[data]
format = "digits"
input_size = 8
[model]
patch_size = 2
embed_dim = 16
depth = 3
num_heads = 2
decoder_embed_dim = 8
decoder_depth = 1
decoder_num_heads = 2
[pretrain]
epochs = 1
warmup_epochs = 0
batch_size = 7
[finetune]
epochs = 1
warmup_epochs = 0
batch_size = 4
[linprobe]
epochs = 1
warmup_epochs = 0
batch_size = 1
"#;

    fn plan() -> Plan {
        let options =
            recipe::Options { missing_data: recipe::Missing::Warn, gpus: |_| 0, hosts: 1 };
        let resolved = recipe::resolve_text(Path::new("r.toml"), RECIPE, &[], &[], &options);
        resolved.expect("the recipe is right").points.remove(0).plan
    }

    #[test]
    fn a_batch_of_copies_has_the_loss_and_gradients_of_its_images() {
        let (plan, cpu) = (plan(), Device::flex());
        let checks = of_stages(&plan, 10);
        assert_eq!(checks.iter().map(|step| step.copies()).collect::<Vec<_>>(), [3, 2, 1]);
        for step in checks {
            let few = step.results(&plan, &cpu, 1).unwrap();
            let many = step.results(&plan, &cpu, step.copies()).unwrap();
            let gradients = !matches!(step, DeviceCheck::Classifier { trained: false, .. });
            assert_eq!(few.len() > 1, gradients, "{step:?}");
            let (name, difference) = largest_difference(&few, &many).unwrap();
            assert!(difference < 1e-4, "{step:?}: {name} differs by {difference}");
        }
    }

    #[test]
    fn zeros_nan_and_missing_numbers_are_large_differences() {
        let right = vec![("a".to_owned(), vec![1.0, -2.0]), ("b".to_owned(), vec![3.0])];
        assert_eq!(largest_difference(&right, &right).map(|(_, share)| share), Some(0.0));
        for (wrong, share) in
            [(vec![0.0], 1.0), (vec![f32::NAN], f64::INFINITY), (vec![], f64::INFINITY)]
        {
            let got = vec![right[0].clone(), ("b".to_owned(), wrong)];
            assert_eq!(largest_difference(&right, &got), Some(("b", share)));
        }
    }
}
