//! Reads tensors from the device.

use super::error::DeviceError;
use super::faults::check_faults;
use crate::checkpoint::HostTensor;
use burn::tensor::Tensor;

/// Copies a flattened tensor from the device to CPU memory. The result has the given `shape`.
pub fn host(values: &Tensor<1>, shape: &[usize]) -> Result<HostTensor, DeviceError> {
    let values = values
        .clone()
        .try_into_data()
        .map_err(|e| DeviceError::from_driver(format!("{e:?}")))?
        .try_into_vec::<f32>()
        .map_err(|e| DeviceError::Crashed(format!("{e:?}")))?;
    check_faults()?;
    Ok(HostTensor { shape: shape.to_vec(), values })
}
