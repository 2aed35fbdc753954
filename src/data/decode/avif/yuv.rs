//! Converts `YUV` to RGB with the integer arithmetic of libyuv, or with the floating-point arithmetic of libavif.
//!
//! For common colour matrices, libavif uses libyuv, and first reduces most pictures to 8 bits. Chroma at half
//! resolution is interpolated between the nearest samples.

use super::av1::{Yuv, samples};
use super::container::Colours;
use crate::data::decode::bitmap::Levels;
use crate::data::decode::error::ImageError;

/// libyuv's constants for a colour matrix, in fixed point with 6 fraction bits.
#[derive(Debug, Clone, Copy)]
struct Constants {
    /// Factor for 16-bit luma, in fixed point with 22 fraction bits.
    y: u32,
    bias: i32,
    blue_of_u: i32,
    green_of_u: i32,
    green_of_v: i32,
    red_of_v: i32,
}

const fn constants(is_full_range: bool, [ub, ug, vg, vr]: [i32; 4], y: u32) -> Constants {
    let bias = if is_full_range { 32 } else { -1160 };
    Constants { y, bias, blue_of_u: ub, green_of_u: ug, green_of_v: vg, red_of_v: vr }
}

impl Constants {
    /// Returns libyuv's constants for a colour matrix. Returns `None` if libyuv does not support the matrix.
    fn of(colours: Colours) -> Option<Self> {
        let Colours { primaries, matrix, is_full_range } = colours;
        // Matrix 12 means that the primaries determine the matrix.
        let matrix = match (matrix, primaries) {
            (12, 1 | 2) => 1,
            (12, 5 | 6) => 6,
            (12, 9) => 9,
            (matrix, _) => matrix,
        };
        Some(match (matrix, is_full_range) {
            (1, true) => constants(true, [119, 12, 30, 101], 16_320),
            (2 | 5 | 6, true) => constants(true, [113, 22, 46, 90], 16_320),
            (9, true) => constants(true, [120, 11, 37, 94], 16_320),
            (1, false) => constants(false, [128, 14, 34, 115], 18_997),
            (2 | 5 | 6, false) => constants(false, [128, 25, 52, 102], 18_997),
            (9, false) => constants(false, [128, 12, 42, 107], 19_003),
            _ => return None,
        })
    }

    /// Converts a `YUV` pixel to RGB. Uses only the highest 8 bits of U and V.
    ///
    /// `bits` is the number of bits per sample.
    fn rgb(&self, [y, u, v]: [u16; 3], bits: u32) -> [u8; 3] {
        // Repeating the bits scales luma to 16 bits.
        let y = u32::from(y) << (16 - bits) | u32::from(y) >> (2 * bits - 16);
        let luma = ((y * self.y) >> 16) as i32 + self.bias;
        let [u, v] = [u, v].map(|sample| i32::from(sample >> (bits - 8)).min(255) - 128);
        let red = luma + v * self.red_of_v;
        let green = luma - u * self.green_of_u - v * self.green_of_v;
        let blue = luma + u * self.blue_of_u;
        [red, green, blue].map(|level| (level >> 6).clamp(0, 255) as u8)
    }
}

/// Converts a `YUV` picture to RGB, or to grey if the picture has neither chroma nor alpha.
pub(super) fn levels(mut yuv: Yuv, has_alpha: bool) -> Result<Levels, ImageError> {
    let is_grey = yuv.planes[1].is_empty();
    if is_grey && !has_alpha {
        return Ok(Levels::Grey(grey(&yuv)));
    }
    let Some(constants) = Constants::of(yuv.colours) else { return float::levels(&yuv) };
    // libyuv converts pictures of 10 or 12 bits directly only to RGBA. libavif reduces the others to 8 bits.
    let is_direct = match yuv.bits {
        10 => has_alpha,
        12 => has_alpha && yuv.halved == [true, true],
        _ => false,
    };
    if !is_direct {
        let shift = yuv.bits - 8;
        yuv.planes.iter_mut().flatten().for_each(|sample| *sample >>= shift);
        yuv.bits = 8;
    }
    if is_grey {
        let rgb = yuv.planes[0].iter().flat_map(|y| constants.rgb([*y, 128, 128], 8));
        return Ok(Levels::Rgb(rgb.collect()));
    }
    let mut out = Vec::with_capacity(yuv.width * yuv.height * 3);
    for (row, y) in yuv.planes[0].chunks_exact(yuv.width).enumerate() {
        let [u, v] = [1, 2].map(|plane| chroma_row(&yuv, plane, row));
        for ((y, u), v) in y.iter().zip(u).zip(v) {
            out.extend(constants.rgb([*y, u, v], yuv.bits));
        }
    }
    Ok(Levels::Rgb(out))
}

/// Returns a row of U (`plane` 1) or V (`plane` 2) at the resolution of luma.
fn chroma_row(yuv: &Yuv, plane: usize, row: usize) -> Vec<u16> {
    let stored = &yuv.planes[plane];
    let (width, [across, down]) = (yuv.width, yuv.halved);
    let wide = samples(width, across);
    let line = |at: usize| &stored[at * wide..(at + 1) * wide];
    if !across {
        return line(row).to_vec();
    }
    if !down {
        return widened(line(row), width);
    }
    let near = line(row / 2);
    if yuv.bits == 12 {
        // libyuv does not interpolate pictures of 12 bits.
        return (0..width).map(|x| near[x / 2]).collect();
    }
    // Odd rows lie closer to the row below, even rows to the row above. At an edge, that row is missing.
    let other = if row % 2 == 1 { Some(row / 2 + 1) } else { (row / 2).checked_sub(1) };
    match other.filter(|other| *other < yuv.height.div_ceil(2)) {
        None => widened(near, width),
        Some(other) => widened_between(near, line(other), width),
    }
}

/// Returns the index of the second nearest sample for pixel column `x`; `None` for the first and last column.
fn second_nearest(x: usize, width: usize) -> Option<usize> {
    let inside = x > 0 && x + 1 < width;
    inside.then(|| if x % 2 == 1 { x / 2 + 1 } else { x / 2 - 1 })
}

/// Interpolates a row of `width` samples from half as many samples.
///
/// The nearest sample has the weight 3/4, the second nearest sample has the weight 1/4.
fn widened(near: &[u16], width: usize) -> Vec<u16> {
    let pixel = |x: usize| match second_nearest(x, width) {
        None => near[x / 2],
        Some(other) => (3 * near[x / 2] + near[other] + 2) >> 2,
    };
    (0..width).map(pixel).collect()
}

/// Interpolates a row of `width` samples from two rows with half as many samples.
///
/// The row `near` has the weight 3/4, the row `far` has the weight 1/4.
fn widened_between(near: &[u16], far: &[u16], width: usize) -> Vec<u16> {
    let pixel = |x: usize| {
        let at = x / 2;
        match second_nearest(x, width) {
            None => (3 * near[at] + far[at] + 2) >> 2,
            Some(other) => (9 * near[at] + 3 * near[other] + 3 * far[at] + far[other] + 8) >> 4,
        }
    };
    (0..width).map(pixel).collect()
}

/// Converts the luma samples of a grey picture to 8-bit levels.
fn grey(yuv: &Yuv) -> Vec<u8> {
    yuv.planes[0].iter().map(|y| level(luma(*y, yuv))).collect()
}

/// Converts a value from 0 to 1 to a level from 0 to 255. Clamps values outside the range.
fn level(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}

/// Scales a luma sample to the range 0 to 1.
fn luma(y: u16, yuv: &Yuv) -> f32 {
    let scale = 1 << (yuv.bits - 8);
    if yuv.colours.is_full_range {
        return f32::from(y) / (255 * scale + scale - 1) as f32;
    }
    (f32::from(y) - (16 * scale) as f32) / (219 * scale) as f32
}

/// Converts to RGB like libavif, for the colour matrices that libyuv does not support.
mod float {
    use super::{ImageError, Levels, Yuv, level, luma, samples};

    pub(super) fn levels(yuv: &Yuv) -> Result<Levels, ImageError> {
        let weights = match yuv.colours.matrix {
            0 if yuv.halved == [false, false] => return Ok(identity(yuv)),
            4 => [0.30, 0.11],
            7 => [0.212, 0.087],
            other => {
                let problem =
                    format!("mae does not support AVIF files with the colour matrix {other}");
                return Err(ImageError::Unsupported(problem));
            }
        };
        Ok(Levels::Rgb(weighted(yuv, weights)))
    }

    /// Converts a picture whose Y, U and V planes hold green, blue and red.
    fn identity(yuv: &Yuv) -> Levels {
        let colour = |sample: u16| level(luma(sample, yuv));
        let [green, blue, red] = &yuv.planes;
        let pixels = red.iter().zip(green).zip(blue);
        Levels::Rgb(pixels.flat_map(|((r, g), b)| [colour(*r), colour(*g), colour(*b)]).collect())
    }

    /// Converts a `YUV` picture to RGB. `kr` and `kb` are the weights of red and blue in luma.
    fn weighted(yuv: &Yuv, [kr, kb]: [f32; 2]) -> Vec<u8> {
        let kg = 1.0 - kr - kb;
        let scale = 1 << (yuv.bits - 8);
        let full = yuv.colours.is_full_range;
        let middle = (128 * scale) as f32;
        let span = if full { 255 * scale + scale - 1 } else { 224 * scale } as f32;
        let mut out = Vec::with_capacity(yuv.width * yuv.height * 3);
        for y in 0..yuv.height {
            for x in 0..yuv.width {
                let [cb, cr] = [1, 2].map(|plane| (chroma(yuv, plane, x, y) - middle) / span);
                let luma = luma(yuv.planes[0][y * yuv.width + x], yuv);
                let red = luma + 2.0 * (1.0 - kr) * cr;
                let blue = luma + 2.0 * (1.0 - kb) * cb;
                let green = luma - 2.0 * (kr * (1.0 - kr) * cr + kb * (1.0 - kb) * cb) / kg;
                out.extend([level(red), level(green), level(blue)]);
            }
        }
        out
    }

    /// Interpolates U (`plane` 1) or V (`plane` 2) at pixel `(x, y)`.
    fn chroma(yuv: &Yuv, plane: usize, x: usize, y: usize) -> f32 {
        let (wide, high) = (samples(yuv.width, yuv.halved[0]), samples(yuv.height, yuv.halved[1]));
        let nearest = |at: usize, halved: bool, count: usize| {
            let near = if halved { at / 2 } else { at };
            let other = if at % 2 == 1 { near + 1 } else { near.saturating_sub(1) };
            [near, if halved { other.min(count - 1) } else { near }]
        };
        let [x, other_x] = nearest(x, yuv.halved[0], wide);
        let [y, other_y] = nearest(y, yuv.halved[1], high);
        let sample = |x: usize, y: usize| f32::from(yuv.planes[plane][y * wide + x]);
        sample(x, y) * (9.0 / 16.0)
            + sample(other_x, y) * (3.0 / 16.0)
            + sample(x, other_y) * (3.0 / 16.0)
            + sample(other_x, other_y) * (1.0 / 16.0)
    }
}
