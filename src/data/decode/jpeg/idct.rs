//! Computes the inverse DCT of 16 blocks at a time.
//!
//! The results equal those of libjpeg-turbo's `jpeg_idct_islow`, `jpeg_idct_4x4`, `jpeg_idct_2x2` and `jpeg_idct_1x1`.
//!
//! Each lane of a vector has one block, so neither pass needs to transpose. libjpeg computes in 32 or 64 bits. This
//! code uses 16-bit factors, which vector units multiply much faster. [`transform`] reports numbers that are too large
//! for 16 bits. Such numbers occur only in damaged files, never in the output of an encoder.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

use crate::data::decode::simd::vectorized;

/// Number of blocks that [`transform`] computes at the same time.
pub(super) const LANES: usize = 16;

/// Coefficients of [`LANES`] blocks, `[coefficient, block]`.
///
/// The coefficients of a block are in row-major order.
pub(super) type BlockGroup = [[i16; LANES]; 64];

// Larger inputs of `one_dimension` could overflow 16 bits.
const LARGEST: u16 = 8191;

const CONST_BITS: u32 = 13;
/// Fraction bits in the result of the column pass.
const PASS1_BITS: u32 = 2;

/// Quantization table of a colour component, in row-major order.
pub(super) struct Dequantizer {
    steps: [i16; 64],
    /// For each coefficient, the largest quantized absolute value that cannot overflow.
    limits: [u16; 64],
}

impl Dequantizer {
    /// Prepares a quantization table. Returns `None` if an entry has more than 15 bits.
    pub(super) fn new(steps: &[u16; 64]) -> Option<Self> {
        if steps.iter().any(|step| i16::try_from(*step).is_err()) {
            return None;
        }
        Some(Self {
            steps: steps.map(|step| step as i16),
            limits: steps.map(|step| LARGEST / step.max(1)),
        })
    }
}

vectorized! {
    /// Applies the inverse DCT to 16 blocks. Each block becomes `size` x `size` pixels.
    ///
    /// Writes the blocks side by side into `out`, with `stride` bytes per row. Returns false on overflow.
    pub(super) fn transform(
        group: &BlockGroup,
        dequantizer: &Dequantizer,
        size: usize,
        out: &mut [u8],
        stride: usize,
    ) -> bool {
        match size {
            8 => sized::<8>(group, dequantizer, out, stride),
            4 => sized::<4>(group, dequantizer, out, stride),
            2 => sized::<2>(group, dequantizer, out, stride),
            _ => sized::<1>(group, dequantizer, out, stride),
        }
    }
}

#[inline(always)]
fn sized<const N: usize>(
    group: &BlockGroup,
    dequantizer: &Dequantizer,
    out: &mut [u8],
    stride: usize,
) -> bool {
    let (between, over) = columns::<N>(group, dequantizer);
    let mut sound = over.iter().all(|over| *over == 0);
    for (row, out) in between.chunks_exact(8).take(N).zip(out.chunks_mut(stride)) {
        let row = row.try_into().expect("a row has 8 coefficients");
        let mut pixels = [[0; LANES]; N];
        sound &= pixel_row::<N>(row, &mut pixels);
        interleave(&pixels, out);
    }
    sound
}

/// Applies the inverse DCT to the columns of each block.
///
/// Also returns one number per block. A nonzero number means overflow.
#[inline(always)]
fn columns<const N: usize>(
    group: &BlockGroup,
    Dequantizer { steps, limits }: &Dequantizer,
) -> (BlockGroup, [u16; LANES]) {
    let mut between = [[0; LANES]; 64];
    let mut over = [0u16; LANES];
    for column in (0..8).filter(|column| is_used::<N>(*column)) {
        for lane in 0..LANES {
            let mut values = [0; 8];
            for row in (0..8).filter(|row| is_used::<N>(*row)) {
                let (at, level) = (8 * row + column, group[8 * row + column][lane]);
                over[lane] |= level.unsigned_abs().saturating_sub(limits[at]);
                values[row] = level.wrapping_mul(steps[at]);
            }
            let sums = one_dimension::<N>(values);
            for row in 0..N {
                let shift = CONST_BITS - PASS1_BITS + extra_bits::<N>();
                between[8 * row + column][lane] = to_i16(descale(sums[row], shift));
            }
        }
    }
    (between, over)
}

/// Applies the inverse DCT to one row of each block. Returns false on overflow.
#[inline(always)]
fn pixel_row<const N: usize>(row: &[[i16; LANES]; 8], pixels: &mut [[u8; LANES]; N]) -> bool {
    let (mut over, mut outside) = ([0u16; LANES], [0u16; LANES]);
    for lane in 0..LANES {
        let mut values = [0; 8];
        for column in (0..8).filter(|column| is_used::<N>(*column)) {
            values[column] = row[column][lane];
            over[lane] |= values[column].unsigned_abs().saturating_sub(LARGEST);
        }
        let sums = one_dimension::<N>(values);
        for column in 0..N {
            let shift = CONST_BITS + PASS1_BITS + 3 + extra_bits::<N>();
            let level = to_i16(descale(sums[column], shift));
            // libjpeg keeps only the low 10 bits of a level, so larger levels would differ.
            outside[lane] |= level.wrapping_add(512) as u16 & !1023;
            pixels[column][lane] = level.saturating_add(128).clamp(0, 255) as u8;
        }
    }
    over.iter().chain(&outside).all(|bits| *bits == 0)
}

/// Returns whether an output of `N` x `N` pixels depends on the coefficients in row or column `index`.
#[inline(always)]
fn is_used<const N: usize>(index: usize) -> bool {
    match N {
        8 => true,
        4 => index != 4,
        2 => index == 0 || index % 2 == 1,
        _ => index == 0,
    }
}

/// Returns the number of fraction bits in the results of [`one_dimension`], minus `CONST_BITS`.
#[inline(always)]
fn extra_bits<const N: usize>() -> u32 {
    match N {
        8 | 1 => 0,
        4 => 1,
        _ => 2,
    }
}

/// Computes a one-dimensional inverse DCT, multiplied by √8.
#[inline(always)]
fn one_dimension<const N: usize>(v: [i16; 8]) -> [i32; 8] {
    match N {
        8 => eight(v),
        4 => four(v),
        2 => two(v),
        _ => [i32::from(v[0]) << CONST_BITS; 8],
    }
}

/// Computes an inverse DCT of length 8 (Loeffler, Ligtenberg and Moschytz).
#[inline(always)]
fn eight(v: [i16; 8]) -> [i32; 8] {
    let common = times(v[2].wrapping_add(v[6]), 4433);
    let (low, high) = (common - times(v[6], 15137), common + times(v[2], 6270));
    let sum = i32::from(v[0].wrapping_add(v[4])) << CONST_BITS;
    let difference = i32::from(v[0].wrapping_sub(v[4])) << CONST_BITS;
    let even = [sum + high, difference + low, difference - low, sum - high];

    let (z1, z2) = (v[7].wrapping_add(v[1]), v[5].wrapping_add(v[3]));
    let (z3, z4) = (v[7].wrapping_add(v[3]), v[5].wrapping_add(v[1]));
    let z5 = times(z3.wrapping_add(z4), 9633);
    let (z1, z2) = (times(z1, 7373), times(z2, 20995));
    let (z3, z4) = (z5 - times(z3, 16069), z5 - times(z4, 3196));
    let odd = [
        times(v[1], 12299) - z1 + z4,
        times(v[3], 25172) - z2 + z3,
        times(v[5], 16819) - z2 + z4,
        times(v[7], 2446) - z1 + z3,
    ];
    let (mut first, mut last) = ([0; 4], [0; 4]);
    for k in 0..4 {
        first[k] = even[k] + odd[k];
        last[k] = even[k] - odd[k];
    }
    [first[0], first[1], first[2], first[3], last[3], last[2], last[1], last[0]]
}

#[inline(always)]
fn four(v: [i16; 8]) -> [i32; 8] {
    let middle = i32::from(v[0]) << (CONST_BITS + 1);
    let even = times(v[2], 15137) - times(v[6], 6270);
    let inner = times(v[5], 11893) - times(v[7], 1730) - times(v[3], 17799) + times(v[1], 8697);
    let outer = times(v[3], 7373) - times(v[7], 4176) - times(v[5], 4926) + times(v[1], 20995);
    let (high, low) = (middle + even, middle - even);
    [high + outer, low + inner, low - inner, high - outer, 0, 0, 0, 0]
}

#[inline(always)]
fn two(v: [i16; 8]) -> [i32; 8] {
    let middle = i32::from(v[0]) << (CONST_BITS + 2);
    let odd = times(v[5], 6967) - times(v[7], 5906) - times(v[3], 10426) + times(v[1], 29692);
    [middle + odd, middle - odd, 0, 0, 0, 0, 0, 0]
}

#[inline(always)]
fn times(value: i16, constant: i16) -> i32 {
    i32::from(value) * i32::from(constant)
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

#[inline(always)]
fn to_i16(value: i32) -> i16 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
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
