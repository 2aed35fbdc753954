//! Uniform draws whose numbers are fixed by the generator's stream alone, whatever a later `rand` does.

use std::ops::Range;

use rand::Rng;

/// Gives a number in `[0, 1)`, a multiple of 2⁻⁵³.
pub(super) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (-53f64).exp2()
}

/// Gives a number in `range`; its start where the range is empty.
pub(super) fn uniform(rng: &mut impl Rng, range: Range<f64>) -> f64 {
    range.start + (range.end - range.start) * unit(rng)
}

/// Gives a whole number in `0..n`; 0 where `n` is 0. Uneven by less than n / 2⁶⁴.
pub(super) fn below(rng: &mut impl Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Gives `0..n` in random order.
pub(super) fn permutation(rng: &mut impl Rng, n: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n as u64).collect();
    for last in (1..n).rev() {
        order.swap(last, below(rng, last + 1));
    }
    order
}
