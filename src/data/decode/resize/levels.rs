//! Antialiased bicubic resizing of 8-bit pictures. The results are bitwise equal to Pillow's.
//!
//! Weights are in 22-bit fixed point. The result of the first axis is rounded to integers before the second axis is
//! resized. Both axes use the same kernel, which adds weighted rows. To resize the horizontal axis, this code
//! transposes a few rows at a time, so that columns become rows. `vnni.rs` is faster, but needs AVX-512.

#[cfg(target_arch = "x86_64")]
use super::vnni;
use crate::data::decode::simd::vectorized;

/// Fraction bits of a fixed-point weight, as in Pillow.
pub(super) const FRACTION: u32 = 22;
/// 0.5 in fixed point, for rounding.
pub(super) const HALF: i32 = 1 << (FRACTION - 1);
/// Number of bytes in an AVX2 register.
const BLOCK: usize = 32;

/// An 8-bit picture with `C` channels, or a rectangle of a larger picture.
#[derive(Clone, Copy)]
pub(super) struct SourceImage<'a, const C: usize> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Pixel values, starting at the first pixel of the rectangle.
    pub(super) pixels: &'a [u8],
}

impl<'a, const C: usize> SourceImage<'a, C> {
    /// Resizes to `[width, height]` pixels. Returns `[H, W, C]`.
    ///
    /// `LANE` is the number of bytes per pixel in a temporary copy, at least `C`.
    pub(super) fn resize<const LANE: usize>(
        self,
        [width, height]: [usize; 2],
        vertical_first: bool,
    ) -> Vec<u8> {
        if [self.width, self.height] == [width, height] {
            let rows = (0..height).map(|y| &self.rows().at(y)[..width * C]);
            return rows.collect::<Vec<_>>().concat();
        }
        let (columns, rows) = (Weights::new(self.width, width), Weights::new(self.height, height));
        if vertical_first {
            let row = self.width * C;
            let between = vertical(self.rows(), row, &rows);
            let between = Rows { pixels: &between, stride: row, count: height };
            return horizontal::<C, LANE>(between, self.width, &columns);
        }
        let between = horizontal::<C, LANE>(self.rows(), self.width, &columns);
        let between = Rows { pixels: &between, stride: width * C, count: self.height };
        vertical(between, width * C, &rows)
    }

    fn rows(self) -> Rows<'a> {
        Rows { pixels: self.pixels, stride: self.stride, count: self.height }
    }
}

/// Rows of bytes.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) pixels: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    /// Returns row `y`, and all bytes after it.
    #[inline]
    pub(super) fn at(self, y: usize) -> &'a [u8] {
        &self.pixels[y * self.stride..]
    }
}

pub(super) struct Weights {
    pub(super) spans: Vec<Span>,
    pub(super) weights: Vec<i32>,
}

/// The range of input pixels that contribute to one output pixel.
pub(super) struct Span {
    pub(super) start: usize,
    /// Range of this output pixel's weights in [`Weights::weights`].
    pub(super) weights: std::ops::Range<usize>,
}

impl Weights {
    /// Computes the weights to resize a side from `size` to `to` pixels, like Pillow.
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

/// Returns Keys' cubic convolution kernel (a = -0.5) at the distance `x`.
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

/// Resizes vertically. `row` is the number of bytes per row.
fn vertical(rows: Rows<'_>, row: usize, weights: &Weights) -> Vec<u8> {
    let mut out = vec![0; weights.spans.len() * row];
    #[cfg(target_arch = "x86_64")]
    if vnni::vertical(rows, row, weights, &mut out) {
        return out;
    }
    add_up(rows, row, weights, &mut out);
    out
}

/// Resizes horizontally. `width` is the width of the input in pixels.
fn horizontal<const C: usize, const LANE: usize>(
    rows: Rows<'_>,
    width: usize,
    columns: &Weights,
) -> Vec<u8> {
    let mut out = vec![0; rows.count * columns.spans.len() * C];
    #[cfg(target_arch = "x86_64")]
    if vnni::horizontal::<C>(rows, columns, &mut out) {
        return out;
    }
    turn_and_add_up::<C, LANE>(rows, width, columns, &mut out);
    out
}

/// Resizes horizontally, by transposing a few rows at a time.
fn turn_and_add_up<const C: usize, const LANE: usize>(
    rows: Rows<'_>,
    width: usize,
    columns: &Weights,
    out: &mut [u8],
) {
    let to = columns.spans.len();
    let rows_in_block = BLOCK / LANE;
    let (mut turned, mut resized) = (vec![0; width * BLOCK], vec![0; to * BLOCK]);
    for (block, out) in out.chunks_mut(rows_in_block * to * C).enumerate() {
        let first = block * rows_in_block;
        for lane in 0..rows_in_block.min(rows.count - first) {
            let row = rows.at(first + lane);
            for (x, place) in turned.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                place.as_chunks_mut::<LANE>().0[lane] = self::lane::<C, LANE>(&row[x * C..]);
            }
        }
        let columns_as_rows = Rows { pixels: &turned, stride: BLOCK, count: width };
        add_up(columns_as_rows, BLOCK, columns, &mut resized);
        for (lane, row) in out.chunks_exact_mut(to * C).enumerate() {
            let places = resized.as_chunks::<BLOCK>().0;
            for (place, pixel) in places.iter().zip(row.as_chunks_mut::<C>().0) {
                let from = &place[lane * LANE..];
                *pixel = *from.first_chunk().expect("a lane holds a pixel");
            }
        }
    }
}

/// Returns the first pixel of `row`, padded to `LANE` bytes with arbitrary values.
fn lane<const C: usize, const LANE: usize>(row: &[u8]) -> [u8; LANE] {
    row.first_chunk().copied().unwrap_or_else(|| {
        let mut last = [0; LANE];
        last[..C].copy_from_slice(&row[..C]);
        last
    })
}

vectorized! {
    /// Computes each output row as a weighted sum of input rows. `row` is the number of bytes per row.
    fn add_up(rows: Rows<'_>, row: usize, weights: &Weights, out: &mut [u8]) {
        for (span, out) in weights.spans.iter().zip(out.chunks_exact_mut(row)) {
            let weights = &weights.weights[span.weights.clone()];
            let lines = rows.at(span.start).chunks(rows.stride);
            let Some(last) = row.checked_sub(BLOCK) else {
                add_up_narrow(&lines, weights, out);
                continue;
            };
            // The last block of a row may overlap the previous block.
            for start in (0..row).step_by(BLOCK).map(|start| start.min(last)) {
                let mut sums = [HALF; BLOCK];
                for (weight, values) in weights.iter().zip(lines.clone()) {
                    let values: &[u8; BLOCK] = values[start..].first_chunk().expect("a block fits");
                    for at in 0..BLOCK {
                        sums[at] += weight * i32::from(values[at]);
                    }
                }
                let out: &mut [u8; BLOCK] = out[start..].first_chunk_mut().expect("a block fits");
                for at in 0..BLOCK {
                    out[at] = level(sums[at]);
                }
            }
        }
    }
}

/// Computes one output row of less than [`BLOCK`] bytes.
fn add_up_narrow<'a>(
    lines: &(impl Iterator<Item = &'a [u8]> + Clone),
    weights: &[i32],
    out: &mut [u8],
) {
    for (at, out) in out.iter_mut().enumerate() {
        let values = weights.iter().zip(lines.clone()).map(|(w, line)| w * i32::from(line[at]));
        *out = level(HALF + values.sum::<i32>());
    }
}

/// Converts a fixed-point sum to an 8-bit pixel value. Clamps the value to 0..=255.
fn level(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computes the same result as [`add_up`] without vector instructions, for tests.
    fn slow(rows: &[u8], row: usize, weights: &Weights) -> Vec<u8> {
        let value = |span: &Span, x: usize| {
            let weights = &weights.weights[span.weights.clone()];
            let sum: i64 = weights
                .iter()
                .enumerate()
                .map(|(k, w)| i64::from(*w) * i64::from(rows[(span.start + k) * row + x]))
                .sum();
            ((sum + i64::from(HALF)) >> FRACTION).clamp(0, 255) as u8
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
            let rows = Rows { pixels: &rows, stride: row, count: size };
            add_up(rows, row, &weights, &mut out);
            prop_assert_eq!(&out, &expected);
            let out = vertical(rows, row, &weights);
            prop_assert_eq!(&out, &expected);
        }

        #[test]
        fn all_ways_to_resize_horizontally_agree(
            width in 1usize..200, height in 1usize..12, to in 1usize..150, seed in any::<u32>(),
        ) {
            let byte = |i: usize| (i as u32).wrapping_mul(seed | 1).to_le_bytes()[2];
            let pixels: Vec<u8> = (0..3 * width * height).map(byte).collect();
            let weights = Weights::new(width, to);
            let rows = Rows { pixels: &pixels, stride: 3 * width, count: height };
            let mut expected = vec![0; 3 * to * height];
            turn_and_add_up::<3, 4>(rows, width, &weights, &mut expected);
            prop_assert_eq!(horizontal::<3, 4>(rows, width, &weights), expected);
            let mut expected = vec![0; to * height];
            turn_and_add_up::<1, 1>(rows, width, &weights, &mut expected);
            prop_assert_eq!(horizontal::<1, 1>(rows, width, &weights), expected);
        }

        #[test]
        fn channels_do_not_mix_and_bytes_beside_the_picture_are_ignored(
            width in 1usize..40, height in 1usize..20, to in 1usize..50, vertical_first in any::<bool>(),
        ) {
            let plane: Vec<u8> = (0..width * height).map(|i| (i * 71 % 256) as u8).collect();
            let rows = plane.chunks(width);
            let wide: Vec<u8> = rows
                .flat_map(|row| row.iter().flat_map(|v| [*v, 7, 255 - v]).chain([99, 98, 97, 96]))
                .collect();
            let one = SourceImage::<1> { width, height, stride: width, pixels: &plane };
            let all = SourceImage::<3> { width, height, stride: 3 * width + 4, pixels: &wide };
            let one = one.resize::<1>([to, to], vertical_first);
            let all = all.resize::<4>([to, to], vertical_first);
            prop_assert!(all.as_chunks().0.iter().zip(&one).all(|([r, g, _], v)| r == v && *g == 7));
        }
    }
}
