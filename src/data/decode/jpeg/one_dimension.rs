//! Computes the inverse DCT of one row or column, with the arithmetic of libjpeg-turbo's assembly for x86.
//!
//! Inputs have 16 bits, and results 32 bits. The assembly clamps the results of the columns to 16 bits, and the results
//! of the rows to 8 bits.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

/// Quantization table of a colour component, in row-major order.
///
/// libjpeg-turbo multiplies 16-bit numbers with a sign, so steps above 32767 count as negative.
pub(super) type Steps = [i16; 64];

pub(super) const CONST_BITS: u32 = 13;
/// Fraction bits in the result of the column pass.
pub(super) const PASS1_BITS: u32 = 2;

/// Returns whether an output of `N` x `N` pixels depends on the coefficients in row or column `index`.
#[inline(always)]
pub(super) fn is_used<const N: usize>(index: usize) -> bool {
    match N {
        8 => true,
        4 => index != 4,
        _ => index == 0 || index % 2 == 1,
    }
}

/// Returns the number of fraction bits in the results of [`one_dimension`] minus `CONST_BITS`.
#[inline(always)]
pub(super) fn extra_bits<const N: usize>() -> u32 {
    match N {
        8 => 0,
        4 => 1,
        _ => 2,
    }
}

/// Computes a one-dimensional inverse DCT, multiplied by √8.
#[inline(always)]
pub(super) fn one_dimension<const N: usize>(v: [i16; 8]) -> [i32; 8] {
    match N {
        8 => eight(v),
        4 => four(v),
        _ => two(v, i32::from(v[0])),
    }
}

/// Computes an inverse DCT of length 8 (Loeffler, Ligtenberg and Moschytz).
///
/// No sum needs more than 32 bits. Only sums of two inputs are cut to 16 bits, as in libjpeg-turbo.
#[inline(always)]
fn eight(v: [i16; 8]) -> [i32; 8] {
    let (high, low) = (sum(v[2], 10_703, v[6], 4433), sum(v[2], 4433, v[6], -10_704));
    let total = i32::from(v[0].wrapping_add(v[4])) << CONST_BITS;
    let difference = i32::from(v[0].wrapping_sub(v[4])) << CONST_BITS;
    let even = [total + high, difference + low, difference - low, total - high];

    let (a, b) = (v[7].wrapping_add(v[3]), v[5].wrapping_add(v[1]));
    let (a, b) = (sum(a, -6436, b, 9633), sum(a, 9633, b, 6437));
    let odd = [
        sum(v[7], -7373, v[1], 4926) + b,
        sum(v[5], -20_995, v[3], 4177) + a,
        sum(v[5], -4176, v[3], -20_995) + b,
        sum(v[7], -4927, v[1], -7373) + a,
    ];
    let (mut first, mut last) = ([0; 4], [0; 4]);
    for k in 0..4 {
        first[k] = even[k] + odd[k];
        last[k] = even[k] - odd[k];
    }
    [first[0], first[1], first[2], first[3], last[3], last[2], last[1], last[0]]
}

/// Computes an inverse DCT of length 4. Sums keep their low 32 bits.
#[inline(always)]
fn four(v: [i16; 8]) -> [i32; 8] {
    let middle = i32::from(v[0]) << (CONST_BITS + 1);
    let even = sum(v[2], 15_137, v[6], -6270);
    let inner = sum(v[5], 11_893, v[7], -1730) + sum(v[3], -17_799, v[1], 8697);
    let outer = sum(v[3], 7373, v[1], 20_995) + sum(v[7], -4176, v[5], -4926);
    let (high, low) = (middle + even, middle - even);
    [
        high.wrapping_add(outer),
        low.wrapping_add(inner),
        low.wrapping_sub(inner),
        high.wrapping_sub(outer),
        0,
        0,
        0,
        0,
    ]
}

/// Computes an inverse DCT of length 2. `first` replaces `v[0]`. Sums keep their low 32 bits.
#[inline(always)]
pub(super) fn two(v: [i16; 8], first: i32) -> [i32; 8] {
    let middle = first << (CONST_BITS + 2);
    let odd = sum(v[5], 6967, v[7], -5906) + sum(v[3], -10_426, v[1], 29_692);
    [middle.wrapping_add(odd), middle.wrapping_sub(odd), 0, 0, 0, 0, 0, 0]
}

/// Computes `a * x + b * y`.
#[inline(always)]
fn sum(a: i16, x: i16, b: i16, y: i16) -> i32 {
    i32::from(a) * i32::from(x) + i32::from(b) * i32::from(y)
}

#[inline(always)]
pub(super) fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

#[inline(always)]
pub(super) fn to_i16(value: i32) -> i16 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[inline(always)]
pub(super) fn to_pixel(level: i32) -> u8 {
    to_i16(level).saturating_add(128).clamp(0, 255) as u8
}
