//! Measures classifiers on test sets other than the validation split.

use super::inference::{EvalImages, evaluate};
use crate::checkpoint::Opened;
use crate::data::{
    CORRUPTIONS, EvalTransform, SEVERITIES, TestImages, imagenet1k_names, open_test_set,
};
use crate::infer::{Metrics, StopFlag, Tally};
use crate::recipe::{Plan, TestClasses, TestSet};
use crate::train::{ChosenDevice, Hosts, TrainError};
use std::sync::Arc;

/// Number of classes in ImageNet-A and in ImageNet-R. Their benchmarks ignore the logits of all other classes.
const SUBSET: usize = 200;

/// A test set, and the labels of the classes that may be predicted; `None` for all classes.
pub type OpenedSet = (TestImages, Option<Arc<[u32]>>);

/// The results of a classifier on a test set. Accuracies and errors are in %.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// Loss and accuracies. For ImageNet-C, these are means over all corruptions and severities.
    pub metrics: Metrics,
    /// Number of classes in the test set.
    pub classes: usize,
    /// Whether only the classes in the test set may be predicted.
    pub is_restricted: bool,
    /// For each corruption of ImageNet-C, the mean error over all severities; empty for other test sets.
    pub corruptions: Vec<(&'static str, f64)>,
}

impl TestResult {
    /// Returns the mean corruption error of ImageNet-C: the mean of each corruption's error divided by `AlexNet`'s
    /// error.
    ///
    /// Returns `None` for other test sets.
    pub fn mce(&self) -> Option<f64> {
        if self.corruptions.is_empty() {
            return None;
        }
        let alexnet = CORRUPTIONS.iter().map(|(_, error)| error);
        let relative: f64 =
            self.corruptions.iter().zip(alexnet).map(|((_, error), alexnet)| error / alexnet).sum();
        Some(relative / CORRUPTIONS.len() as f64)
    }
}

/// Opens a test set. `names` are the checkpoint's class names in label order.
pub fn open_set(
    set: &TestSet,
    plan: &Plan,
    names: &[String],
    classes: TestClasses,
) -> Result<OpenedSet, TrainError> {
    let images = open_test_set(&set.path, &plan.data, names)?;
    let is_part = images.classes.len() < names.len();
    let is_restricted = is_part
        && match classes {
            TestClasses::Auto => images.classes.len() == SUBSET && names == imagenet1k_names(),
            TestClasses::Present => true,
            TestClasses::All => false,
        };
    let among = is_restricted.then(|| images.classes.clone().into());
    Ok((images, among))
}

/// Measures a classifier on a test set from [`open_set`], on the devices of all hosts. Returns `None` if the user stops
/// the command.
pub fn measure_set(
    opened: Arc<Opened>,
    plan: &Plan,
    (images, among): &OpenedSet,
    place: (&ChosenDevice, &Hosts),
    stop: &StopFlag,
) -> Result<Option<TestResult>, TrainError> {
    let sets = images.parts.iter().map(|part| EvalImages {
        split: Arc::clone(&part.split),
        transform: match part.corruption {
            Some(_) => EvalTransform::uncropped(&plan.data),
            None => EvalTransform::new(&plan.data),
        },
        among: among.clone(),
    });
    let Some(tallies) = evaluate(opened, plan, sets.collect(), place, stop)? else {
        return Ok(None);
    };
    let parts: Vec<Metrics> = tallies.iter().map(Tally::metrics).collect();
    let mean =
        |value: fn(&Metrics) -> f64| parts.iter().map(value).sum::<f64>() / parts.len() as f64;
    let corruptions = images.parts.chunks(SEVERITIES).zip(parts.chunks(SEVERITIES));
    let corruptions = corruptions.filter_map(|(images, parts)| {
        let error = parts.iter().map(|part| 100.0 - part.top1).sum::<f64>() / parts.len() as f64;
        Some((images[0].corruption?, error))
    });
    Ok(Some(TestResult {
        metrics: Metrics {
            loss: mean(|part| part.loss),
            top1: mean(|part| part.top1),
            top5: mean(|part| part.top5),
            images: parts.iter().map(|part| part.images).sum(),
        },
        classes: images.classes.len(),
        is_restricted: among.is_some(),
        corruptions: corruptions.collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::TestResult;
    use crate::data::CORRUPTIONS;
    use crate::infer::Metrics;

    #[test]
    fn alexnet_has_a_mean_corruption_error_of_100() {
        let metrics = Metrics { loss: 0.0, top1: 0.0, top5: 0.0, images: 0 };
        let corruptions = CORRUPTIONS.map(|(name, error)| (name, 100.0 * error)).to_vec();
        let result = TestResult { metrics, classes: 1000, is_restricted: false, corruptions };
        assert!((result.mce().unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(TestResult { corruptions: Vec::new(), ..result }.mce(), None);
    }
}
