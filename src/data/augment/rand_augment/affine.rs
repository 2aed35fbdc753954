//! Geometric operations: rotation, shear and translation by Pillow's affine transform.
//!
//! Pillow computes in double precision, clamps to 0..255 and drops the fraction. This code adds numbers in the same
//! order as Pillow, so the results are bitwise equal.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

use super::rgb::Rgb;
use crate::data::decode::simd::vectorized;

/// How to interpolate between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Bilinear interpolation of 2 × 2 pixels.
    Bilinear,
    /// Bicubic interpolation of 4 × 4 pixels, with a = -1.
    Bicubic,
}

/// Rotates a picture counter-clockwise by `degrees`.
pub(super) fn rotate(
    picture: &Rgb,
    degrees: f64,
    fill: [u8; 3],
    interpolation: Interpolation,
) -> Rgb {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return picture.clone();
    }
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (sin, cos) = (to_15_decimals(sin), to_15_decimals(cos));
    let (x, y) = (picture.width as f64 / 2.0, picture.height as f64 / 2.0);
    let matrix = [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y];
    transform(picture, matrix, fill, interpolation)
}

fn to_15_decimals(value: f64) -> f64 {
    format!("{value:.15}").parse().expect("a formatted number is a number")
}

/// Applies an affine transform to `picture`, like Pillow.
///
/// With the `matrix` `[a, b, c, d, e, f]`, output pixel (x, y) gets the colour at (ax + by + c, dx + ey + f).
/// `fill` is the colour outside the picture.
pub(super) fn transform(
    picture: &Rgb,
    matrix: [f64; 6],
    fill: [u8; 3],
    interpolation: Interpolation,
) -> Rgb {
    picture.with_colours(sample(&Padded::new(picture), matrix, fill, interpolation))
}

vectorized! {
    /// Computes all output pixels.
    ///
    /// The called functions are inlined, so that these functions also use AVX2.
    fn sample(
        source: &Padded,
        matrix: [f64; 6],
        fill: [u8; 3],
        interpolation: Interpolation,
    ) -> Vec<[u8; 3]> {
        let [a, b, c, d, e, f] = matrix;
        let (width, height) = (source.width as f64, source.height as f64);
        let outside = widen(fill).map(f64::from);
        // Compute one row at a time in floats, because the compiler can vectorize this form.
        let mut moved = vec![outside; source.width];
        let mut colours = Vec::with_capacity(source.width * source.height);
        for y in 0..source.height {
            let y = y as f64 + 0.5;
            for (x, place) in moved.iter_mut().enumerate() {
                let x = x as f64 + 0.5;
                let (from_x, from_y) = (a * x + b * y + c, d * x + e * y + f);
                let inside = from_x >= 0.0 && from_x < width && from_y >= 0.0 && from_y < height;
                *place = match interpolation {
                    _ if !inside => outside,
                    Interpolation::Bilinear => source.bilinear(from_x, from_y),
                    Interpolation::Bicubic => source.bicubic(from_x, from_y),
                };
            }
            // `as u8` clamps to 0..255 and drops the fraction.
            colours.extend(moved.iter().map(|&[r, g, b, _]| [r as u8, g as u8, b as u8]));
        }
        colours
    }
}

/// An RGB pixel. The fourth value is unused; four values fill a vector register.
type Pixel = [f64; 4];

/// A picture with a border of two pixels that repeat the edge, for bicubic interpolation.
struct Padded {
    /// Width in pixels without the border.
    width: usize,
    /// Height in pixels without the border.
    height: usize,
    stride: usize,
    pixels: Vec<[f32; 4]>,
}

struct SubpixelPosition {
    /// Index in [`Padded::pixels`] of the top left of the 4 × 4 pixels around the sampled position.
    start: usize,
    /// Horizontal distance (0..1) of the sampled position from the second of the 4 pixel columns.
    dx: f64,
    /// Vertical distance (0..1) of the sampled position from the second of the 4 pixel rows.
    dy: f64,
}

impl Padded {
    fn new(picture: &Rgb) -> Self {
        let stride = picture.width + 4;
        let mut pixels = Vec::with_capacity(stride * (picture.height + 4));
        let rows: Vec<&[[u8; 3]]> = picture.colours().chunks_exact(picture.width).collect();
        for y in 0..picture.height + 4 {
            let row = rows[y.saturating_sub(2).min(picture.height - 1)];
            let (first, last) = (widen(row[0]), widen(row[picture.width - 1]));
            pixels.extend([first; 2]);
            pixels.extend(row.iter().copied().map(widen));
            pixels.extend([last; 2]);
        }
        Self { width: picture.width, height: picture.height, stride, pixels }
    }

    #[inline(always)]
    fn place(&self, x: f64, y: f64) -> SubpixelPosition {
        let (x, y) = (x - 0.5, y - 0.5);
        // Rounds down, since x and y are at least -0.5. The first of the 4 × 4 pixels is at (left - 1, top - 1), and
        // the border adds 2 to both.
        let (left, top) = (x as i32 - i32::from(x < 0.0), y as i32 - i32::from(y < 0.0));
        let start = (top + 1) as usize * self.stride + (left + 1) as usize;
        SubpixelPosition { start, dx: x - f64::from(left), dy: y - f64::from(top) }
    }

    #[inline(always)]
    fn bilinear(&self, x: f64, y: f64) -> Pixel {
        let SubpixelPosition { start, dx, dy } = self.place(x, y);
        let [_, upper_left, upper_right, _] = self.four(start + self.stride);
        let [_, lower_left, lower_right, _] = self.four(start + 2 * self.stride);
        linear(linear(upper_left, upper_right, dx), linear(lower_left, lower_right, dx), dy)
    }

    #[inline(always)]
    fn bicubic(&self, x: f64, y: f64) -> Pixel {
        let SubpixelPosition { start, dx, dy } = self.place(x, y);
        let second = cubic(self.four(start + self.stride), dx);
        // Translations and shears along x need only one row.
        if dy == 0.0 {
            return second;
        }
        let first = cubic(self.four(start), dx);
        let third = cubic(self.four(start + 2 * self.stride), dx);
        cubic([first, second, third, cubic(self.four(start + 3 * self.stride), dx)], dy)
    }

    #[inline(always)]
    fn four(&self, start: usize) -> [Pixel; 4] {
        let four: &[[f32; 4]; 4] =
            self.pixels[start..].first_chunk().expect("the padding covers all four");
        let mut wide = [[0.0; 4]; 4];
        for (wide, pixel) in wide.iter_mut().zip(four) {
            for c in 0..4 {
                wide[c] = f64::from(pixel[c]);
            }
        }
        wide
    }
}

fn widen([r, g, b]: [u8; 3]) -> [f32; 4] {
    [f32::from(r), f32::from(g), f32::from(b), 0.0]
}

#[inline(always)]
fn linear(from: Pixel, to: Pixel, d: f64) -> Pixel {
    let mut between = from;
    for c in 0..4 {
        between[c] = from[c] + (to[c] - from[c]) * d;
    }
    between
}

/// Interpolates between `v1` and `v2`. `d` (0..1) is the distance from `v1`.
#[inline(always)]
fn cubic([v0, v1, v2, v3]: [Pixel; 4], d: f64) -> Pixel {
    if d == 0.0 {
        return v1;
    }
    let mut between = v1;
    for c in 0..4 {
        // Equals Pillow's sums to the bit, because `a - b` and `b - a` round in the same way.
        let step = v0[c] - v1[c];
        let p1 = v2[c] - v0[c];
        let p2 = 2.0 * step + v2[c] - v3[c];
        let p3 = v3[c] - (step + v2[c]);
        between[c] = v1[c] + d * (p1 + d * (p2 + d * p3));
    }
    between
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Interpolation; 2] = [Interpolation::Bilinear, Interpolation::Bicubic];

    fn picture(width: usize, height: usize) -> Rgb {
        let levels = (0..3 * width * height).map(|i| (i * 71 % 256) as u8);
        Rgb { width, height, pixels: levels.collect() }
    }

    #[test]
    fn a_translation_by_whole_pixels_copies_pixels_and_fills_the_rest() {
        let before = picture(4, 2);
        for interpolation in BOTH {
            let matrix = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
            let after = transform(&before, matrix, [7, 8, 9], interpolation);
            for (after, before) in after.pixels.chunks(12).zip(before.pixels.chunks(12)) {
                assert_eq!((&after[..9], &after[9..]), (&before[3..], &[7, 8, 9][..]));
            }
        }
    }

    #[test]
    fn a_half_turn_reverses_the_pixels() {
        let before = picture(5, 3);
        let mut reversed = before.colours().to_vec();
        reversed.reverse();
        for interpolation in BOTH {
            assert_eq!(rotate(&before, 180.0, [0; 3], interpolation).colours(), reversed);
        }
    }

    #[test]
    fn one_pixel_is_unchanged_unless_it_is_filled() {
        let one = picture(1, 1);
        for interpolation in BOTH {
            assert_eq!(rotate(&one, 27.0, [9; 3], interpolation), one);
            let matrix = [1.0, 0.0, 0.405, 0.0, 1.0, 0.0];
            assert_eq!(transform(&one, matrix, [9; 3], interpolation), one);
        }
    }
}
