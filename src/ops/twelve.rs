//! Operations on twelve tensors at once, on GPUs: as many as a transformer block has parameters.

use super::block::{Weights as Twelve, WeightsMetadata};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Device, Tensor};

/// The settings of an AdamW step of twelve parameters.
#[derive(Debug, Clone, Copy)]
pub struct AdamWSettings {
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    /// Learning rate of each parameter.
    pub lr: [f32; 12],
    /// Factor of each parameter before the step: `1 - lr * weight_decay`.
    pub decay: [f32; 12],
}

/// Twelve parameters and their two moments after a step.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Updated<B: Backend> {
    #[extension_type]
    pub params: Twelve<B>,
    #[extension_type]
    pub first: Twelve<B>,
    #[extension_type]
    pub second: Twelve<B>,
}

/// A backend that updates twelve parameters as one operation.
#[backend_extension(Cube, Fusion)]
pub(super) trait TwelveUpdates: Backend {
    /// Returns the parameters and moments after an AdamW step.
    ///
    /// `control` is `[1 - beta_1^t, 1 - beta_2^t, skip]`. If `skip` is 1, nothing changes.
    #[fusion(meta = updated_specs)]
    fn twelve_adamw(
        #[extension_type] params: Twelve<Self>,
        #[extension_type] grads: Twelve<Self>,
        #[extension_type] first: Twelve<Self>,
        #[extension_type] second: Twelve<Self>,
        control: FloatTensor<Self>,
        settings: AdamWSettings,
    ) -> Updated<Self>;

    /// Adds sums of squares to `before` `[256]`. The sum of the result is the sum of all squares.
    #[fusion(dtype = before, shape = before)]
    fn twelve_squares(
        #[extension_type] all: Twelve<Self>,
        before: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

fn updated_specs(
    params: &WeightsMetadata,
    _grads: &WeightsMetadata,
    _first: &WeightsMetadata,
    _second: &WeightsMetadata,
    _control: &TensorSpec,
    _settings: &AdamWSettings,
) -> UpdatedMetadata {
    let [params, first, second] = [(); 3].map(|()| params.clone());
    UpdatedMetadata { params, first, second }
}

/// Returns twelve parameters `[len]` and their two moments after an AdamW step, on a GPU.
///
/// `control` is `[1 - beta_1^t, 1 - beta_2^t, skip]` for step `t`. If `skip` is 1, nothing changes.
pub fn adamw_of_twelve(
    params: [Tensor<1>; 12],
    grads: [Tensor<1>; 12],
    moments: [[Tensor<1>; 12]; 2],
    control: Tensor<1>,
    settings: AdamWSettings,
) -> [[Tensor<1>; 12]; 3] {
    let [first, second] = moments.map(twelve);
    let (params, grads) = (twelve(params), twelve(grads));
    let control = control.into_dispatch();
    let Updated { params, first, second } =
        <Dispatch as TwelveUpdates>::twelve_adamw(params, grads, first, second, control, settings);
    [params, first, second].map(|all| all.into_array().map(Tensor::from_dispatch))
}

/// Returns the sum of the squares of all tensors, `[1]`, on a GPU.
pub fn sum_of_all_squares(tensors: &[Tensor<1>], device: &Device) -> Tensor<1> {
    let (chunks, rest) = tensors.as_chunks();
    let mut sums = Tensor::<1>::zeros([256], device);
    for chunk in chunks {
        let chunk = twelve(chunk.clone());
        let sum = <Dispatch as TwelveUpdates>::twelve_squares(chunk, sums.into_dispatch());
        sums = Tensor::from_dispatch(sum);
    }
    let rest = rest.iter().map(|tensor| tensor.clone().square().sum());
    rest.fold(sums.sum(), |sum, squares| sum + squares)
}

fn twelve(tensors: [Tensor<1>; 12]) -> Twelve<Dispatch> {
    Twelve::from_array(tensors.map(Tensor::into_dispatch))
}
