//! Upsamples colours and converts them to RGB, with the same results as libjpeg-turbo's fancy upsampling and
//! `ycc_rgb_convert`.

#![expect(clippy::inline_always, reason = "the functions are compiled for several processors")]

use crate::data::decode::simd::vectorized;

const BLOCK: usize = 32;

vectorized! {
    /// Interpolates vertically: computes `3 * near + far` for each sample.
    pub(super) fn blend(near: &[u8], far: &[u8], out: &mut [u16]) {
        for ((near, far), out) in near.iter().zip(far).zip(out) {
            *out = 3 * u16::from(*near) + u16::from(*far);
        }
    }
}

vectorized! {
    pub(super) fn copy(samples: &[u8], out: &mut [u16]) {
        for (sample, out) in samples.iter().zip(out) {
            *out = u16::from(*sample);
        }
    }
}

vectorized! {
    /// Adds `bias` to each sum, then divides by 2 to the power `bits`.
    pub(super) fn round(sums: &[u16], bias: u16, bits: u32, out: &mut [u8]) {
        for (sum, out) in sums.iter().zip(out) {
            *out = ((sum + bias) >> bits) as u8;
        }
    }
}

vectorized! {
    /// Doubles the width of a row by interpolation, then divides by 2 to the power `bits`.
    ///
    /// `sums` has one extra sample at each end. `biases` are rounding offsets of even and odd pixels.
    pub(super) fn widen(sums: &[u16], biases: [u16; 2], bits: u32, out: &mut [u8]) {
        let (left, right) = (sums, &sums[2..]);
        let pairs = out.as_chunks_mut::<2>().0.iter_mut();
        for (((pair, sum), left), right) in pairs.zip(&sums[1..]).zip(left).zip(right) {
            let nearest = 3 * sum;
            let pixel = |far: u16, bias: u16| ((nearest + far + bias) >> bits) as u8;
            *pair = [pixel(*left, biases[0]), pixel(*right, biases[1])];
        }
    }
}

vectorized! {
    pub(super) fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
        let (ys, y) = y.as_chunks::<BLOCK>();
        let (cbs, cb) = cb.as_chunks::<BLOCK>();
        let (crs, cr) = cr.as_chunks::<BLOCK>();
        let (outs, out) = out.as_chunks_mut::<{ 3 * BLOCK }>();
        for (((y, cb), cr), out) in ys.iter().zip(cbs).zip(crs).zip(outs) {
            convert(y, cb, cr, out);
        }
        let pixels = out.as_chunks_mut::<3>().0.iter_mut();
        for (((pixel, y), cb), cr) in pixels.zip(y).zip(cb).zip(cr) {
            *pixel = rgb(*y, *cb, *cr);
        }
    }
}

#[inline(always)]
fn convert(y: &[u8; BLOCK], cb: &[u8; BLOCK], cr: &[u8; BLOCK], out: &mut [u8; 3 * BLOCK]) {
    let mut planes = [[0; BLOCK]; 3];
    for at in 0..BLOCK {
        [planes[0][at], planes[1][at], planes[2][at]] = rgb(y[at], cb[at], cr[at]);
    }
    for (at, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = [planes[0][at], planes[1][at], planes[2][at]];
    }
}

#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
    // The upper half of twice the product has one fraction bit, which is rounded.
    let rounded = |value: i16, constant: i16| {
        let twice = (i32::from(2 * value) * i32::from(constant)) >> 16;
        (twice as i16 + 1) >> 1
    };
    let red = y + cr + rounded(cr, 26_345);
    let sum = i32::from(cr) * 18_734 - i32::from(cb) * 22_554 + (1 << 15);
    let green = y - cr + (sum >> 16) as i16;
    let blue = y + 2 * cb + rounded(cb, -14_942);
    [red, green, blue].map(|level| level.clamp(0, 255) as u8)
}

pub(super) fn grey_to_rgb(y: &[u8], out: &mut [u8]) {
    for (pixel, y) in out.as_chunks_mut::<3>().0.iter_mut().zip(y) {
        *pixel = [*y; 3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the expected RGB pixel with libjpeg's formula.
    fn expected(y: i32, cb: i32, cr: i32) -> [u8; 3] {
        let fix = |x: f64| (x * 65536.0 + 0.5) as i32;
        let (cb, cr) = (cb - 128, cr - 128);
        let red = y + ((fix(1.402) * cr + 32768) >> 16);
        let green = y + ((-fix(0.34414) * cb - fix(0.71414) * cr + 32768) >> 16);
        let blue = y + ((fix(1.772) * cb + 32768) >> 16);
        [red, green, blue].map(|level| level.clamp(0, 255) as u8)
    }

    #[test]
    fn all_colours_equal_those_of_libjpeg() {
        for cb in 0..=255u8 {
            for cr in 0..=255u8 {
                let found = rgb(77, cb, cr);
                assert_eq!(found, expected(77, cb.into(), cr.into()), "{cb} {cr}");
            }
        }
    }
}
