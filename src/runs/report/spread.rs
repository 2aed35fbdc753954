//! Runs that differ in nothing but their seed, taken together: means, spreads, and what lies inside the noise.

use crate::runs::Results;

/// Mean and spread of the same figure over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) mean: f64,
    /// Standard deviation of a sample; `None` of a single run.
    pub(super) sd: Option<f64>,
    pub(super) runs: usize,
}

/// The mean and the spread; nothing of no values.
pub(super) fn spread(values: &[f64]) -> Option<Spread> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let sd = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
    (!values.is_empty()).then_some(Spread { mean, sd, runs: values.len() })
}

/// Whether the difference of two means is less than twice its own standard error; `None` where a spread is not known.
pub(super) fn inside_the_noise(a: Spread, b: Spread) -> Option<bool> {
    let variance_of_mean = |s: Spread| Some(s.sd?.powi(2) / s.runs as f64);
    let error = (variance_of_mean(a)? + variance_of_mean(b)?).sqrt();
    Some((a.mean - b.mean).abs() < 2.0 * error)
}

/// The points of a sweep with the same values of every swept key but `seed`.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// The swept keys but `seed`, and this group's values.
    pub(super) values: Vec<(String, String)>,
    pub(super) runs: Vec<&'a Results>,
}

impl Group<'_> {
    /// `mask_ratio 0.5, blr 0.001`.
    pub(super) fn label(&self) -> String {
        let parts = self.values.iter().map(|(key, value)| format!("{} {value}", short(key)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// A dotted key without its table.
pub(super) fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The swept keys and values of a point, as its recipe keeps them.
pub(super) fn swept(results: &Results) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let of = |(key, values): (&String, &serde_json::Value)| {
        (key.clone(), text(values.get(0).unwrap_or(values)))
    };
    results.recipe.sweep.iter().flatten().map(of).collect()
}

/// The points in groups, smaller values first; a run without a sweep is a group of its own.
pub(super) fn groups(points: &[Results]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in points {
        let mut values = swept(run);
        values.retain(|(key, _)| key != "seed");
        match groups.iter_mut().find(|group| group.values == values) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { values, runs: vec![run] }),
        }
    }
    groups.sort_by(|a, b| {
        let pairs = a.values.iter().zip(&b.values);
        pairs
            .map(|(a, b)| by_size(&a.1, &b.1))
            .find(|o| o.is_ne())
            .unwrap_or(a.values.len().cmp(&b.values.len()))
    });
    groups
}

/// Numbers by size, before words by the alphabet.
pub(super) fn by_size(a: &str, b: &str) -> std::cmp::Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        (Ok(_), Err(_)) => std::cmp::Ordering::Less,
        (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::groups;
    use super::inside_the_noise;
    use super::spread;
    use crate::recipe::Recipe;
    use crate::runs::Results;

    fn point(mask_ratio: f64, seed: u64) -> Results {
        let recipe: Recipe = toml::from_str(&format!(
            "name = \"s\"\n[sweep]\n\"pretrain.mask_ratio\" = [{mask_ratio:?}]\nseed = [{seed}]\n"
        ))
        .unwrap();
        Results {
            path: "s".into(),
            name: "s".to_owned(),
            recipe,
            provenance: None,
            swept: Vec::new(),
            accuracy: Vec::new(),
            jobs: Vec::new(),
        }
    }

    #[test]
    fn points_that_differ_in_their_seed_alone_are_one_group() {
        let points = [point(0.75, 0), point(0.5, 10), point(0.75, 1), point(0.5, 2)];
        let groups = groups(&points);
        let labels: Vec<_> = groups.iter().map(super::Group::label).collect();
        assert_eq!(labels, ["mask_ratio 0.5", "mask_ratio 0.75"]);
        assert!(groups.iter().all(|group| group.runs.len() == 2));
    }

    #[test]
    fn the_spread_is_a_samples() {
        let three = spread(&[96.0, 97.0, 98.0]).unwrap();
        assert_eq!((three.mean, three.sd, three.runs), (97.0, Some(1.0), 3));
        assert_eq!(spread(&[5.0]).unwrap().sd, None);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_difference_counts_only_beyond_its_error() {
        let a = spread(&[96.0, 97.0, 98.0]).unwrap();
        let near = spread(&[97.0, 98.0, 99.0]).unwrap();
        let far = spread(&[86.0, 87.0, 88.0]).unwrap();
        assert_eq!(inside_the_noise(a, near), Some(true));
        assert_eq!(inside_the_noise(a, far), Some(false));
        assert_eq!(inside_the_noise(a, spread(&[97.0]).unwrap()), None, "one run has no spread");
    }
}
