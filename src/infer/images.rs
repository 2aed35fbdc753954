//! Copies images to the device.

use crate::data::{ImagesSlice, Normalization, Shard};
use crate::shape::EncoderDims;
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Tensor, TensorData};

/// Copies the images of a shard to the device and normalizes them. Returns `[N, C, H, W]`.
pub fn images(shard: &Shard<'_>, encoder: &EncoderDims, device: &Device) -> Tensor<4> {
    let size = encoder.input_size;
    let shape = [shard.samples.len(), encoder.in_chans, size.height, size.width];
    match shard.images {
        ImagesSlice::Values(values) => {
            Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
        }
        ImagesSlice::Levels(levels, scale) => normalized(levels, scale, shape, device),
    }
}

fn normalized(
    levels: &[u8],
    scale: &Normalization,
    shape: [usize; 4],
    device: &Device,
) -> Tensor<4> {
    let channels = |values: &[f32]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, shape[1], 1, 1]), device)
    };
    let levels: Tensor<4> = if device.supports_dtype(IntDType::U8) {
        let levels = TensorData::new(levels.to_vec(), shape);
        Tensor::<4, Int>::from_data(levels, (device, DType::U8)).cast(FloatDType::F32)
    } else {
        let levels: Vec<f32> = levels.iter().copied().map(f32::from).collect();
        Tensor::from_data(TensorData::new(levels, shape), device)
    };
    (levels / 255.0 - channels(&scale.mean)) / channels(&scale.std)
}

#[cfg(test)]
mod tests {
    use super::normalized;
    use crate::data::Normalization;
    use burn::tensor::Device;

    #[test]
    fn the_device_normalizes_to_the_same_bits_as_the_host() {
        let scale = Normalization { mean: vec![0.485, 0.456], std: vec![0.229, 0.224] };
        let levels: Vec<u8> = (0..512).map(|i| (i % 256) as u8).collect();
        let values = normalized(&levels, &scale, [1, 2, 16, 16], &Device::flex());
        let values: Vec<f32> = values.into_data().try_to_vec().unwrap();
        for (i, value) in values.into_iter().enumerate() {
            let (level, channel) = (f32::from(levels[i]), i / 256);
            let expected = (level / 255.0 - scale.mean[channel]) / scale.std[channel];
            assert_eq!(value.to_bits(), expected.to_bits(), "level {level}");
        }
    }
}
