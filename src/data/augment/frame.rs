//! Writes pictures into a batch as `[C, H, W]`, either as 8-bit pixel values or as normalized floats.

use std::sync::Arc;

use crate::data::batch::{Images, Normalization};
use crate::data::decode::picture::{Picture, Pixels};
use crate::data::decode::simd::vectorized;
use crate::data::recycled::Pools;
use crate::recipe::DataPlan;
use crate::shape::ImageSize;

/// Writes pictures of the size `input_size` into batches.
#[derive(Debug, Clone)]
pub(in crate::data) struct Frame {
    pub(in crate::data) input_size: ImageSize,
    pub(super) scale: Arc<Normalization>,
    /// Normalized value of each 8-bit pixel value, for each channel.
    levels: Vec<[f32; 256]>,
}

impl Frame {
    pub(super) fn new(plan: &DataPlan) -> Self {
        let channels = plan.mean.iter().zip(&plan.std);
        let levels = channels
            .map(|(mean, std)| std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std))
            .collect();
        let scale = Arc::new(Normalization { mean: plan.mean.clone(), std: plan.std.clone() });
        Self { input_size: plan.input_size, scale, levels }
    }

    /// Returns the number of values in one image: C * H * W.
    pub(super) fn len(&self) -> usize {
        self.scale.mean.len() * self.input_size.area()
    }

    /// Returns empty [`Images`] with room for `images` images.
    ///
    /// If `levels` is true, the images will hold 8-bit values. Otherwise, the images will hold normalized floats.
    pub(in crate::data) fn room(&self, images: usize, levels: bool, pools: &Pools) -> Images {
        let len = images * self.len();
        if levels {
            Images::Levels(pools.levels.room(len), Arc::clone(&self.scale))
        } else {
            Images::Values(pools.values.room(len))
        }
    }

    /// Appends a picture to `images` as `[C, H, W]`, mirrored if `hflip` is true.
    ///
    /// The picture must have the size `input_size`.
    pub(super) fn push(&self, images: &mut Images, picture: &Picture, hflip: bool) {
        if let (Images::Levels(out, _), Pixels::U8(bytes), 3) =
            (&mut *images, &picture.pixels, picture.channels)
        {
            return push_planes(out, bytes, picture.width, hflip);
        }
        for channel in 0..self.scale.mean.len() {
            let from = if picture.channels == 1 { 0 } else { channel };
            match (&mut *images, &picture.pixels) {
                (Images::Levels(out, _), Pixels::U8(bytes)) => {
                    push_plane(out, bytes, picture, from, hflip, |level| level);
                }
                (Images::Values(out), Pixels::U8(bytes)) => {
                    let levels = &self.levels[channel];
                    let value = |level: u8| levels[usize::from(level)];
                    push_plane(out, bytes, picture, from, hflip, value);
                }
                (Images::Values(out), Pixels::F32(values)) => {
                    let (mean, std) = (self.scale.mean[channel], self.scale.std[channel]);
                    push_plane(out, values, picture, from, hflip, |value| (value - mean) / std);
                }
                (Images::Levels(..), Pixels::F32(_)) => {
                    unreachable!("a split of 8-bit images contains no float images")
                }
            }
        }
    }

    /// Returns the normalized picture as `[C, H, W]`, mirrored if `hflip` is true.
    pub(super) fn normalize(&self, picture: &Picture, hflip: bool) -> Vec<f32> {
        let mut values = Images::Values(Vec::with_capacity(self.len()).into());
        self.push(&mut values, picture, hflip);
        let Images::Values(mut values) = values else { unreachable!("values were asked for") };
        std::mem::take(&mut *values)
    }
}

/// Appends 8-bit pixels, `[H, W, 3]`, to `out` as `[3, H, W]`.
fn push_planes(out: &mut Vec<u8>, levels: &[u8], width: usize, hflip: bool) {
    let (start, area) = (out.len(), levels.len() / 3);
    out.resize(start + 3 * area, 0);
    let (red, rest) = out[start..].split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    deinterleave(levels, red, green, blue);
    if hflip {
        let planes = [red, green, blue].into_iter();
        planes.flat_map(|plane| plane.chunks_exact_mut(width)).for_each(<[u8]>::reverse);
    }
}

vectorized! {
    fn deinterleave(pixels: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        let pixels = pixels.as_chunks::<3>().0;
        for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
            [*red, *green, *blue] = *pixel;
        }
    }
}

/// Appends one channel of a picture to `out` as `[H, W]`.
fn push_plane<T: Copy, U>(
    out: &mut Vec<U>,
    values: &[T],
    picture: &Picture,
    channel: usize,
    hflip: bool,
    value: impl Fn(T) -> U,
) {
    for row in values.chunks_exact(picture.width * picture.channels) {
        let row = row[channel..].iter().step_by(picture.channels).copied();
        if hflip {
            out.extend(row.rev().map(&value));
        } else {
            out.extend(row.map(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame::new(&DataPlan::of_pictures(2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    }

    fn picture() -> Picture {
        Picture { width: 2, height: 2, channels: 3, pixels: Pixels::U8((0..12).collect()) }
    }

    #[test]
    fn a_flip_mirrors_every_row_of_every_channel() {
        let (plain, flipped) =
            (frame().normalize(&picture(), false), frame().normalize(&picture(), true));
        let mirrored: Vec<f32> = plain.chunks(2).flat_map(|row| [row[1], row[0]]).collect();
        assert_eq!(flipped, mirrored);
        let red = |level: f32| (level / 255.0 - 0.485) / 0.229;
        assert_eq!(plain[..4], [red(0.0), red(3.0), red(6.0), red(9.0)]);
    }

    #[test]
    fn levels_are_planes() {
        let mut images = frame().room(2, true, &Pools::default());
        frame().push(&mut images, &picture(), false);
        frame().push(&mut images, &picture(), true);
        let Images::Levels(levels, _) = images else { panic!("levels were asked for") };
        assert_eq!(levels[..12], [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
        assert_eq!(levels[12..], [3, 0, 9, 6, 4, 1, 10, 7, 5, 2, 11, 8]);
    }
}
