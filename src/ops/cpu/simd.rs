//! Vector code: loops that the compiler vectorizes for AVX-512, AVX2 or NEON.
//!
//! [`run`] chooses the version for the processor at run time.

use pulp::{Arch, Simd, WithSimd};

/// Number of partial sums per row. All processors use the same number, so rounding is equal.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// A loop that the compiler builds once for each instruction set.
///
/// All functions that the loop calls must be inlined.
pub(super) trait Kernel {
    /// Runs the loop. `FMA` says whether the processor has fused multiply-add.
    fn run<const FMA: bool>(self);
}

/// Runs `kernel` with the best instruction set of this processor.
pub(super) fn run(kernel: impl Kernel) {
    match Arch::new() {
        Arch::Scalar => kernel.run::<false>(),
        arch => arch.dispatch(Vectorized(kernel)),
    }
}

struct Vectorized<K>(K);

impl<K: Kernel> WithSimd for Vectorized<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.run::<true>();
    }
}

/// Returns `a * b + c`. If `FMA` is true, rounds only once.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Calls `f` for each column of the `N` rows. Sums each of the `M` results over all columns.
///
/// All rows have the same length. The order of the additions depends only on this length.
#[inline(always)]
pub(super) fn sums<const N: usize, const M: usize>(
    rows: [&[f32]; N],
    f: impl Fn([f32; N]) -> [f32; M],
) -> [f32; M] {
    let mut sums = [[0.0; LANES]; M];
    let whole = rows[0].len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let mut chunks = [[0.0; LANES]; N];
        for (chunk, row) in chunks.iter_mut().zip(rows) {
            chunk.copy_from_slice(&row[start..start + LANES]);
        }
        for lane in 0..LANES {
            add_lane(&mut sums, lane, &f, |row| chunks[row][lane]);
        }
    }
    for lane in 0..rows[0].len() - whole {
        add_lane(&mut sums, lane, &f, |row| rows[row][whole + lane]);
    }
    let mut folded = [0.0; M];
    for (folded, sums) in folded.iter_mut().zip(sums) {
        *folded = fold(sums);
    }
    folded
}

#[inline(always)]
fn add_lane<const N: usize, const M: usize>(
    sums: &mut [Lanes; M],
    lane: usize,
    f: &impl Fn([f32; N]) -> [f32; M],
    value: impl Fn(usize) -> f32,
) {
    let mut values = [0.0; N];
    for (row, slot) in values.iter_mut().enumerate() {
        *slot = value(row);
    }
    let values = f(values);
    for i in 0..M {
        sums[i][lane] += values[i];
    }
}

#[inline(always)]
fn fold(lanes: Lanes) -> f32 {
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Returns e^x with a relative error of at most 1.2e-7.
///
/// `x` is clamped to -87..=88. NaN stays NaN.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding and subtracting this number rounds a float to an integer.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const COEFFICIENTS: [f32; 5] =
        [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let k = rounded - ROUND;
    let r = mul_add::<FMA>(k, -LN_2[0], x);
    let r = mul_add::<FMA>(k, -LN_2[1], r);
    let p = COEFFICIENTS.iter().fold(1.987_569_1e-4, |p, c| mul_add::<FMA>(p, r, *c));
    let y = mul_add::<FMA>(p, r * r, r + 1.0);
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// Returns the cumulative normal distribution Φ(x) and the normal density φ(x).
///
/// The error is about 1e-8.
#[inline(always)]
pub(super) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    /// Coefficients of a polynomial, highest power first.
    const COEFFICIENTS: [f32; 9] = [
        -2.007_930_6e-1,
        4.058_290_7e-1,
        -3.479_008_7e-1,
        3.165_128_2e-1,
        -2.687_223_6e-2,
        1.238_314_7e-1,
        9.432_834e-2,
        1.002_893_9e-1,
        -2.479_006_4e-5,
    ];
    let a = x.abs();
    let e = exp::<FMA>(-0.5 * a * a);
    let t = 1.0 / mul_add::<FMA>(a, 0.25, 1.0);
    let p = COEFFICIENTS.iter().fold(3.479_984_8e-2, |p, c| mul_add::<FMA>(p, t, *c));
    let below = p * e;
    (if x < 0.0 { below } else { 1.0 - below }, e * FRAC_1_SQRT_2PI)
}

#[cfg(test)]
mod tests {
    use super::{exp, normal, sums};

    #[test]
    fn exp_is_within_one_and_a_half_units_in_the_last_place() {
        for i in -8_700..=8_800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            for y in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(y) / expected - 1.0).abs() < 1.8e-7, "e^{x}: {y}");
            }
        }
        assert!(exp::<true>(f32::NAN).is_nan());
        assert_eq!(exp::<true>(0.0).to_bits(), 1.0f32.to_bits());
    }

    /// Returns the cumulative normal distribution by Simpson's rule.
    fn exact_cdf(x: f64) -> f64 {
        let phi = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (steps, mut sum) = (2_000, 0.0);
        let h = x / f64::from(steps);
        for i in 0..=steps {
            let weight = if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            sum += weight * phi(f64::from(i) * h);
        }
        0.5 + sum * h / 3.0
    }

    #[test]
    fn the_normal_distribution_is_exact_to_rounding() {
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let (cdf, density) = normal::<true>(x);
            let x = f64::from(x);
            assert!((f64::from(cdf) - exact_cdf(x)).abs() < 2e-7, "Φ({x}): {cdf}");
            let exact = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(density) - exact).abs() < 1e-7, "φ({x}): {density}");
        }
        assert!(normal::<true>(f32::NAN).0.is_nan());
    }

    #[test]
    fn a_row_of_any_length_is_summed() {
        for len in [0usize, 1, 15, 16, 17, 84] {
            let row: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let [sum, doubled] = sums([&row, &row], |[a, b]| [a, a + b]);
            assert_eq!(sum as usize, len * len.saturating_sub(1) / 2);
            assert_eq!(doubled as usize, len * len.saturating_sub(1));
        }
    }
}
