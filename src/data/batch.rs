use std::ops::Range;
use std::sync::Arc;

use crate::data::recycled::Recycled;
use crate::shape::soft_targets;

/// Images and targets of one micro-step, in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub images: Images,
    pub targets: Targets,
    /// Sample number of each image, which determines its random augmentation.
    ///
    /// The lower bits hold the image index. The upper bits hold the repeat number of repeated augmentation.
    pub samples: Vec<u64>,
}

/// Images of a batch, `[N, C, H, W]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Images {
    /// 8-bit pixel values. The device normalizes them.
    Levels(Recycled<u8>, Arc<Normalization>),
    /// Normalized floats.
    Values(Recycled<f32>),
}

/// Mean and standard deviation of each channel, for pixel values from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// Target classes of the images in a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class index of each image, `[N]`.
    Hard(Vec<u32>),
    /// Class probabilities, `[N, classes]`. Each row sums to 1.
    Soft(Vec<f32>),
}

/// Consecutive images of a batch, with their targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shard<'a> {
    pub images: ImagesSlice<'a>,
    pub targets: TargetsSlice<'a>,
    pub samples: &'a [u64],
}

/// The [`Images`] of a [`Shard`], borrowed from a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ImagesSlice<'a> {
    Levels(&'a [u8], &'a Normalization),
    Values(&'a [f32]),
}

/// The [`Targets`] of a [`Shard`], borrowed from a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetsSlice<'a> {
    Hard(&'a [u32]),
    Soft(&'a [f32]),
}

impl Batch {
    /// Returns the number of images in the batch.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Borrows the images with the indices `range`, and their targets.
    ///
    /// Panics if `range` exceeds the batch.
    pub fn shard(&self, range: Range<usize>) -> Shard<'_> {
        let n = self.len().max(1);
        let part = |total: usize| range.start * (total / n)..range.end * (total / n);
        Shard {
            images: match &self.images {
                Images::Levels(levels, scale) => {
                    ImagesSlice::Levels(&levels[part(levels.len())], scale)
                }
                Images::Values(values) => ImagesSlice::Values(&values[part(values.len())]),
            },
            targets: match &self.targets {
                Targets::Hard(labels) => TargetsSlice::Hard(&labels[range.clone()]),
                Targets::Soft(rows) => TargetsSlice::Soft(&rows[part(rows.len())]),
            },
            samples: &self.samples[range],
        }
    }

    /// Appends the images and targets of `other`.
    ///
    /// Panics if a batch has soft targets, or if one batch has 8-bit values and the other has floats.
    pub(super) fn append(&mut self, other: &Self) {
        match (&mut self.images, &other.images) {
            (Images::Levels(all, _), Images::Levels(more, _)) => all.extend_from_slice(more),
            (Images::Values(all), Images::Values(more)) => all.extend_from_slice(more),
            _ => unreachable!("all batches of a loader have the same pixel type"),
        }
        match (&mut self.targets, &other.targets) {
            (Targets::Hard(all), Targets::Hard(more)) => all.extend_from_slice(more),
            _ => unreachable!("batches are joined before mixup"),
        }
        self.samples.extend_from_slice(&other.samples);
    }
}

impl Images {
    /// Returns the number of pixel values: N · C · H · W.
    pub fn len(&self) -> usize {
        match self {
            Self::Levels(levels, _) => levels.len(),
            Self::Values(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TargetsSlice<'_> {
    /// Returns the class probabilities of each image, `[N, classes]`.
    ///
    /// Label smoothing applies only to hard targets.
    pub fn soft(&self, classes: usize, smoothing: f64) -> Vec<f32> {
        match self {
            Self::Soft(rows) => rows.to_vec(),
            Self::Hard(labels) => soft_targets(labels, classes, smoothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_the_targets_of_its_images() {
        let images = (0u8..12).map(f32::from).collect::<Vec<_>>();
        let images = Images::Values(images.into());
        let targets = Targets::Soft(vec![0.0, 1.0, 0.5, 0.5, 1.0, 0.0]);
        let batch = Batch { images, targets, samples: vec![7, 8, 9] };
        let shard = batch.shard(1..3);
        let images = [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
        assert_eq!(shard.images, ImagesSlice::Values(&images));
        assert_eq!(shard.targets, TargetsSlice::Soft(&[0.5, 0.5, 1.0, 0.0]));
        assert_eq!(shard.samples, [8, 9]);
    }
}
