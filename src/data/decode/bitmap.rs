//! Decoded images, and Pillow's conversions of their pixels to grey or RGB.

use super::error::ImageError;
use super::picture::{Colour, Picture, Pixels};

/// Maximum width and height of a picture in pixels, as in libjpeg.
pub(super) const MAX_SIDE: u32 = 65_500;
/// Maximum size of a decoded picture in bytes: Pillow's limit of about 179 million RGB pixels.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// A decoded image whose pixels equal Pillow's `convert("RGB")` or `convert("L")`.
pub(super) struct Bitmap {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) levels: Levels,
}

/// 8-bit pixel values of a [`Bitmap`], row by row.
pub(super) enum Levels {
    /// One value per pixel.
    Grey(Vec<u8>),
    /// Red, green and blue of each pixel.
    Rgb(Vec<u8>),
}

/// 256 RGB colours. Colours that are missing in the file are black.
pub(super) type Palette = [[u8; 3]; 256];

impl Bitmap {
    /// Converts the image to a grey or RGB picture, as `colour` says.
    pub(super) fn into_picture(self, colour: Colour) -> Picture {
        let (channels, levels) = match (colour, self.levels) {
            (Colour::Grey, Levels::Grey(levels)) => (1, levels),
            (Colour::Grey, Levels::Rgb(levels)) => (1, luma(&levels)),
            (Colour::Rgb, Levels::Grey(levels)) => {
                (3, levels.into_iter().flat_map(|level| [level; 3]).collect())
            }
            (Colour::Rgb, Levels::Rgb(levels)) => (3, levels),
        };
        Picture { width: self.width, height: self.height, channels, pixels: Pixels::U8(levels) }
    }

    /// Rotates and flips the image to its upright position.
    ///
    /// `orientation` is the TIFF tag `Orientation`. Only the values 2 to 8 change the image.
    pub(super) fn oriented(self, orientation: u32) -> Self {
        let size = [self.width, self.height];
        let [width, height] = turned_size(size, orientation);
        let levels = match self.levels {
            Levels::Grey(levels) => Levels::Grey(turned(levels, 1, size, orientation)),
            Levels::Rgb(levels) => Levels::Rgb(turned(levels, 3, size, orientation)),
        };
        Self { width, height, levels }
    }
}

/// Returns `[width, height]` of an image after a rotation by [`turned`].
pub(super) fn turned_size([width, height]: [usize; 2], orientation: u32) -> [usize; 2] {
    if (5..=8).contains(&orientation) { [height, width] } else { [width, height] }
}

/// Rotates and flips pixels, `[H, W, C]`, to the upright position.
///
/// `orientation` is the TIFF tag `Orientation`. `size` is `[width, height]` before the rotation.
pub(super) fn turned<T: Copy>(
    values: Vec<T>,
    channels: usize,
    size: [usize; 2],
    orientation: u32,
) -> Vec<T> {
    if !(2..=8).contains(&orientation) {
        return values;
    }
    let [width, height] = size;
    let [wide, high] = turned_size(size, orientation);
    let source = |x: usize, y: usize| match orientation {
        2 => (width - 1 - x, y),
        3 => (width - 1 - x, height - 1 - y),
        4 => (x, height - 1 - y),
        5 => (y, x),
        6 => (y, height - 1 - x),
        7 => (width - 1 - y, height - 1 - x),
        _ => (width - 1 - y, x),
    };
    let mut out = Vec::with_capacity(values.len());
    for y in 0..high {
        for x in 0..wide {
            let (x, y) = source(x, y);
            let at = (y * width + x) * channels;
            out.extend_from_slice(&values[at..at + channels]);
        }
    }
    out
}

impl Levels {
    /// Converts palette indices to the RGB colours of `palette`.
    pub(super) fn of_palette(indices: &[u8], palette: &Palette) -> Self {
        Self::Rgb(indices.iter().flat_map(|index| palette[usize::from(*index)]).collect())
    }

    /// Clamps integers to the grey levels 0..=255, like Pillow.
    pub(super) fn of_numbers(values: impl Iterator<Item = i64>) -> Self {
        Self::Grey(values.map(|value| value.clamp(0, 255) as u8).collect())
    }
}

/// Returns width and height as `usize`.
///
/// Fails if a side is 0, or if the image exceeds [`MAX_SIDE`] or [`MAX_BYTES`].
pub(super) fn checked_size(width: u32, height: u32) -> Result<(usize, usize), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::damaged(format!("the image has no pixels: {width}x{height}")));
    }
    let bytes = u64::from(width) * u64::from(height) * 3;
    if width.max(height) > MAX_SIDE || bytes > MAX_BYTES {
        return Err(ImageError::too_large(width.into(), height.into()));
    }
    Ok((width as usize, height as usize))
}

/// Reads `count` packed numbers of 1, 2, 4 or 8 bits, from the highest bits of each byte to the lowest.
pub(super) fn unpacked(row: &[u8], bits: usize, count: usize) -> impl Iterator<Item = u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    (0..count).map(move |i| {
        let place = i * bits;
        row[place / 8] >> (8 - bits - place % 8) & mask
    })
}

/// Keeps the first `kept` of the `channels` values of each pixel.
pub(super) fn keep<T: Copy>(values: &[T], channels: usize, kept: usize) -> Vec<T> {
    values.chunks_exact(channels).flat_map(|pixel| &pixel[..kept]).copied().collect()
}

/// Converts RGB pixels to grey like Pillow, with 16-bit integer weights.
///
/// The weights add up to 65,536, so a pixel with equal red, green and blue keeps its level.
pub(super) fn luma(rgb: &[u8]) -> Vec<u8> {
    let level = |[r, g, b]: &[u8; 3]| {
        let weighted = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7_471;
        ((weighted + 0x8000) >> 16) as u8
    };
    rgb.as_chunks().0.iter().map(level).collect()
}

/// Converts a CMYK pixel to RGB like Pillow. A value of 255 means full ink.
pub(super) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let paper = 255 - k;
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * u32::from(paper) + 128;
        paper - ((product + (product >> 8)) >> 8) as u8
    })
}

/// Divides a premultiplied pixel value by its alpha, like Pillow. Returns `transparent` if `alpha` is 0.
pub(super) fn unmultiplied(level: u8, alpha: u8, transparent: u8) -> u8 {
    match alpha {
        0 => transparent,
        255 => level,
        _ => (u32::from(level) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// Converts a `YCbCr` pixel to RGB like Pillow, in fixed point with 6 fraction bits.
pub(super) fn ycc_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    // Pillow's tables round negative numbers towards zero after adding one half.
    let part = |factor: f64, chroma: u8| (factor * (f64::from(chroma) - 128.0) * 64.0 + 0.5) as i32;
    let y = i32::from(y);
    let red = y + (part(1.402, cr) >> 6);
    let green = y + ((part(-0.344_14, cb) + part(-0.714_14, cr)) >> 6);
    let blue = y + (part(1.772, cb) >> 6);
    [red, green, blue].map(|level| level.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_is_pillows() {
        assert_eq!(luma(&[10, 200, 30]), [124]); // Image.new("RGB", (1, 1), (10, 200, 30)).convert("L")
    }

    #[test]
    fn inks_become_pillows_colours() {
        // Image.new("CMYK", (1, 1), (10, 200, 30, 40)).convert("RGB")
        assert_eq!(cmyk_to_rgb([10, 200, 30, 40]), [207, 46, 190]);
    }

    #[test]
    fn each_orientation_turns_as_exif_transpose() {
        let grey = |orientation| {
            let image =
                Bitmap { width: 3, height: 2, levels: Levels::Grey(vec![1, 2, 3, 4, 5, 6]) };
            let turned = image.oriented(orientation);
            let Levels::Grey(levels) = turned.levels else { unreachable!("the input is grey") };
            (turned.width, levels)
        };
        assert_eq!(grey(1), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(grey(2), (3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(grey(3), (3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(grey(4), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(grey(5), (2, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(grey(6), (2, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(grey(7), (2, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(grey(8), (2, vec![3, 6, 2, 5, 1, 4]));
    }
}
