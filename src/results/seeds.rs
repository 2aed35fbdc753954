//! Groups of runs over seeds: mean, standard deviation, and differences that may be chance.

use crate::recipe::{self, Recipe};

/// For a single run, the noise is at least this many points of top-1.
pub(super) const SINGLE_RUN_FLOOR: f64 = 0.2;

/// The settings of a run, with the seed separate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Key and value of every setting except `seed`.
    pub(super) settings: Vec<(String, String)>,
    pub(super) seed: String,
}

impl Identity {
    pub(super) fn of(recipe: &Recipe) -> Self {
        Self::new(recipe::settings(recipe))
    }

    pub(super) fn new(mut settings: Vec<(String, String)>) -> Self {
        let place = settings.iter().position(|(key, _)| key == "seed");
        let seed = place.map_or_else(String::new, |place| settings.remove(place).1);
        Self { settings, seed }
    }
}

/// Groups the runs that differ only in their seed. Each group is a list of indices into `runs`.
///
/// Runs with the same seed are in different groups. A run without an identity forms its own group.
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

/// Mean and standard deviation of a metric over several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) mean: f64,
    /// The sample standard deviation; `None` for a single run.
    pub(super) spread: Option<f64>,
    pub(super) runs: usize,
}

impl Measured {
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

/// Returns the largest difference between two means that chance may cause, in percentage points.
///
/// This is the largest of three values:
///
/// - `2 sqrt(s1² / n1 + s2² / n2)`: two standard errors over seeds. `s` is the standard deviation, `n` the number of
///   runs. A single run uses the standard deviation of the other mean.
/// - `200 sqrt(p1 (1 - p1) / (n1 val_images) + p2 (1 - p2) / (n2 val_images))`: two standard errors over validation
///   images. `p` is the accuracy as a fraction. This value is 0 if `val_images` is `None`.
/// - [`SINGLE_RUN_FLOOR`], if `a` or `b` is a single run.
pub(super) fn noise(a: &Measured, b: &Measured, val_images: Option<usize>) -> f64 {
    let variance = |of: &Measured, other: &Measured| {
        of.spread.or(other.spread).unwrap_or(0.0).powi(2) / of.runs as f64
    };
    let over_seeds = 2.0 * (variance(a, b) + variance(b, a)).sqrt();
    let binomial = |of: &Measured| {
        let p = (of.mean / 100.0).clamp(0.0, 1.0);
        let images = val_images.map_or(f64::INFINITY, |images| images.max(1) as f64);
        p * (1.0 - p) / images / of.runs as f64
    };
    let on_images = 100.0 * 2.0 * (binomial(a) + binomial(b)).sqrt();
    let noise = over_seeds.max(on_images);
    if a.runs > 1 && b.runs > 1 { noise } else { noise.max(SINGLE_RUN_FLOOR) }
}

/// Returns whether a difference is at most `noise`, apart from rounding errors.
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
        // Four seeds of ViT-B with the official code. The official page states 0.08: it divides by n, not n - 1.
        let official = Measured::of(&[83.63, 83.66, 83.52, 83.46]).unwrap();
        assert!((official.mean - 83.5675).abs() < 1e-9 && official.runs == 4);
        assert!((official.spread.unwrap() - 0.0936).abs() < 1e-4);
        assert_eq!(Measured::of(&[1.0]).unwrap().spread, None);
        assert_eq!(Measured::of(&[]), None);
    }

    #[test]
    fn a_difference_of_two_single_runs_below_a_fifth_of_a_point_is_noise() {
        let noise = |images| noise(&single(83.6), &single(83.4), images);
        assert!((noise(None) - 0.2).abs() < 1e-12);
        assert!(is_inside(83.6 - 83.4, noise(None)) && !is_inside(0.21, noise(None)));
        assert!((noise(Some(50_000)) - 0.4695).abs() < 1e-4, "{}", noise(Some(50_000)));
    }

    #[test]
    fn few_validation_images_raise_the_limit() {
        let points = noise(&single(95.0), &single(90.0), Some(360));
        assert!((points - 200.0 * ((0.0475_f64 + 0.09) / 360.0).sqrt()).abs() < 1e-9, "{points}");
        // On the 360 digits a single run must be more than six points better.
        let points = noise(&single(74.72), &single(79.17), Some(360));
        assert!(is_inside(4.45, points) && !is_inside(6.3, points), "{points}");
    }

    #[test]
    fn the_spread_over_seeds_sets_the_limit() {
        let seeds = |mean, spread, runs| Measured { mean, spread: Some(spread), runs };
        let both = noise(&seeds(90.0, 0.3, 3), &seeds(90.2, 0.4, 4), Some(50_000));
        assert!((both - 2.0 * (0.09_f64 / 3.0 + 0.16 / 4.0).sqrt()).abs() < 1e-12);
        // With few images, the limit stays high even if the seeds agree by chance.
        let lucky = noise(&seeds(90.0, 0.0, 2), &seeds(90.0, 0.0, 2), Some(360));
        assert!((lucky - 200.0 * (2.0 * 0.09_f64 / 720.0).sqrt()).abs() < 1e-9, "{lucky}");
        // A single run is assumed to vary as much as the other side.
        let one = noise(&seeds(90.0, 3.0, 3), &single(92.0), None);
        assert!((one - 2.0 * (9.0_f64 / 3.0 + 9.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn runs_that_differ_only_in_their_seed_form_a_group() {
        let run = |ratio: &str, seed: &str| {
            let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            Some(Identity::new(vec![setting("seed", seed), setting("mask_ratio", ratio)]))
        };
        let runs =
            [run("0.5", "0"), run("0.75", "0"), None, run("0.5", "1"), run("0.5", "0"), None];
        let expected: [&[usize]; 5] = [&[0, 3], &[1], &[2], &[4], &[5]];
        assert_eq!(over_seeds(&runs), expected, "runs with the same seed are in different groups");
    }
}
