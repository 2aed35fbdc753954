//! Kernels that work on one row at a time: their size, and sums over a row.

use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

/// Number of partial sums of a column sum. Fixed, so that the result does not depend on the GPU.
pub(super) const PARTS: usize = 256;

/// Returns the number of units that share a row of this width: a power of two.
pub(super) fn units(width: usize) -> usize {
    width.next_power_of_two().clamp(32, 256)
}

/// Returns the size of a launch with one cube for each row.
pub(super) fn for_each_row(like: &CubeTensor, rows: usize, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(units as u32);
    (calculate_cube_count_elemwise(&like.client, rows * units, dim), dim)
}

/// Returns the size of a launch with one cube for each partial sum.
pub(super) fn for_each_part(units: usize) -> (CubeCount, CubeDim) {
    (CubeCount::Static(PARTS as u32, 1, 1), CubeDim::new_1d(units as u32))
}

/// Returns the sum of `value` over all units of the cube.
#[cube]
pub(super) fn sum_over_cube(
    value: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] units: usize,
) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            shared[unit] += shared[unit + half];
        }
        sync_cube();
    }
    let total = shared[0];
    // The next sum overwrites the shared memory.
    sync_cube();
    total
}

/// Returns the maximum of `value` over all units of the cube.
#[cube]
pub(super) fn max_over_cube(
    value: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] units: usize,
) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            shared[unit] = max(shared[unit], shared[unit + half]);
        }
        sync_cube();
    }
    let largest = shared[0];
    sync_cube();
    largest
}
