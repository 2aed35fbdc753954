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

/// Number of classes in ImageNet-A and in ImageNet-R. Predictions of other classes are not allowed.
const SUBSET: usize = 200;

/// The images of a test set, and the labels that a classifier may predict (`None` for all labels).
pub type OpenedSet = (TestImages, Option<Arc<[u32]>>);

/// The results of a classifier on one test set. Accuracies and errors are in %.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// Loss and accuracies. For ImageNet-C, means over all corruptions and severities.
    pub metrics: Metrics,
    /// Number of classes in the test set.
    pub classes: usize,
    /// Whether the classifier may predict only classes of the test set.
    pub is_restricted: bool,
    /// Error of each ImageNet-C corruption, averaged over severities. Empty for other test sets.
    pub corruptions: Vec<(&'static str, f64)>,
}

impl TestResult {
    /// Returns the mean corruption error (mCE) of ImageNet-C; `None` for other test sets.
    ///
    /// The error of each corruption is divided by the error of `AlexNet`. The mCE is the mean over all corruptions.
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

/// Opens a test set. `names` are the class names of the checkpoint, in label order.
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
