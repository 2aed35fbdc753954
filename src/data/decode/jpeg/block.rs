//! Computes the inverse DCT of one block, also for coefficients that no encoder writes.
//!
//! The results equal those of libjpeg-turbo's assembly for x86, for all coefficients. libjpeg's C code has different
//! results if a number needs more than 16 bits.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

use super::one_dimension::{
    CONST_BITS, PASS1_BITS, Steps, descale, extra_bits, is_used, one_dimension, to_i16, to_pixel,
    two,
};
use crate::data::decode::simd::vectorized;

/// Coefficients of a block in row-major order.
pub(super) type Block = [i16; 64];

vectorized! {
    /// Applies the inverse DCT to a block. Returns `size` x `size` pixels at the start of the array.
    ///
    /// `size` is 2, 4 or 8.
    pub(super) fn transform(block: &Block, steps: &Steps, size: usize) -> [u8; 64] {
        match size {
            8 => sized::<8>(block, steps),
            4 => sized::<4>(block, steps),
            _ => sized::<2>(block, steps),
        }
    }
}

/// Returns the single pixel that `jpeg_idct_1x1` makes of a block with the first coefficient `level`.
pub(super) fn mean(level: i16, step: i16) -> u8 {
    let level = (i32::from(level) * i32::from(step) + 4) >> 3;
    // libjpeg keeps the low 10 bits.
    to_pixel(level << 22 >> 22)
}

#[inline(always)]
fn sized<const N: usize>(block: &Block, steps: &Steps) -> [u8; 64] {
    let mut values = [0; 64];
    for at in 0..64 {
        values[at] = block[at].wrapping_mul(steps[at]);
    }
    let between = if is_flat::<N>(block) { flat_columns(&values) } else { columns::<N>(&values) };
    rows::<N>(&between, first_column::<N>(&values))
}

/// Applies the inverse DCT to the columns of a block.
#[inline(always)]
fn columns<const N: usize>(values: &Block) -> Block {
    let mut between = [0; 64];
    for column in 0..8 {
        let mut one = [0; 8];
        for row in 0..8 {
            one[row] = values[8 * row + column];
        }
        let sums = one_dimension::<N>(one);
        for row in 0..N {
            let level = descale(sums[row], CONST_BITS - PASS1_BITS + extra_bits::<N>());
            between[8 * row + column] = to_i16(level);
        }
    }
    between
}

/// Applies the inverse DCT to the rows of a block.
#[inline(always)]
fn rows<const N: usize>(between: &Block, first: [i32; 2]) -> [u8; 64] {
    let mut pixels = [0; 64];
    for row in 0..N {
        let mut one = [0; 8];
        one.copy_from_slice(&between[8 * row..][..8]);
        let sums = if N == 2 { two(one, first[row]) } else { one_dimension::<N>(one) };
        for column in 0..N {
            let shift = CONST_BITS + PASS1_BITS + 3 + extra_bits::<N>();
            pixels[N * row + column] = to_pixel(descale(sums[column], shift));
        }
    }
    pixels
}

/// Returns the first column between the passes without clamping. The assembly does not clamp it for 2 x 2 pixels.
#[inline(always)]
fn first_column<const N: usize>(values: &Block) -> [i32; 2] {
    if N != 2 {
        return [0; 2];
    }
    let mut one = [0; 8];
    for row in 0..8 {
        one[row] = values[8 * row];
    }
    let sums = one_dimension::<2>(one);
    [sums[0], sums[1]].map(|sum| descale(sum, CONST_BITS - PASS1_BITS + extra_bits::<2>()))
}

/// Returns whether the assembly skips the column pass, because each column has only its first coefficient.
#[inline(always)]
fn is_flat<const N: usize>(block: &Block) -> bool {
    let mut others = [0; 8];
    for row in (1..8).filter(|row| is_used::<N>(*row)) {
        for column in 0..8 {
            others[column] |= block[8 * row + column];
        }
    }
    N > 2 && others == [0; 8]
}

/// Returns the results of the column pass if each column has only its first coefficient. They keep their low 16 bits.
#[inline(always)]
fn flat_columns(values: &Block) -> Block {
    let mut between = [0; 64];
    for row in 0..8 {
        for column in 0..8 {
            between[8 * row + column] = values[column] << PASS1_BITS;
        }
    }
    between
}
