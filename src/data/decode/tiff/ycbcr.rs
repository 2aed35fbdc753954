//! Converts subsampled `YCbCr` samples of TIFF files to RGB, with the arithmetic of libtiff.

use super::directory::Directory;
use super::layout::{Layout, REFERENCE_BLACK_WHITE, YCBCR_COEFFICIENTS};
use crate::data::decode::error::ImageError;

const SHIFT: u32 = 16;
const HALF: i32 = 1 << (SHIFT - 1);

/// Tables that convert `YCbCr` to RGB.
pub(super) struct Converter {
    luma: [i32; 256],
    red_of_cr: [i32; 256],
    blue_of_cb: [i32; 256],
    green_of_cr: [i32; 256],
    green_of_cb: [i32; 256],
}

impl Converter {
    pub(super) fn of(directory: &Directory<'_>) -> Result<Self, ImageError> {
        let luma = directory.floats(YCBCR_COEFFICIENTS)?;
        let luma = luma.as_deref().and_then(<[f32]>::as_array).copied();
        let range = directory.floats(REFERENCE_BLACK_WHITE)?;
        let range = range.as_deref().and_then(<[f32]>::as_array).copied();
        Ok(Self::new(
            luma.unwrap_or([0.299, 0.587, 0.114]),
            range.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]),
        ))
    }

    /// Computes the tables from the weights of red, green and blue in luma.
    ///
    /// `range` is the TIFF tag `ReferenceBlackWhite`.
    fn new([red, green, blue]: [f32; 3], range: [f32; 6]) -> Self {
        let fixed = |x: f32| (f64::from(x.clamp(0.0, 2.0)) * 65_536.0 + 0.5) as i32;
        let (f1, f3) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let (d1, d2) = (fixed(f1), -fixed(red * f1 / green));
        let (d3, d4) = (fixed(f3), -fixed(blue * f3 / green));
        let value = |code: i32, black: f32, white: f32, scale: f32| {
            let span = if white - black == 0.0 { 1.0 } else { white - black };
            let value = (code - black as i32) as f32 * scale / span;
            value.clamp(-128.0 * 32.0, 128.0 * 32.0) as i32
        };
        let table = |entry: &dyn Fn(i32) -> i32| std::array::from_fn(|i| entry(i as i32 - 128));
        let cr = |x| value(x, range[4] - 128.0, range[5] - 128.0, 127.0);
        let cb = |x| value(x, range[2] - 128.0, range[3] - 128.0, 127.0);
        Self {
            luma: table(&|x| value(x + 128, range[0], range[1], 255.0)),
            red_of_cr: table(&|x| (d1 * cr(x) + HALF) >> SHIFT),
            blue_of_cb: table(&|x| (d3 * cb(x) + HALF) >> SHIFT),
            green_of_cr: table(&|x| d2 * cr(x)),
            green_of_cb: table(&|x| d4 * cb(x) + HALF),
        }
    }

    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let [y, cb, cr] = [y, cb, cr].map(usize::from);
        let luma = self.luma[y];
        let green = (self.green_of_cb[cb] + self.green_of_cr[cr]) >> SHIFT;
        [luma + self.red_of_cr[cr], luma + green, luma + self.blue_of_cb[cb]]
            .map(|level| level.clamp(0, 255) as u8)
    }

    /// Converts a strip or tile of subsampled `YCbCr` to RGB.
    pub(super) fn to_rgb(
        &self,
        layout: &Layout,
        data: &[u8],
        width: usize,
        height: usize,
    ) -> Vec<u8> {
        let [across, down] = layout.subsampling;
        let block = across * down + 2;
        let blocks = width.div_ceil(across);
        let mut out = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let at = (y / down * blocks + x / across) * block;
                let luma = data[at + y % down * across + x % across];
                out.extend(self.rgb(luma, data[at + block - 2], data[at + block - 1]));
            }
        }
        out
    }
}

/// Returns the size in bytes of a strip or tile of subsampled `YCbCr`.
///
/// The data consists of blocks. Each block stores the luma of all its pixels, then one `Cb` and one `Cr`.
pub(super) fn coded_length(layout: &Layout, width: usize, height: usize) -> usize {
    let [across, down] = layout.subsampling;
    width.div_ceil(across) * height.div_ceil(down) * (across * down + 2)
}
