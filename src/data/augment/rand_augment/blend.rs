//! Operations that blend a picture with a changed version of the picture: grey, one flat colour, black, or smoothed.
//!
//! `share` is the weight of the original picture. A `share` above 1 increases the difference from the changed version.

use super::levels::{look_up, table};
use super::rgb::Rgb;

/// Changes the saturation by the factor `share`. 0 gives a grey picture; 1 changes nothing.
pub(in crate::data::augment) fn color(picture: &Rgb, share: f64) -> Rgb {
    let blend = Blend::new(share);
    let colours = picture.colours().iter();
    let blended = colours.map(|&colour| {
        let grey = luma(colour);
        colour.map(|level| blend.level(grey, level))
    });
    picture.with_colours(blended.collect())
}

/// Changes the contrast by the factor `share`. 0 gives uniform grey; 1 changes nothing.
pub(in crate::data::augment) fn contrast(picture: &Rgb, share: f64) -> Rgb {
    let colours = picture.colours();
    let sum: u64 = colours.iter().map(|&colour| u64::from(luma(colour))).sum();
    let mean = (sum as f64 / colours.len() as f64 + 0.5) as u8;
    with_flat(picture, mean, share)
}

/// Changes the brightness by the factor `share`. 0 gives black; 1 changes nothing.
pub(in crate::data::augment) fn brightness(picture: &Rgb, share: f64) -> Rgb {
    with_flat(picture, 0, share)
}

fn with_flat(picture: &Rgb, flat: u8, share: f64) -> Rgb {
    let blend = Blend::new(share);
    look_up(picture, &[table(|level| u32::from(blend.level(flat, level as u8))); 3])
}

/// Changes the sharpness by the factor `share`. 0 gives a smoothed picture; 1 changes nothing.
pub(super) fn sharpness(picture: &Rgb, share: f64) -> Rgb {
    let mut out = picture.clone();
    if picture.width < 3 || picture.height < 3 {
        return out;
    }
    let blend = Blend::new(share);
    let len = 3 * picture.width;
    let rows: Vec<&[u8]> = picture.pixels.chunks_exact(len).collect();
    let inner = out.pixels.chunks_exact_mut(len).skip(1);
    let mut columns = vec![0; len];
    for (out, rows) in inner.zip(rows.windows(3)) {
        for (i, sum) in columns.iter_mut().enumerate() {
            *sum = rows.iter().map(|row| u32::from(row[i])).sum();
        }
        // The same channel of the next pixel is three values later.
        let places = out[3..len - 3].iter_mut().zip(&rows[1][3..len - 3]);
        for ((place, &level), near) in places.zip(columns.windows(7)) {
            *place = blend.level(smooth(near[0] + near[3] + near[6], level), level);
        }
    }
    out
}

/// Returns the weighted mean of 3 × 3 values: weight 5 for `centre`, weight 1 for the others.
fn smooth(sum_of_nine: u32, centre: u8) -> u8 {
    let sum = sum_of_nine + 4 * u32::from(centre);
    ((2 * sum + 13) / 26) as u8
}

/// Converts an RGB pixel to grey like Pillow (ITU-R 601-2 luma).
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    ((sum + 0x8000) >> 16) as u8
}

/// Blends two 8-bit values like Pillow: in single precision, rounded down.
#[derive(Clone, Copy)]
struct Blend {
    share: f32,
}

impl Blend {
    fn new(share: f64) -> Self {
        Self { share: share as f32 }
    }

    fn level(self, lesser: u8, own: u8) -> u8 {
        let difference = f32::from(i16::from(own) - i16::from(lesser));
        (f32::from(lesser) + self.share * difference) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_has_pillows_weights() {
        assert_eq!([[255, 0, 0], [0, 255, 0], [0, 0, 255]].map(luma), [76, 150, 29]);
        assert!((0..=255).all(|level| luma([level; 3]) == level));
    }

    #[test]
    fn blends_are_clamped_and_not_rounded() {
        let blend = Blend::new(1.9);
        assert_eq!([(0, 200), (200, 0), (0, 1)].map(|(a, b)| blend.level(a, b)), [255, 0, 1]);
        assert_eq!(Blend::new(0.5).level(10, 13), 11);
    }

    #[test]
    fn the_edge_of_a_sharpened_picture_stays() {
        let picture =
            Rgb { width: 3, height: 3, pixels: (0..27u32).map(|i| (i * i % 251) as u8).collect() };
        let sharp = sharpness(&picture, 1.9);
        let changed: Vec<usize> =
            (0..9).filter(|&i| sharp.colours()[i] != picture.colours()[i]).collect();
        assert_eq!(changed, [4]);
    }
}
