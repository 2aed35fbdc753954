//! Whether a device computes right: a step of a small model in the run's own shapes, held against the CPU.
//!
//! A GPU, or software that plays one, may compute wrong products without an error (seen: every product whose inner length
//! is no multiple of 4 came out as zeros). A step of one block at the start of a run finds that. The device gets whole
//! batches, so the products that are tried, and on a GPU tuned, are those of the run; the CPU gets two images, which the
//! batch repeats: means over both are the same.

use super::device::{Backend, ChosenDevice};
use super::device_threads::{DeviceThreads, TaskCoupling};
use crate::infer::DeviceError;
use crate::model::{self, Mae, Masks, Vit};
use crate::recipe::Plan;
use crate::shape::{self, EncoderDims, Precision};
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// Largest difference, as a share of a tensor's largest entry. Wrong products differ by about 1, and bf16's gradients by
/// 2.9e-2. fp32 that sums the copies of an image one after another rounds them all alike: in a batch of thousands, 1e-3.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 5e-3,
        Precision::Bf16 => 0.1,
    }
}
/// Images that differ in a batch; the others repeat them.
const IMAGES: usize = 2;

/// What a device is tried with: the shapes of what it will do, one block deep. `images` are computed at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeviceCheck {
    /// A masked autoencoder's loss and gradients.
    Autoencoder { images: usize },
    /// A classifier's loss and, where it is `trained` whole, its gradients.
    Classifier { images: usize, classes: usize, global_pool: bool, trained: bool },
}

/// The trials of all stages of a recipe.
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

/// Tries what the stages of `plan` do on `device` and on the CPU, and fails if they differ.
///
/// Each device is checked on its own thread.
pub(crate) fn check_stages(
    device: &ChosenDevice,
    plan: &Plan,
    classes: usize,
    device_threads: &DeviceThreads,
) -> Result<(), TrainError> {
    let (device, plan, devices) = (device.clone(), plan.clone(), device.devices.len());
    let trials = of_stages(&plan, classes);
    let check = move |index| {
        let device = device.of(index);
        trials.iter().try_for_each(|trial| check(&device, &plan, *trial))
    };
    let checked = device_threads.all(devices, TaskCoupling::Independent, check);
    checked.into_iter().collect()
}

/// Tries `device` in this thread, unless it is the CPU or `runtime.verify_device` is off.
pub(crate) fn check(
    device: &ChosenDevice,
    plan: &Plan,
    trial: DeviceCheck,
) -> Result<(), TrainError> {
    if device.backend == Backend::Cpu || !plan.runtime.verify_device {
        return Ok(());
    }
    let expected = trial.results(plan, &Device::flex(), 1)?;
    let got = trial.results(plan, &device.device, trial.copies())?;
    let Some((name, share)) = farthest(&expected, &got) else { return Ok(()) };
    if share <= tolerance(plan.runtime.precision) {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!(
            "{} computes wrong: {name} of a small step is {:.2} % of its largest entry away from the CPU's",
            device.name,
            100.0 * share
        ),
        hint: "update the graphics driver, or use another runtime.device; `mae verify tests/golden --device D` shows more"
            .to_owned(),
    })
}

type Named = Vec<(String, Vec<f32>)>;

/// The tensor that is farthest away, as a share of its largest entry.
fn farthest<'a>(expected: &'a Named, got: &Named) -> Option<(&'a str, f64)> {
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

    /// How many images differ.
    fn distinct(self) -> usize {
        self.images().min(IMAGES)
    }

    /// How often the batch repeats them.
    fn copies(self) -> usize {
        self.images() / self.distinct()
    }

    /// The loss and the gradients of `copies` times the images that differ.
    fn results(self, plan: &Plan, device: &Device, copies: usize) -> Result<Named, TrainError> {
        let encoder = EncoderDims { depth: 1, ..plan.encoder_dims() };
        let imgs = self.pixels(&encoder, copies, device);
        match self {
            Self::Autoencoder { .. } => {
                let decoder = shape::DecoderDims { depth: 1, ..plan.model.decoder_dims() };
                let mae = model::init_mae(Mae::zeros(&encoder, &decoder, device), plan.seed);
                let mae = mae.train();
                let masks = self.masks(plan, encoder.num_patches(), copies);
                read(&mae, &mae.forward(imgs, &masks, false).loss, true)
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
        let (channels, side) = (encoder.in_chans, encoder.input_size);
        let values = (0..self.distinct() * channels * side * side)
            .map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0);
        let values = values.collect::<Vec<f32>>().repeat(copies);
        let shape = [self.distinct() * copies, channels, side, side];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn masks(self, plan: &Plan, patches: usize, copies: usize) -> Masks {
        let mask_ratio = plan.pretrain.as_ref().map_or(0.75, |pretrain| pretrain.mask_ratio);
        let noise = (0..self.distinct() * patches).map(|i| (i * 7919 % 104_729) as f32);
        Masks::from_noise(&noise.collect::<Vec<f32>>().repeat(copies), patches, mask_ratio)
    }
}

/// Reads a loss and, where they are wanted, the gradients of `module`.
fn read<M: Module>(module: &M, loss: &Tensor<1>, gradients: bool) -> Result<Named, TrainError> {
    let values = |tensor: Tensor<1>| -> Result<Vec<f32>, TrainError> {
        Ok(tensor.try_into_vec_as().map_err(|e| DeviceError::from_driver(format!("{e:?}")))?)
    };
    let mut found = vec![("the loss".to_owned(), values(loss.clone().inner())?)];
    if gradients {
        let mut grads = loss.backward();
        let grads = model::grads(module, &mut grads);
        for (name, grad) in model::trainable_names(module).into_iter().zip(grads) {
            // A key bias has no gradient but rounding noise.
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
name = "trial"
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
        let options = recipe::Options { missing_data: recipe::Missing::Warn, gpus: |_| 0 };
        let resolved = recipe::resolve_text(Path::new("r.toml"), RECIPE, &[], &[], &options);
        resolved.expect("the recipe is right").points.remove(0).plan
    }

    #[test]
    fn a_batch_of_copies_gives_what_its_images_give() {
        let (plan, cpu) = (plan(), Device::flex());
        let trials = of_stages(&plan, 10);
        assert_eq!(trials.iter().map(|trial| trial.copies()).collect::<Vec<_>>(), [3, 2, 1]);
        for trial in trials {
            let few = trial.results(&plan, &cpu, 1).unwrap();
            let many = trial.results(&plan, &cpu, trial.copies()).unwrap();
            let gradients = !matches!(trial, DeviceCheck::Classifier { trained: false, .. });
            assert_eq!(few.len() > 1, gradients, "{trial:?}");
            let (name, share) = farthest(&few, &many).unwrap();
            assert!(share < 1e-4, "{trial:?}: {name} is {share} away");
        }
    }

    #[test]
    fn zeros_numbers_that_are_none_and_missing_ones_are_far_away() {
        let right = vec![("a".to_owned(), vec![1.0, -2.0]), ("b".to_owned(), vec![3.0])];
        assert_eq!(farthest(&right, &right).map(|(_, share)| share), Some(0.0));
        for (wrong, share) in
            [(vec![0.0], 1.0), (vec![f32::NAN], f64::INFINITY), (vec![], f64::INFINITY)]
        {
            let got = vec![right[0].clone(), ("b".to_owned(), wrong)];
            assert_eq!(farthest(&right, &got), Some(("b", share)));
        }
    }
}
