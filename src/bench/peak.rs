//! Peak speed of a device: large matrix products, with the kernel that training uses.

use crate::ops;
use crate::run::BenchDevices;
use crate::shape::Precision;
use crate::train::{ChosenDevice, DeviceBackend, TrainError};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use std::time::{Duration, Instant};

/// The matrix product is repeated for this long. The fastest repetition counts.
const TIME: Duration = Duration::from_millis(500);
/// Number of matrix products in one repetition. A single product would not fill the GPU.
const AT_ONCE: usize = 4;

/// Returns the speed of large matrix products on all devices together, in TFLOP/s.
pub(super) fn tflops(
    device: &ChosenDevice,
    precision: Precision,
    bench: &BenchDevices,
) -> Result<f64, TrainError> {
    let (side, workers) = match device.backend {
        DeviceBackend::Cpu => (768, device.threads),
        _ => (8192, 1),
    };
    let one = device.device.clone();
    let work = move || best(side, precision, &one);
    let each = bench.on_first(workers, work)?;
    let gpus = if device.backend == DeviceBackend::Cpu { 1 } else { device.devices.len() };
    Ok(each.iter().sum::<f64>() * gpus as f64)
}

fn best(side: usize, precision: Precision, device: &Device) -> f64 {
    let matrix = |factor: usize| {
        // Use irregular numbers: products of zeros can be faster.
        let values = (0..side * side).map(|i| (i * factor % 2003) as f32 / 1000.0 - 1.0).collect();
        let matrix = Tensor::<2>::from_data(TensorData::new::<f32, _>(values, [side; 2]), device);
        match precision {
            Precision::Fp32 => matrix,
            Precision::Bf16 => matrix.cast(FloatDType::BF16),
            Precision::Fp16 => matrix.cast(FloatDType::F16),
        }
    };
    let (a, b) = (matrix(7919), matrix(104_729));
    let product = || {
        for _ in 0..AT_ONCE {
            drop(ops::product(a.clone(), b.clone()));
        }
        // An error can be ignored: the training steps before this would have failed as well.
        let _ = device.sync();
    };
    product(); // compiles and tunes
    let (started, mut least) = (Instant::now(), f64::INFINITY);
    while started.elapsed() < TIME {
        let at = Instant::now();
        product();
        least = least.min(at.elapsed().as_secs_f64() / AT_ONCE as f64);
    }
    2.0 * (side as f64).powi(3) / least / 1e12
}
