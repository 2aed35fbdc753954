//! Pillow's antialiased bicubic resizing of bytes, to the bit: weights in 22-bit fixed point, one axis rounded to whole
//! levels before the other.
//!
//! Both axes are one kernel, which adds up weighted rows. For the horizontal one a few rows at a time are turned, so that a
//! column of pixels becomes a row of bytes.

/// Fraction bits of a weight, Pillow's.
const FRACTION: u32 = 22;
/// Bytes that the kernel adds up at a time: the registers of an AVX2 machine.
const BLOCK: usize = 32;

/// A picture of bytes in `C` channels, `[H, W, C]`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, const C: usize> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: &'a [u8],
}

impl<const C: usize> Source<'_, C> {
    /// Gives it resized to `width` x `height`. `LANE` bytes hold a pixel while it is turned: `C`, or a little more.
    pub(super) fn resize<const LANE: usize>(
        self,
        width: usize,
        height: usize,
        vertical_first: bool,
    ) -> Vec<u8> {
        let (columns, rows) = (Weights::new(self.width, width), Weights::new(self.height, height));
        if vertical_first {
            let between = vertical(self.pixels, self.width * C, &rows);
            return horizontal::<C, LANE>(&between, self.width, &columns);
        }
        let between = horizontal::<C, LANE>(self.pixels, self.width, &columns);
        vertical(&between, width * C, &rows)
    }
}

/// What each output position is made of: consecutive input positions from `start` on, with a weight each.
struct Weights {
    spans: Vec<Span>,
    weights: Vec<i32>,
}

struct Span {
    start: usize,
    /// Where its weights are.
    weights: std::ops::Range<usize>,
}

impl Weights {
    /// From `size` positions to `to`. Each is as in Pillow, whose sums and roundings are kept in their order.
    fn new(size: usize, to: usize) -> Self {
        let scale = size as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = 2.0 * stretch;
        let (mut spans, mut weights) = (Vec::with_capacity(to), Vec::new());
        let mut shares = Vec::new();
        for position in 0..to {
            let centre = (position as f64 + 0.5) * scale;
            let start = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(size);
            shares.clear();
            shares.extend(
                (start..end).map(|at| bicubic((at as f64 - centre + 0.5) * (1.0 / stretch))),
            );
            let sum: f64 = shares.iter().sum();
            let first = weights.len();
            let fixed = |share: &f64| {
                let value = share / sum * f64::from(1 << FRACTION);
                (value + 0.5f64.copysign(value)) as i32
            };
            weights.extend(shares.iter().map(fixed));
            spans.push(Span { start, weights: first..weights.len() });
        }
        Self { spans, weights }
    }
}

/// Keys' cubic with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Resizes the columns of rows of `row` bytes.
fn vertical(pixels: &[u8], row: usize, rows: &Weights) -> Vec<u8> {
    let mut out = vec![0; rows.spans.len() * row];
    add_up(pixels, row, rows, &mut out);
    out
}

/// Resizes rows of `width` pixels.
fn horizontal<const C: usize, const LANE: usize>(
    pixels: &[u8],
    width: usize,
    columns: &Weights,
) -> Vec<u8> {
    let to = columns.spans.len();
    let rows_in_block = BLOCK / LANE;
    let mut out = vec![0; pixels.len() / width * to];
    let (mut turned, mut resized) = (vec![0; width * BLOCK], vec![0; to * BLOCK]);
    let rows = pixels.chunks(rows_in_block * width * C);
    for (rows, out) in rows.zip(out.chunks_mut(rows_in_block * to * C)) {
        for (lane, row) in rows.chunks_exact(width * C).enumerate() {
            let places = turned.as_chunks_mut::<BLOCK>().0;
            for (place, pixel) in places.iter_mut().zip(row.as_chunks::<C>().0) {
                place[lane * LANE..lane * LANE + C].copy_from_slice(pixel);
            }
        }
        add_up(&turned, BLOCK, columns, &mut resized);
        for (lane, row) in out.chunks_exact_mut(to * C).enumerate() {
            let places = resized.as_chunks::<BLOCK>().0;
            for (place, pixel) in places.iter().zip(row.as_chunks_mut::<C>().0) {
                pixel.copy_from_slice(&place[lane * LANE..lane * LANE + C]);
            }
        }
    }
    out
}

/// Makes each output row of `row` bytes of weighted input rows.
fn add_up(rows: &[u8], row: usize, weights: &Weights, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the processor was just asked")]
        // SAFETY: it has AVX2.
        return unsafe { add_up_avx2(rows, row, weights, out) };
    }
    add_up_here(rows, row, weights, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_up_avx2(rows: &[u8], row: usize, weights: &Weights, out: &mut [u8]) {
    add_up_here(rows, row, weights, out);
}

/// Inlined, so that each caller has it in its own instructions.
#[inline(always)]
#[expect(clippy::inline_always, reason = "elsewhere it would not be compiled for AVX2")]
fn add_up_here(rows: &[u8], row: usize, weights: &Weights, out: &mut [u8]) {
    for (span, out) in weights.spans.iter().zip(out.chunks_exact_mut(row)) {
        let weights = &weights.weights[span.weights.clone()];
        let rows = &rows[span.start * row..(span.start + weights.len()) * row];
        // The last block of a row may begin inside the one before it.
        let last = row.saturating_sub(BLOCK);
        for start in (0..row).step_by(BLOCK).map(|start| start.min(last)) {
            let mut sums = [1i32 << (FRACTION - 1); BLOCK];
            for (values, weight) in rows.chunks_exact(row).zip(weights) {
                match values[start..].first_chunk::<BLOCK>() {
                    Some(values) => add(&mut sums, values, *weight),
                    None => add(&mut sums, values, *weight),
                }
            }
            for (place, sum) in out[start..].iter_mut().zip(sums) {
                *place = (sum >> FRACTION).clamp(0, 255) as u8;
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as its caller")]
fn add(sums: &mut [i32; BLOCK], values: &[u8], weight: i32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * i32::from(*value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel does, a value at a time.
    fn slow(rows: &[u8], row: usize, weights: &Weights) -> Vec<u8> {
        let value = |span: &Span, x: usize| {
            let weights = &weights.weights[span.weights.clone()];
            let sum: i64 = weights
                .iter()
                .enumerate()
                .map(|(k, w)| i64::from(*w) * i64::from(rows[(span.start + k) * row + x]))
                .sum();
            ((sum + (1 << (FRACTION - 1))) >> FRACTION).clamp(0, 255) as u8
        };
        weights.spans.iter().flat_map(|span| (0..row).map(move |x| value(span, x))).collect()
    }

    proptest! {
        #[test]
        fn every_width_of_a_row_is_added_up(
            size in 1usize..30, to in 1usize..30, row in 1usize..100, seed in any::<u32>(),
        ) {
            let rows: Vec<u8> =
                (0..size * row).map(|i| (i as u32).wrapping_mul(seed | 1).to_le_bytes()[2]).collect();
            let weights = Weights::new(size, to);
            let expected = slow(&rows, row, &weights);
            let mut out = vec![0; to * row];
            add_up(&rows, row, &weights, &mut out);
            prop_assert_eq!(&out, &expected);
            add_up_here(&rows, row, &weights, &mut out);
            prop_assert_eq!(&out, &expected);
        }

        #[test]
        fn channels_do_not_mix(width in 1usize..40, height in 1usize..20, to in 1usize..50) {
            let plane: Vec<u8> = (0..width * height).map(|i| (i * 71 % 256) as u8).collect();
            let inverse = |v: &u8| 255 - v;
            let rgb: Vec<u8> = plane.iter().flat_map(|v| [*v, 7, inverse(v)]).collect();
            let one = Source::<1> { width, height, pixels: &plane }.resize::<1>(to, to, false);
            let all = Source::<3> { width, height, pixels: &rgb }.resize::<4>(to, to, false);
            prop_assert!(all.as_chunks().0.iter().zip(&one).all(|([r, g, _], v)| r == v && *g == 7));
        }
    }
}
