//! Counts of a classifier's predictions, for each class.

use super::evaluate::{Counts, Metrics, rank_and_loss};
use std::collections::BTreeMap;

/// Counts the predictions of a classifier on labelled images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Sums of the cross-entropies: one sum for each part that was added, in image order.
    losses: Vec<f64>,
    /// Number of images for each pair of (label, predicted label).
    predictions: BTreeMap<(u32, u32), usize>,
    /// For each label, number of images whose label is among the five most probable classes.
    top5: BTreeMap<u32, usize>,
}

/// The results for the images of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTally {
    pub label: u32,
    pub images: usize,
    pub top1: f64,
    pub top5: f64,
    /// Most frequent wrong prediction, as (label, number of images).
    pub confused: Option<(u32, usize)>,
}

impl Tally {
    /// Counts the predictions in logits `[N, C]`, where `C` is `classes`.
    ///
    /// With `among`, only these labels can be predicted. `among` must contain every label in `labels`.
    pub fn of(logits: &[f32], labels: &[u32], classes: usize, among: Option<&[u32]>) -> Self {
        let mut tally = Self::default();
        let mut sum = 0.0;
        let all: Vec<u32> = (0..classes as u32).collect();
        let candidates = among.unwrap_or(&all);
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let logit = |class: &u32| row[*class as usize];
            let (rank, loss) = rank_and_loss(candidates.iter().map(logit), logit(&label));
            let predicted = match rank {
                0 => label,
                _ => first_of_largest(candidates, logit),
            };
            *tally.predictions.entry((label, predicted)).or_default() += 1;
            *tally.top5.entry(label).or_default() += usize::from(rank < 5);
            sum += loss;
        }
        tally.losses.push(sum);
        tally
    }

    /// Adds up the shares of a split, where share `s` of `n` has the batches `s`, `n + s`, `2 n + s` and so on.
    ///
    /// A share has `parts` parts for each of its batches; the last batch of the split may have fewer. The losses are
    /// added in image order, so the result has the same bits for any number of shares.
    pub fn of_shares(shares: &[Self], parts: usize) -> Self {
        let mut whole = Self::default();
        for share in shares {
            whole.add_counts(share);
        }
        let mut left: Vec<&[f64]> = shares.iter().map(|share| &share.losses[..]).collect();
        while left.iter().any(|losses| !losses.is_empty()) {
            for losses in &mut left {
                let (batch, later) = losses.split_at(parts.min(losses.len()));
                whole.losses.extend(batch);
                *losses = later;
            }
        }
        whole
    }

    /// Encodes the counts, to send them to other hosts. [`Tally::from_words`] decodes them without rounding.
    pub fn to_words(&self) -> Vec<u64> {
        let mut words = vec![self.losses.len() as u64, self.predictions.len() as u64];
        words.extend(self.losses.iter().map(|loss| loss.to_bits()));
        for (&(label, predicted), &images) in &self.predictions {
            words.extend([u64::from(label), u64::from(predicted), images as u64]);
        }
        for (&label, &images) in &self.top5 {
            words.extend([u64::from(label), images as u64]);
        }
        words
    }

    /// Decodes the words of [`Tally::to_words`].
    pub fn from_words(words: &[u64]) -> Self {
        let (losses, counts) = words[2..].split_at(words[0] as usize);
        let (predictions, top5) = counts.split_at(3 * words[1] as usize);
        Self {
            losses: losses.iter().map(|loss| f64::from_bits(*loss)).collect(),
            predictions: predictions
                .chunks_exact(3)
                .map(|of| ((of[0] as u32, of[1] as u32), of[2] as usize))
                .collect(),
            top5: top5.chunks_exact(2).map(|of| (of[0] as u32, of[1] as usize)).collect(),
        }
    }

    /// Adds the counts of the images that follow.
    pub fn add(&mut self, next: &Self) {
        self.losses.extend(&next.losses);
        self.add_counts(next);
    }

    fn add_counts(&mut self, other: &Self) {
        for (pair, images) in &other.predictions {
            *self.predictions.entry(*pair).or_default() += images;
        }
        for (label, images) in &other.top5 {
            *self.top5.entry(*label).or_default() += images;
        }
    }

    /// Returns the metrics of all images together.
    pub fn metrics(&self) -> Metrics {
        let images: usize = self.predictions.values().sum();
        let correct = self.predictions.iter().filter(|((label, predicted), _)| label == predicted);
        let top1: usize = correct.map(|(_, images)| images).sum();
        let top5: usize = self.top5.values().sum();
        let loss = self.losses.iter().fold(0.0, |sum, loss| sum + loss);
        Counts { loss, top1, top5, images }.metrics()
    }

    /// Returns the results of each class that has images, in label order.
    pub fn by_class(&self) -> Vec<ClassTally> {
        let of_label = |(label, top5): (&u32, &usize)| {
            let of = self.predictions.range((*label, 0)..=(*label, u32::MAX));
            let images: usize = of.clone().map(|(_, images)| images).sum();
            let wrong = of.filter(|((_, predicted), _)| predicted != label);
            let confused = wrong
                .map(|((_, predicted), images)| (*predicted, *images))
                .reduce(|most, next| if next.1 > most.1 { next } else { most });
            let percent = |count: usize| 100.0 * count as f64 / images as f64;
            let correct = self.predictions.get(&(*label, *label)).copied().unwrap_or(0);
            ClassTally {
                label: *label,
                images,
                top1: percent(correct),
                top5: percent(*top5),
                confused,
            }
        };
        self.top5.iter().map(of_label).collect()
    }

    /// Returns the confusion matrix. Entry `[label][predicted]` is the number of such images.
    pub fn confusion(&self, classes: usize) -> Vec<Vec<usize>> {
        let mut matrix = vec![vec![0; classes]; classes];
        for ((label, predicted), images) in &self.predictions {
            matrix[*label as usize][*predicted as usize] = *images;
        }
        matrix
    }
}

/// Returns the candidate with the largest logit, or the first of several such candidates. Ignores NaN.
fn first_of_largest(candidates: &[u32], logit: impl Fn(&u32) -> f32) -> u32 {
    let largest = |best: &u32, next: &u32| logit(next) > logit(best) || logit(best).is_nan();
    let mut candidates = candidates.iter();
    let first = candidates.next().expect("a classifier has classes");
    *candidates.fold(first, |best, next| if largest(best, next) { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::{ClassTally, Tally};

    const LOGITS: [f32; 12] = [3.0, 1.0, 2.0, 0.0, 5.0, 9.0, 1.0, 1.0, 0.0, 7.0, 6.0, 8.0];

    #[test]
    fn classes_are_counted_and_the_most_confused_one_is_named() {
        let mut tally = Tally::of(&LOGITS[..8], &[0, 0], 4, None);
        tally.add(&Tally::of(&LOGITS[8..], &[2], 4, None));
        let metrics = tally.metrics();
        assert_eq!((metrics.images, metrics.top5), (3, 100.0));
        assert!((metrics.top1 - 100.0 / 3.0).abs() < 1e-12);
        let class = |label, images, top1, confused| ClassTally {
            label,
            images,
            top1,
            top5: 100.0,
            confused,
        };
        let expected = [class(0, 2, 50.0, Some((1, 1))), class(2, 1, 0.0, Some((3, 1)))];
        assert_eq!(tally.by_class(), expected);
        assert_eq!(tally.confusion(4)[0], [1, 1, 0, 0]);
        let whole = crate::infer::score(&LOGITS, &[0, 0, 2], 4);
        assert!((whole.loss - metrics.loss).abs() < 1e-12);
        assert_eq!((whole.top1, whole.top5), (metrics.top1, metrics.top5));
    }

    #[test]
    fn shares_have_the_bits_of_the_whole() {
        // 11 parts of one image each, in batches of two parts.
        let part = |image: u32| {
            let logits: Vec<f32> =
                (0..4).map(|class| ((image * 7 + class * 5) % 11) as f32 / 3.0).collect();
            Tally::of(&logits, &[image % 4], 4, None)
        };
        let mut whole = Tally::default();
        (0..11).for_each(|image| whole.add(&part(image)));
        for count in 1..=7 {
            let mut shares = vec![Tally::default(); count as usize];
            (0..11).for_each(|image| shares[(image / 2 % count) as usize].add(&part(image)));
            let added = Tally::of_shares(&shares, 2);
            assert_eq!(added, whole, "{count} shares");
            assert_eq!(added.metrics().loss.to_bits(), whole.metrics().loss.to_bits());
        }
    }

    #[test]
    fn only_the_given_classes_can_be_predicted() {
        let tally = Tally::of(&LOGITS, &[0, 0, 2], 4, Some(&[0, 2]));
        assert_eq!(format!("{:.2}", tally.metrics().top1), "100.00");
        // Softmax over two classes: ln(1 + e^(other - own)).
        let expected: f64 = [-1.0, -4.0, -6.0].iter().map(|d: &f64| d.exp().ln_1p()).sum();
        assert!((tally.metrics().loss - expected / 3.0).abs() < 1e-6);
    }
}
