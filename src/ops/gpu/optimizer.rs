//! Updates of twelve parameters in one launch.

use super::rows::{PARTS, for_each_part, sum_over_cube};
use super::{contiguous, empty, for_each};
use crate::ops::AdamWSettings;
use crate::ops::block::Weights as Twelve;
use crate::ops::twelve::{TwelveUpdates, Updated};
use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Number of units of a cube that adds up squares.
const UNITS: usize = 256;

impl TwelveUpdates for CubeBackend {
    fn twelve_adamw(
        params: Twelve<Self>,
        grads: Twelve<Self>,
        first: Twelve<Self>,
        second: Twelve<Self>,
        control: CubeTensor,
        settings: AdamWSettings,
    ) -> Updated<Self> {
        let rows = |all: Twelve<Self>| contiguous(all.into_array());
        let (params, grads) = (rows(params), rows(grads));
        let (first, second) = (rows(first), rows(second));
        let [control] = contiguous([control]);
        let news = [&params, &first, &second]
            .map(|all| all.each_ref().map(|tensor| empty(tensor, tensor.shape(), DType::F32)));
        // Metal binds 31 buffers at most: the control tensor, and seven for each parameter.
        let bindings = control.client.properties().hardware.max_bindings as usize;
        let at_once = (bindings.saturating_sub(1) / 7).clamp(1, 12);
        for start in (0..12).step_by(at_once) {
            let part = start..(start + at_once).min(12);
            let [params, grads, first, second] =
                [&params, &grads, &first, &second].map(|all| &all[part.clone()]);
            let news = news.each_ref().map(|all| &all[part.clone()]);
            let rates = [&settings.lr[part.clone()], &settings.decay[part]];
            update(params, grads, [first, second], &control, news, rates, &settings);
        }
        let [params, first, second] = news.map(Twelve::from_array);
        Updated { params, first, second }
    }

    fn twelve_squares(all: Twelve<Self>, before: CubeTensor) -> CubeTensor {
        let all = contiguous(all.into_array());
        let [before] = contiguous([before]);
        let sums = empty(&before, [PARTS], DType::F32);
        let (count, dim) = for_each_part(UNITS);
        // SAFETY: the kernel checks the places.
        unsafe {
            squares::launch_unchecked(
                &sums.client,
                count,
                dim,
                reach(&all),
                tensors(&all),
                before.into_buffer_arg(),
                sums.clone().into_buffer_arg(),
                lens(&all).collect(),
            );
        }
        sums
    }
}

fn tensors(all: &[CubeTensor]) -> SequenceArg<OwnedTensor<f32>> {
    all.iter().cloned().map(CubeTensor::into_tensor_arg).collect()
}

fn lens(all: &[CubeTensor]) -> impl Iterator<Item = usize> {
    all.iter().map(|tensor| tensor.meta.num_elements())
}

/// Returns the width of an index that reaches every element of each tensor.
fn reach(all: &[CubeTensor]) -> AddressType {
    all.iter().map(CubeTensor::required_address_type).max().unwrap_or_default()
}

/// Writes the parameters and moments after the step to `news`. `rates` are the learning rates and the decays.
fn update(
    params: &[CubeTensor],
    grads: &[CubeTensor],
    [first, second]: [&[CubeTensor]; 2],
    control: &CubeTensor,
    [new_params, new_first, new_second]: [&[CubeTensor]; 3],
    [lr, decay]: [&[f32]; 2],
    settings: &AdamWSettings,
) {
    let (count, dim) = for_each(control, lens(params).sum());
    // SAFETY: the kernel checks the places.
    unsafe {
        adamw::launch_unchecked(
            &control.client,
            count,
            dim,
            reach(params),
            tensors(params),
            tensors(grads),
            tensors(first),
            tensors(second),
            control.clone().into_buffer_arg(),
            tensors(new_params),
            tensors(new_first),
            tensors(new_second),
            lens(params).collect(),
            lr.iter().copied().collect(),
            decay.iter().copied().collect(),
            settings.beta_1,
            settings.beta_2,
            settings.epsilon,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn adamw(
    params: &Sequence<OwnedTensor<f32>>,
    grads: &Sequence<OwnedTensor<f32>>,
    first: &Sequence<OwnedTensor<f32>>,
    second: &Sequence<OwnedTensor<f32>>,
    control: &[f32],
    new_params: &mut Sequence<OwnedTensor<f32>>,
    new_first: &mut Sequence<OwnedTensor<f32>>,
    new_second: &mut Sequence<OwnedTensor<f32>>,
    lens: &Sequence<usize>,
    lr: &Sequence<f32>,
    decay: &Sequence<f32>,
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
) {
    let correction_1 = control[0];
    let correction_2 = control[1];
    let skip = control[2] > 0.5f32;
    let mut start = 0usize;
    #[unroll]
    for i in 0..comptime!(lens.len()) {
        let end = start + lens[i];
        if ABSOLUTE_POS >= start && ABSOLUTE_POS < end {
            let place = ABSOLUTE_POS - start;
            let grad = grads.index(i)[place];
            let old = params.index(i)[place];
            let old_m = first.index(i)[place];
            let old_v = second.index(i)[place];
            let m = old_m * beta_1 + grad * (1.0f32 - beta_1);
            let v = old_v * beta_2 + grad * grad * (1.0f32 - beta_2);
            let step = (m / correction_1) / ((v / correction_2).sqrt() + epsilon);
            let new = old * decay[i] - step * lr[i];
            new_params.index_mut(i)[place] = select(skip, old, new);
            new_first.index_mut(i)[place] = select(skip, old_m, m);
            new_second.index_mut(i)[place] = select(skip, old_v, v);
        }
        start = end;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn squares(
    tensors: &Sequence<OwnedTensor<f32>>,
    before: &[f32],
    sums: &mut [f32],
    lens: &Sequence<usize>,
) {
    let mut shared = Shared::new_slice(comptime!(UNITS));
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..comptime!(lens.len()) {
        let len = lens[i];
        let mut place = ABSOLUTE_POS;
        while place < len {
            let value = tensors.index(i)[place];
            sum += value * value;
            place += comptime!(PARTS * UNITS);
        }
    }
    let total = sum_over_cube(sum, &mut shared, comptime!(UNITS));
    if UNIT_POS == 0 {
        sums[CUBE_POS] = before[CUBE_POS] + total;
    }
}
