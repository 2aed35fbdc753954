//! Percentiles of the unscaled pixel values in image files. They help a user to choose `data.range`.

use crate::data::decode::raw::RawPicture;

use super::report::{ChannelNumbers, Numbers};

/// Maximum number of pixel values to keep, over all images and channels. If there are more, keeps a sample of each
/// image.
const KEPT: usize = 1 << 24;
/// Fractional part of the golden ratio. Its multiples, modulo 1, spread sampled pixels evenly over an image.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// The unscaled pixel values of an image, or a sample of them, for each channel.
pub(super) struct ImageNumbers {
    channels: Vec<Vec<f32>>,
    is_sample: bool,
}

/// The unscaled pixel values of all training images.
#[derive(Default)]
pub(super) struct NumberSums {
    channels: Vec<Vec<f32>>,
    is_sample: bool,
}

impl ImageNumbers {
    /// Takes the unscaled pixel values of an image. `images` is the number of images that share the memory limit.
    pub(super) fn of(raw: &RawPicture, images: usize) -> Self {
        let pixels = raw.width * raw.height;
        let most = (KEPT / (images.max(1) * raw.channels)).max(16);
        let is_sample = pixels > most;
        let place = |i: usize| {
            if is_sample { ((i as f64 * GOLDEN).fract() * pixels as f64) as usize } else { i }
        };
        let channel = |channel: usize| {
            let numbers = (0..pixels.min(most)).map(place);
            numbers.map(|pixel| raw.values[pixel * raw.channels + channel]).collect()
        };
        Self { channels: (0..raw.channels).map(channel).collect(), is_sample }
    }
}

impl NumberSums {
    pub(super) fn add(&mut self, image: &ImageNumbers) {
        self.channels.resize(self.channels.len().max(image.channels.len()), Vec::new());
        self.is_sample |= image.is_sample;
        for (all, numbers) in self.channels.iter_mut().zip(&image.channels) {
            all.extend_from_slice(numbers);
        }
    }

    /// Returns the percentiles of each channel; `None` if no image was added.
    pub(super) fn summary(self) -> Option<Numbers> {
        let is_sample = self.is_sample;
        let channels: Vec<_> = self.channels.into_iter().map(ChannelNumbers::of).collect();
        let all = || channels.iter().map(|channel| &channel.percentiles);
        let low = all().map(|percentiles| percentiles[1].1).reduce(f64::min)?;
        let high = all().map(|percentiles| percentiles[5].1).reduce(f64::max)?;
        Some(Numbers { range: [low, high], is_sample, channels })
    }
}

impl ChannelNumbers {
    /// The percentiles to print, in percent. The 0.5 % and 99.5 % percentiles give the suggested `data.range`.
    const PERCENTS: [f64; 7] = [0.0, 0.5, 5.0, 50.0, 95.0, 99.5, 100.0];

    fn of(mut numbers: Vec<f32>) -> Self {
        numbers.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: f64| {
            // Interpolates between two numbers, as NumPy does.
            let place = percent / 100.0 * (numbers.len() - 1) as f64;
            let at = |place: f64| f64::from(numbers[place as usize]);
            let (below, above) = (at(place.floor()), at(place.ceil()));
            (percent, below + (above - below) * place.fract())
        };
        Self { percentiles: Self::PERCENTS.map(percentile).to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(values: Vec<f32>) -> RawPicture {
        RawPicture { width: values.len(), height: 1, channels: 1, values }
    }

    #[test]
    fn percentiles_are_numpys() {
        let mut sums = NumberSums::default();
        sums.add(&ImageNumbers::of(&picture(vec![5.0, 1.0, 3.0]), 2));
        sums.add(&ImageNumbers::of(&picture(vec![10.0]), 2));
        let numbers = sums.summary().unwrap();
        // numpy.percentile([5, 1, 3, 10], [0, 5, 50, 100])
        let percentiles = &numbers.channels[0].percentiles;
        let at = |i: usize| percentiles[i].1;
        assert_eq!((at(0), at(3), at(6)), (1.0, 4.0, 10.0));
        assert!((at(2) - 1.3).abs() < 1e-12, "{}", at(2));
        assert!(!numbers.is_sample);
    }

    #[test]
    fn a_sample_covers_the_whole_picture() {
        let side = 1000;
        let values = (0..side * side).map(|i| (i % side) as f32).collect();
        let raw = RawPicture { width: side, height: side, channels: 1, values };
        let mut sums = NumberSums::default();
        sums.add(&ImageNumbers::of(&raw, 1 << 13));
        let numbers = sums.summary().unwrap();
        assert!(numbers.is_sample && (numbers.channels[0].percentiles[3].1 - 500.0).abs() < 10.0);
    }
}
