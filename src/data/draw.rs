//! Uniform random numbers that depend only on the bits of the generator.
//!
//! A new version of the crate `rand` does not change these numbers.

use std::ops::Range;

use rand::Rng;

/// Draws a uniform number at least 0 and below 1, with 53 random bits.
pub(super) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (-53f64).exp2()
}

/// Draws a uniform number in `range`. Returns `range.start` if both ends are equal.
pub(super) fn uniform(rng: &mut impl Rng, range: Range<f64>) -> f64 {
    range.start + (range.end - range.start) * unit(rng)
}

/// Draws a uniform integer from 0 to `n - 1`. Returns 0 if `n` is 0.
///
/// The probability of each integer differs from 1/n by less than 2⁻⁶⁴.
pub(super) fn below(rng: &mut impl Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Returns the integers from 0 to `n - 1` in random order.
pub(super) fn permutation(rng: &mut impl Rng, n: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n as u64).collect();
    for last in (1..n).rev() {
        order.swap(last, below(rng, last + 1));
    }
    order
}
