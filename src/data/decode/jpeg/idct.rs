//! Computes the inverse DCT of 16 blocks at a time.
//!
//! The results equal those of libjpeg-turbo on x86: of `jsimd_idct_islow`, `jsimd_idct_4x4` and `jsimd_idct_2x2`, which
//! are assembly, and of `jpeg_idct_1x1`. Damaged files can have coefficients that are too large for the 16-bit numbers of
//! the assembly. It keeps the low 16 bits of some results and clamps others, and so does this code.
//!
//! Each lane of a vector has one block, so neither pass needs to transpose. Blocks for which this code could differ from
//! the assembly are left to `block.rs`.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

use super::block;
use super::one_dimension::{
    CONST_BITS, PASS1_BITS, Steps, descale, extra_bits, is_used, one_dimension, to_i16, to_pixel,
};
use crate::data::decode::simd::vectorized;

/// Number of blocks that [`transform`] computes at the same time.
pub(super) const LANES: usize = 16;

/// Coefficients of [`LANES`] blocks, `[coefficient, block]`.
///
/// The coefficients of a block are in row-major order.
pub(super) type BlockGroup = [[i16; LANES]; 64];

/// Largest first coefficient of a column that stays in 16 bits with [`PASS1_BITS`] fraction bits.
const LARGEST: u16 = 8191;

vectorized! {
    /// Applies the inverse DCT to 16 blocks. Each block becomes `size` x `size` pixels.
    ///
    /// Writes the blocks side by side into `out`, with `stride` bytes per row.
    pub(super) fn transform(
        group: &BlockGroup,
        steps: &Steps,
        size: usize,
        out: &mut [u8],
        stride: usize,
    ) {
        match size {
            8 => sized::<8>(group, steps, out, stride),
            4 => sized::<4>(group, steps, out, stride),
            2 => sized::<2>(group, steps, out, stride),
            _ => {
                for (pixel, level) in out.iter_mut().zip(group[0]) {
                    *pixel = block::mean(level, steps[0]);
                }
            }
        }
    }
}

#[inline(always)]
fn sized<const N: usize>(group: &BlockGroup, steps: &Steps, out: &mut [u8], stride: usize) {
    let (between, over) = columns::<N>(group, steps);
    if over.iter().any(|over| *over != 0) {
        return one_by_one(group, steps, N, out, stride);
    }
    for (row, out) in between.chunks_exact(8).take(N).zip(out.chunks_mut(stride)) {
        let row = row.try_into().expect("a row has 8 coefficients");
        let mut pixels = [[0; LANES]; N];
        pixel_row::<N>(row, &mut pixels);
        interleave(&pixels, out);
    }
}

/// Applies the inverse DCT to each block of a group separately.
#[cold]
fn one_by_one(group: &BlockGroup, steps: &Steps, size: usize, out: &mut [u8], stride: usize) {
    for lane in 0..LANES {
        let pixels = block::transform(&group.map(|levels| levels[lane]), steps, size);
        for (pixels, out) in pixels.chunks_exact(size).zip(out.chunks_mut(stride)) {
            out[lane * size..][..size].copy_from_slice(pixels);
        }
    }
}

/// Applies the inverse DCT to the columns of each block.
///
/// Also returns one number per block, which is nonzero if only `block.rs` computes the block like libjpeg-turbo.
#[inline(always)]
fn columns<const N: usize>(group: &BlockGroup, steps: &Steps) -> (BlockGroup, [u16; LANES]) {
    let mut between = [[0; LANES]; 64];
    let mut over = [0u16; LANES];
    for column in (0..8).filter(|column| is_used::<N>(*column)) {
        for lane in 0..LANES {
            let mut values = [0; 8];
            for row in (0..8).filter(|row| is_used::<N>(*row)) {
                let at = 8 * row + column;
                values[row] = group[at][lane].wrapping_mul(steps[at]);
            }
            over[lane] |= values[0].unsigned_abs().saturating_sub(LARGEST);
            let sums = one_dimension::<N>(values);
            for row in 0..N {
                let level = descale(sums[row], CONST_BITS - PASS1_BITS + extra_bits::<N>());
                between[8 * row + column][lane] = to_i16(level);
                if N == 2 {
                    over[lane] |= u16::from(level != i32::from(to_i16(level)));
                }
            }
        }
    }
    (between, over)
}

/// Applies the inverse DCT to one row of each block.
#[inline(always)]
fn pixel_row<const N: usize>(row: &[[i16; LANES]; 8], pixels: &mut [[u8; LANES]; N]) {
    for lane in 0..LANES {
        let mut values = [0; 8];
        for column in (0..8).filter(|column| is_used::<N>(*column)) {
            values[column] = row[column][lane];
        }
        let sums = one_dimension::<N>(values);
        for column in 0..N {
            pixels[column][lane] =
                to_pixel(descale(sums[column], CONST_BITS + PASS1_BITS + 3 + extra_bits::<N>()));
        }
    }
}

#[inline(always)]
fn interleave<const N: usize>(pixels: &[[u8; LANES]; N], out: &mut [u8]) {
    let mut from = [0; 8 * LANES];
    from[..N * LANES].copy_from_slice(pixels.as_flattened());
    let (mut lists, mut len) = (N, LANES);
    // Each round interleaves every list of the first half with its counterpart in the second half.
    while lists > 1 {
        lists /= 2;
        let mut to = [0; 8 * LANES];
        for list in 0..lists {
            let (a, b) = (&from[list * len..][..len], &from[(list + lists) * len..][..len]);
            for ((pair, a), b) in
                to[2 * list * len..].as_chunks_mut::<2>().0.iter_mut().zip(a).zip(b)
            {
                *pair = [*a, *b];
            }
        }
        (from, len) = (to, 2 * len);
    }
    out[..N * LANES].copy_from_slice(&from[..N * LANES]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_group_has_the_pixels_of_its_blocks(
            levels in prop::collection::vec(any::<i16>(), 64 * LANES),
            steps in prop::array::uniform32(any::<i16>()),
            bits in (0u32..16, 0u32..16),
            frequencies in 1usize..65,
        ) {
            let steps: Steps = std::array::from_fn(|at| steps[at / 2] >> bits.1);
            let mut group = [[0; LANES]; 64];
            for (at, levels) in levels.as_chunks::<LANES>().0[..frequencies].iter().enumerate() {
                group[at] = levels.map(|level| level >> bits.0);
            }
            for size in [8, 4, 2, 1] {
                let stride = LANES * size;
                let mut out = vec![0; size * stride];
                transform(&group, &steps, size, &mut out, stride);
                for lane in 0..LANES {
                    let block = group.map(|levels| levels[lane]);
                    let expected = if size == 1 {
                        vec![block::mean(block[0], steps[0])]
                    } else {
                        block::transform(&block, &steps, size)[..size * size].to_vec()
                    };
                    let rows = out.chunks(stride).flat_map(|row| &row[lane * size..][..size]);
                    prop_assert!(rows.eq(&expected), "{size}, {lane}");
                }
            }
        }
    }
}
