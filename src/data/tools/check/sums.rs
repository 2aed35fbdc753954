use crate::data::dataset::DataSet;

use super::look::Looked;
use super::numbers::NumberSums;
use super::report::{CheckedSplit, Numbers};

/// Sums over all images of a split.
pub(super) struct SplitSums {
    split: CheckedSplit,
    /// `[widths, heights]` of all images, in pixels.
    sizes: [Vec<usize>; 2],
    counts: Vec<usize>,
    /// For each channel: the means of all images added up, and the mean squares of all images added up.
    moments: Vec<[f64; 2]>,
    numbers: NumberSums,
    /// Number of images that the decoder reduced to 8 bits.
    pub(super) cut_images: usize,
}

impl SplitSums {
    pub(super) fn new(name: &'static str, images: usize) -> Self {
        let split = CheckedSplit {
            name,
            images,
            bytes: 0,
            classes: Vec::new(),
            width: [0; 3],
            height: [0; 3],
            bad: Vec::new(),
            damaged: Vec::new(),
        };
        Self {
            split,
            sizes: [vec![], vec![]],
            counts: vec![],
            moments: vec![],
            numbers: NumberSums::default(),
            cut_images: 0,
        }
    }

    pub(super) fn add(&mut self, data: &DataSet, label: u32, looked: &Looked) {
        let label = label as usize;
        if label < data.class_names.len() {
            self.counts.resize(data.class_names.len(), 0);
            self.counts[label] += 1;
        }
        let name = || looked.name.clone().unwrap_or_default();
        match &looked.result {
            Err(error) => self.split.bad.push((name(), error.problem())),
            Ok(image) => {
                self.split.bytes += image.bytes;
                self.sizes[0].push(image.size.0);
                self.sizes[1].push(image.size.1);
                self.moments.resize(image.moments.len(), [0.0; 2]);
                for (sum, moment) in self.moments.iter_mut().zip(&image.moments) {
                    sum[0] += moment[0];
                    sum[1] += moment[1];
                }
                self.cut_images += usize::from(image.is_cut);
                if let Some(numbers) = &image.numbers {
                    self.numbers.add(numbers);
                }
                if let Some(warning) = &image.warning {
                    self.split.damaged.push((name(), warning.clone()));
                }
            }
        }
    }

    pub(super) fn mean_and_std(&self) -> (Vec<f64>, Vec<f64>) {
        let images = self.sizes[0].len().max(1) as f64;
        let mean = |moment: &[f64; 2]| moment[0] / images;
        let std = |moment: &[f64; 2]| (moment[1] / images - mean(moment).powi(2)).max(0.0).sqrt();
        (self.moments.iter().map(mean).collect(), self.moments.iter().map(std).collect())
    }

    /// Returns the percentiles of the unscaled pixel values. Call this function once, after the last image.
    pub(super) fn numbers(&mut self) -> Option<Numbers> {
        std::mem::take(&mut self.numbers).summary()
    }

    pub(super) fn split(mut self, data: &DataSet) -> CheckedSplit {
        let three = |sizes: &mut Vec<usize>| {
            sizes.sort_unstable();
            let at = |place: usize| sizes.get(place).copied().unwrap_or(0);
            [at(0), at(sizes.len() / 2), sizes.last().copied().unwrap_or(0)]
        };
        self.split.classes = data.class_names.iter().cloned().zip(self.counts).collect();
        self.split.width = three(&mut self.sizes[0]);
        self.split.height = three(&mut self.sizes[1]);
        self.split
    }
}
