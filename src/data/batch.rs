use std::ops::Range;

/// Images and targets of one micro-step, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[N, C, H, W]`, normalized.
    pub images: Vec<f32>,
    pub targets: Targets,
    /// The index of each image in its split.
    pub samples: Vec<u64>,
}

/// What the model is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// A class each, `[N]`.
    Hard(Vec<u32>),
    /// Probabilities of the classes, `[N, classes]`; each row adds up to 1.
    Soft(Vec<f32>),
}

/// A few consecutive images of a batch, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shard<'a> {
    pub images: &'a [f32],
    pub targets: TargetsSlice<'a>,
    pub samples: &'a [u64],
}

/// [`Targets`] of a shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetsSlice<'a> {
    Hard(&'a [u32]),
    Soft(&'a [f32]),
}

impl Batch {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Gives the images of `range` without copying. Panics if the batch does not hold them.
    pub fn shard(&self, range: Range<usize>) -> Shard<'_> {
        let n = self.len().max(1);
        let part = |total: usize| range.start * (total / n)..range.end * (total / n);
        Shard {
            images: &self.images[part(self.images.len())],
            targets: match &self.targets {
                Targets::Hard(labels) => TargetsSlice::Hard(&labels[range.clone()]),
                Targets::Soft(rows) => TargetsSlice::Soft(&rows[part(rows.len())]),
            },
            samples: &self.samples[range],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cut_images_and_targets_at_the_same_place() {
        let images = (0u8..12).map(f32::from).collect();
        let targets = Targets::Soft(vec![0.0, 1.0, 0.5, 0.5, 1.0, 0.0]);
        let batch = Batch { images, targets, samples: vec![7, 8, 9] };
        let shard = batch.shard(1..3);
        assert_eq!(shard.images, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(shard.targets, TargetsSlice::Soft(&[0.5, 0.5, 1.0, 0.0]));
        assert_eq!(shard.samples, [8, 9]);
    }
}
