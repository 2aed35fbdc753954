//! Runs that differ in nothing but their seed: their mean, their spread, and what counts as a difference.

use crate::recipe::{self, Recipe};

/// Points of top-1 below which two single runs do not differ: ViT-B's fine-tunings on ImageNet spread by 0.05 to 0.08
/// between seeds (the official code's four; two standard deviations of a difference of two runs are 2 sqrt(2) times that).
pub(super) const SINGLE_RUN_FLOOR: f64 = 0.2;

/// What a run is besides its seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// (key, value) of every setting but `seed`.
    pub(super) settings: Vec<(String, String)>,
    pub(super) seed: String,
}

impl Identity {
    pub(super) fn of(recipe: &Recipe) -> Self {
        Self::new(recipe::settings(recipe))
    }

    /// Takes `seed` out of the settings; it is empty where they have none.
    pub(super) fn new(mut settings: Vec<(String, String)>) -> Self {
        let place = settings.iter().position(|(key, _)| key == "seed");
        let seed = place.map_or_else(String::new, |place| settings.remove(place).1);
        Self { settings, seed }
    }
}

/// Gives the runs that differ only in their seed together, as indices, in the order of their first ones.
///
/// A run whose identity is not known stays alone; so does a second run of the same seed: something else is behind it.
pub(super) fn over_seeds(runs: &[Option<Identity>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let fits = |group: &&mut Vec<usize>| {
            let mut members = group.iter().filter_map(|member| runs[*member].as_ref());
            run.as_ref().is_some_and(|run| {
                members.clone().next().is_some_and(|first| first.settings == run.settings)
                    && members.all(|member| member.seed != run.seed)
            })
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// What several runs of one recipe measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) mean: f64,
    /// The sample standard deviation; `None` of a single run.
    pub(super) spread: Option<f64>,
    pub(super) runs: usize,
}

impl Measured {
    /// `None` without a value.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        if runs == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let spread = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
        Some(Self { mean, spread, runs })
    }
}

/// The points of accuracy up to which two measurements do not differ. The one rule of every comparison:
///
/// - two standard errors of the difference, `2 sqrt(s1² / n1 + s2² / n2)`; a single run, whose spread is not known, is
///   taken to spread as the other side does;
/// - at least the binomial standard error `sqrt(p (1 - p) / val_images / n)` where that number of images is known: on few
///   images accuracies are that coarse, and seeds may agree by luck;
/// - where a side is a single run, at least [`SINGLE_RUN_FLOOR`].
pub(super) fn noise(a: &Measured, b: &Measured, val_images: Option<usize>) -> f64 {
    let variance = |of: &Measured, other: &Measured| {
        of.spread.or(other.spread).unwrap_or(0.0).powi(2) / of.runs as f64
    };
    let errors = 2.0 * (variance(a, b) + variance(b, a)).sqrt();
    let binomial = |of: &Measured| {
        let p = (of.mean / 100.0).clamp(0.0, 1.0);
        let images = val_images.map_or(f64::INFINITY, |images| images.max(1) as f64);
        100.0 * (p * (1.0 - p) / images / of.runs as f64).sqrt()
    };
    let coarse = errors.max(binomial(a)).max(binomial(b));
    if a.runs > 1 && b.runs > 1 { coarse } else { coarse.max(SINGLE_RUN_FLOOR) }
}

/// Whether a difference is inside the noise; tables have two decimals, so that much rounding is forgiven.
pub(super) fn is_inside(difference: f64, noise: f64) -> bool {
    difference.abs() <= noise + 1e-9
}

#[cfg(test)]
mod tests {
    use super::{Identity, Measured, is_inside, noise, over_seeds};

    fn single(mean: f64) -> Measured {
        Measured { mean, spread: None, runs: 1 }
    }

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        // The official code's four seeds of ViT-B, whose page says 0.08 (over n).
        let official = Measured::of(&[83.63, 83.66, 83.52, 83.46]).unwrap();
        assert!((official.mean - 83.5675).abs() < 1e-9 && official.runs == 4);
        assert!((official.spread.unwrap() - 0.0936).abs() < 1e-4);
        assert_eq!(Measured::of(&[1.0]).unwrap().spread, None);
        assert_eq!(Measured::of(&[]), None);
    }

    #[test]
    fn two_single_runs_on_imagenet_need_more_than_a_fifth_of_a_point() {
        let noise = |images| noise(&single(83.6), &single(83.4), images);
        assert!((noise(None) - 0.2).abs() < 1e-12 && (noise(Some(50_000)) - 0.2).abs() < 1e-12);
        assert!(is_inside(83.6 - 83.4, noise(None)) && !is_inside(0.21, noise(None)));
    }

    #[test]
    fn few_validation_images_raise_the_floor() {
        let points = noise(&single(95.0), &single(90.0), Some(360));
        assert!((points - 100.0 * (0.09_f64 / 360.0).sqrt()).abs() < 1e-9, "{points}");
    }

    #[test]
    fn spreads_over_seeds_decide_where_there_are_some() {
        let seeds = |mean, spread, runs| Measured { mean, spread: Some(spread), runs };
        let both = noise(&seeds(90.0, 0.3, 3), &seeds(90.2, 0.4, 4), Some(50_000));
        assert!((both - 2.0 * (0.09_f64 / 3.0 + 0.16 / 4.0).sqrt()).abs() < 1e-12);
        // Seeds that agree by luck are as coarse as their images.
        let lucky = noise(&seeds(90.0, 0.0, 2), &seeds(90.0, 0.0, 2), Some(360));
        assert!((lucky - 100.0 * (0.09_f64 / 720.0).sqrt()).abs() < 1e-9, "{lucky}");
        // A single run spreads as the seeds beside it.
        let one = noise(&seeds(90.0, 3.0, 3), &single(92.0), None);
        assert!((one - 2.0 * (9.0_f64 / 3.0 + 9.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn only_runs_that_differ_in_their_seed_are_together() {
        let run = |ratio: &str, seed: &str| {
            let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            Some(Identity::new(vec![setting("seed", seed), setting("mask_ratio", ratio)]))
        };
        let runs =
            [run("0.5", "0"), run("0.75", "0"), None, run("0.5", "1"), run("0.5", "0"), None];
        let expected: [&[usize]; 5] = [&[0, 3], &[1], &[2], &[4], &[5]];
        assert_eq!(over_seeds(&runs), expected, "the same seed twice is not two seeds");
    }
}
