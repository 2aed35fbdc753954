//! k-nearest-neighbour classification of features, as DINO computes it (`eval_knn.py`).

use super::error::InferError;
use super::features::Features;
use super::host::host;
use super::stop::StopFlag;
use crate::data::Share;
use crate::ops;
use burn::tensor::{Device, Tensor, TensorData};
use std::cmp::Ordering;

/// Number of training images whose similarities are computed at once.
const BANK_ROWS: usize = 16_384;
/// Number of validation images whose similarities are computed at once.
const QUERY_ROWS: usize = 1024;
/// Lower limit of a vector's norm when the vector is divided by its norm, as in PyTorch.
const SMALLEST_NORM: f32 = 1e-12;

/// Settings of a k-nearest-neighbour (kNN) classification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    /// Number of neighbours that vote.
    pub k: usize,
    /// The vote of a neighbour has the weight `exp(s / temperature)`. `s` is the cosine similarity to the neighbour.
    pub temperature: f64,
}

/// Accuracy of a kNN classification, in %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnnMetrics {
    pub top1: f64,
    pub top5: f64,
    pub images: usize,
}

/// The number of images whose class is the most probable one, and whose class is among the five most probable ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnnCounts {
    pub top1: usize,
    pub top5: usize,
}

impl KnnCounts {
    /// Returns the accuracy on `images` images.
    pub fn metrics(self, images: usize) -> KnnMetrics {
        let percent = |count: usize| 100.0 * count as f64 / images as f64;
        KnnMetrics { top1: percent(self.top1), top5: percent(self.top5), images }
    }
}

/// A training image close to a validation image, as (cosine similarity, index of the training image).
type Neighbour = (f32, usize);

impl Knn {
    /// Classifies each image of `val` by its nearest images in `train`. `width` is the number of features per image.
    ///
    /// If there are fewer than `k` training images, all of them vote. If two classes have equal votes, the smaller
    /// label wins. A class without votes never counts as correct. Returns `None` if the user stops the command.
    pub fn measure(
        self,
        train: Features,
        val: Features,
        width: usize,
        device: &Device,
        stop: &StopFlag,
    ) -> Result<Option<KnnMetrics>, InferError> {
        let images = val.labels.len();
        let counts = self.count(train, val, (width, Share::ALL), device, stop)?;
        Ok(counts.map(|counts| counts.metrics(images)))
    }

    /// Counts the correct classes of a share of the images `val`: of every `share.of`-th block of similarities.
    ///
    /// The counts of all shares add up to those of [`Knn::measure`].
    pub fn count(
        self,
        train: Features,
        val: Features,
        (width, share): (usize, Share),
        device: &Device,
        stop: &StopFlag,
    ) -> Result<Option<KnnCounts>, InferError> {
        check(&train, "training")?;
        check(&val, "validation")?;
        let (bank, queries) = (unit(train.values, width), unit(val.values, width));
        let mut nearest: Vec<Vec<Neighbour>> = vec![Vec::new(); val.labels.len()];
        for (bank_chunk, rows) in bank.chunks(BANK_ROWS * width).enumerate() {
            let count = rows.len() / width;
            let rows = TensorData::new(rows.to_vec(), [count, width]);
            let bank = Tensor::<2>::from_data(rows, device).transpose();
            let chunks = queries.chunks(QUERY_ROWS * width).enumerate();
            for (query_chunk, rows) in chunks.skip(share.index).step_by(share.of) {
                if stop.requested() {
                    return Ok(None);
                }
                let rows = TensorData::new(rows.to_vec(), [rows.len() / width, width]);
                let products = ops::product(Tensor::<2>::from_data(rows, device), bank.clone());
                let products = host(&products.reshape([-1]), &[])?.values;
                let nearest = &mut nearest[query_chunk * QUERY_ROWS..];
                for (nearest, products) in nearest.iter_mut().zip(products.chunks(count)) {
                    self.keep_nearest(nearest, products, bank_chunk * BANK_ROWS);
                }
            }
        }
        // The images of other shares have no neighbours here, so no votes.
        let ranks = nearest.iter().zip(&val.labels).map(|(nearest, label)| {
            let votes = self.votes(nearest, &train.labels);
            votes.iter().position(|(class, _)| class == label)
        });
        let mut counts = KnnCounts::default();
        for rank in ranks.flatten() {
            counts.top1 += usize::from(rank < 1);
            counts.top5 += usize::from(rank < 5);
        }
        Ok(Some(counts))
    }

    /// Adds training images to `nearest`, and keeps the `k` nearest images.
    ///
    /// `products` are the similarities of the added images. `first` is the index of the first added image.
    fn keep_nearest(self, nearest: &mut Vec<Neighbour>, products: &[f32], first: usize) {
        let is_nearer = |a: &Neighbour, b: &Neighbour| match b.0.total_cmp(&a.0) {
            Ordering::Equal => a.1.cmp(&b.1),
            order => order,
        };
        // Sort only now and then: most images are farther away than the current k nearest images.
        let room = 2 * self.k.max(16);
        let mut farthest = nearest.get(self.k - 1).map_or(f32::NEG_INFINITY, |last| last.0);
        for (index, &similarity) in products.iter().enumerate() {
            if similarity > farthest || nearest.len() < self.k {
                nearest.push((similarity, first + index));
                if nearest.len() >= room {
                    nearest.sort_unstable_by(is_nearer);
                    nearest.truncate(self.k);
                    farthest = nearest.last().map_or(f32::NEG_INFINITY, |last| last.0);
                }
            }
        }
        nearest.sort_unstable_by(is_nearer);
        nearest.truncate(self.k);
    }

    /// Returns `(label, sum of votes)` for each class with votes. The class with the most votes comes first.
    fn votes(self, nearest: &[Neighbour], labels: &[u32]) -> Vec<(u32, f64)> {
        let mut votes: Vec<(u32, f64)> = Vec::new();
        for (similarity, index) in nearest {
            let weight = (f64::from(*similarity) / self.temperature).exp();
            let class = labels[*index];
            match votes.iter_mut().find(|(other, _)| *other == class) {
                Some((_, votes)) => *votes += weight,
                None => votes.push((class, weight)),
            }
        }
        votes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        votes
    }
}

fn check(features: &Features, split: &str) -> Result<(), InferError> {
    let refuse = |problem: &str, hint: &str| {
        let (problem, hint) =
            (format!("cannot classify by nearest neighbours: {problem}"), hint.to_owned());
        Err(InferError::Setting { problem, hint })
    };
    if features.labels.is_empty() {
        return refuse(
            &format!("the {split} split has no images"),
            "set `data.path` to the folder of the whole data set",
        );
    }
    if features.values.iter().any(|value| !value.is_finite()) {
        let hint = "download the checkpoint again, because its weights are damaged. Or use another checkpoint";
        return refuse("the features contain NaN or infinity", hint);
    }
    Ok(())
}

/// Divides each vector of `width` values by its norm.
fn unit(mut values: Vec<f32>, width: usize) -> Vec<f32> {
    for vector in values.chunks_exact_mut(width) {
        let squares: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
        let norm = (squares.sqrt() as f32).max(SMALLEST_NORM);
        for value in vector {
            *value /= norm;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::{Knn, KnnCounts};
    use crate::data::Share;
    use crate::infer::{Features, StopFlag};
    use burn::tensor::Device;

    /// Returns 2-D features of norm 2, one vector for each (angle in degrees, label).
    fn at(angles: &[(f32, u32)]) -> Features {
        let point = |(angle, _): &(f32, u32)| {
            [2.0 * angle.to_radians().cos(), 2.0 * angle.to_radians().sin()]
        };
        Features {
            values: angles.iter().flat_map(point).collect(),
            labels: angles.iter().map(|(_, label)| *label).collect(),
        }
    }

    #[test]
    fn near_images_have_the_larger_votes() {
        let train = at(&[(0.0, 0), (30.0, 1), (31.0, 1), (180.0, 2)]);
        let top1 = |k: usize, temperature: f64, val: &[(f32, u32)]| {
            let knn = Knn { k, temperature };
            let stop = StopFlag::default();
            let measured = knn.measure(train.clone(), at(val), 2, &Device::flex(), &stop);
            format!("{:.0} %", measured.unwrap().unwrap().top1)
        };
        assert_eq!(top1(1, 0.07, &[(1.0, 0), (29.0, 1), (170.0, 2), (200.0, 0)]), "75 %");
        // Two neighbours of class 1 outvote the nearer class 0 unless the temperature is small.
        assert_eq!(top1(3, 1.0, &[(10.0, 1)]), "100 %");
        assert_eq!(top1(3, 0.01, &[(10.0, 0)]), "100 %");
        assert_eq!(top1(9, 0.07, &[(170.0, 2)]), "100 %", "all training images vote");
    }

    #[test]
    fn shares_count_every_image_once() {
        let many = |count: u16, step: f32| -> Vec<(f32, u32)> {
            (0..count).map(|i| (f32::from(i) * step, u32::from(i) % 7)).collect()
        };
        let (train, val) = (at(&many(500, 0.7)), at(&many(2_500, 0.13)));
        let (knn, stop) = (Knn { k: 3, temperature: 0.07 }, StopFlag::default());
        let whole = knn.measure(train.clone(), val.clone(), 2, &Device::flex(), &stop);
        for of in 1..=4 {
            let mut sum = KnnCounts::default();
            for index in 0..of {
                let share = (2, Share { index, of, on_this_host: 1 });
                let own = knn.count(train.clone(), val.clone(), share, &Device::flex(), &stop);
                let own = own.unwrap().unwrap();
                sum = KnnCounts { top1: sum.top1 + own.top1, top5: sum.top5 + own.top5 };
            }
            assert_eq!(Some(sum.metrics(2_500)), whole.as_ref().unwrap().clone());
        }
    }

    #[test]
    fn every_chunk_is_searched() {
        let many: Vec<(f32, u32)> =
            (0..40_000u16).map(|i| (f32::from(i) * 0.005, u32::from(i / 1000))).collect();
        let val: Vec<(f32, u32)> = (0..2_500u16)
            .map(|i| (f32::from(i) * 0.08 + 0.0025, u32::from(i * 16 / 1000)))
            .collect();
        let knn = Knn { k: 1, temperature: 0.07 };
        let measured = knn.measure(at(&many), at(&val), 2, &Device::flex(), &StopFlag::default());
        let top1 = measured.unwrap().unwrap().top1;
        assert!(top1 > 98.0, "{top1}");
    }
}
