//! Transposes the queries of a head.

use super::simd::{self, Kernel};
use super::small::WIDTH;

/// Transposes rows, and multiplies them by `scale`.
pub(super) struct Turn<'a> {
    /// `[tokens, head]`; a row starts every `stride` values.
    pub rows: &'a [f32],
    pub stride: usize,
    pub tokens: usize,
    pub head: usize,
    pub scale: f32,
    /// `[head, padded]`, where `padded` is a multiple of [`WIDTH`]. The padding columns must be 0.
    pub turned: &'a mut [f32],
    pub padded: usize,
}

impl Turn<'_> {
    pub(super) fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if self.head.is_multiple_of(WIDTH) && is_x86_feature_detected!("avx512f") {
            #[expect(
                unsafe_code,
                reason = "the line above checks that the processor has AVX-512"
            )]
            // SAFETY: the processor has AVX-512.
            return unsafe { avx512::turn(self) };
        }
        simd::run(self);
    }
}

impl Kernel for Turn<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { rows, stride, tokens, head, scale, turned, padded } = self;
        let whole = (tokens / WIDTH * WIDTH, head / WIDTH * WIDTH);
        for row in (0..whole.0).step_by(WIDTH) {
            for column in (0..whole.1).step_by(WIDTH) {
                let mut block = [[0.0; WIDTH]; WIDTH];
                for (i, line) in block.iter_mut().enumerate() {
                    line.copy_from_slice(&rows[(row + i) * stride + column..][..WIDTH]);
                }
                for j in 0..WIDTH {
                    let to = &mut turned[(column + j) * padded + row..][..WIDTH];
                    for i in 0..WIDTH {
                        to[i] = block[i][j] * scale;
                    }
                }
            }
        }
        for row in 0..tokens {
            let first = if row < whole.0 { whole.1 } else { 0 };
            for column in first..head {
                turned[column * padded + row] = rows[row * stride + column] * scale;
            }
        }
    }
}

/// Compilers turn the loops of [`Turn`] into gathers, which are several times slower than shuffles.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    #![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

    use super::{Turn, WIDTH};
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
        _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    #[target_feature(enable = "avx512f")]
    pub(super) fn turn(Turn { rows, stride, tokens, head, scale, turned, padded }: Turn<'_>) {
        let scale = _mm512_set1_ps(scale);
        for row in (0..tokens).step_by(WIDTH) {
            for column in (0..head).step_by(WIDTH) {
                let mut block = [_mm512_setzero_ps(); WIDTH];
                for (i, line) in block.iter_mut().enumerate().take(tokens - row) {
                    *line = load(&rows[(row + i) * stride + column..]);
                }
                for (j, line) in transposed(&block).into_iter().enumerate() {
                    let to = &mut turned[(column + j) * padded + row..];
                    store(_mm512_mul_ps(line, scale), to);
                }
            }
        }
    }

    /// Transposes a block of 16 x 16 values: first inside parts of 4 x 4 values, then the parts.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(rows: &[__m512; WIDTH]) -> [__m512; WIDTH] {
        let mut parts = [_mm512_setzero_ps(); WIDTH];
        for i in (0..WIDTH).step_by(4) {
            let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
            let low =
                [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)].map(|x| _mm512_castps_pd(x));
            let high =
                [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)].map(|x| _mm512_castps_pd(x));
            parts[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low[0], low[1]));
            parts[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low[0], low[1]));
            parts[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high[0], high[1]));
            parts[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high[0], high[1]));
        }
        let mut columns = [_mm512_setzero_ps(); WIDTH];
        for i in 0..4 {
            let [a, b, c, d] = [parts[i], parts[i + 4], parts[i + 8], parts[i + 12]];
            // Parts 0 and 2 of two rows, or parts 1 and 3.
            let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)];
            let odd = [_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d)];
            columns[i] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
            columns[i + 4] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
            columns[i + 8] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
            columns[i + 12] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
        }
        columns
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(values: &[f32]) -> __m512 {
        let values: &[f32; WIDTH] = values.first_chunk().expect("a row has whole vectors");
        // SAFETY: there are 16 values, and the load needs no alignment.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(vector: __m512, values: &mut [f32]) {
        let values: &mut [f32; WIDTH] = values.first_chunk_mut().expect("rows are padded");
        // SAFETY: there is room for 16 values, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Turn};

    #[test]
    fn all_sizes_are_transposed() {
        for (tokens, head) in [(1, 16), (17, 16), (65, 32), (32, 48), (20, 12)] {
            let (stride, padded) = (head + 7, usize::next_multiple_of(tokens, 16));
            let rows: Vec<f32> = (0..tokens * stride).map(|i| i as f32).collect();
            let [mut found, mut by_loops] = [vec![0.0; head * padded], vec![0.0; head * padded]];
            let turn =
                |turned| Turn { rows: &rows, stride, tokens, head, scale: 0.5, turned, padded };
            turn(&mut found).run();
            Kernel::run::<true>(turn(&mut by_loops));
            assert_eq!(found, by_loops);
            for (at, value) in found.iter().enumerate() {
                let (column, row) = (at / padded, at % padded);
                let expected = if row < tokens { rows[row * stride + column] * 0.5 } else { 0.0 };
                assert!((value - expected).abs() < 1e-6, "{tokens} x {head}: {row}, {column}");
            }
        }
    }
}
