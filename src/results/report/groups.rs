//! The swept recipe keys, and groups of runs that differ only in their seed.

use crate::results::Results;
use crate::results::seeds::{Identity, over_seeds};

/// Runs of a sweep that differ only in their seed.
#[derive(Debug)]
pub(super) struct RunGroup<'a> {
    /// Swept recipe keys and their values, without `seed`.
    pub(super) values: Vec<(String, String)>,
    pub(super) runs: Vec<&'a Results>,
}

impl RunGroup<'_> {
    /// Returns a label such as `mask_ratio 0.5, blr 0.001`.
    pub(super) fn label(&self) -> String {
        let parts = self.values.iter().map(|(key, value)| format!("{} {value}", short(key)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the last part of a dotted key: `blr` for `pretrain.blr`.
pub(super) fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Returns the swept recipe keys of a run with their values.
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

/// Groups the runs that differ only in their seed. Sorts the groups by swept values.
pub(super) fn groups(points: &[Results]) -> Vec<RunGroup<'_>> {
    let identities: Vec<_> = points.iter().map(|run| Some(Identity::of(&run.recipe))).collect();
    let group = |members: Vec<usize>| {
        let runs: Vec<&Results> = members.into_iter().map(|index| &points[index]).collect();
        let mut values = swept(runs[0]);
        values.retain(|(key, _)| key != "seed");
        RunGroup { values, runs }
    };
    let mut groups: Vec<RunGroup<'_>> = over_seeds(&identities).into_iter().map(group).collect();
    groups.sort_by(|a, b| {
        let pairs = a.values.iter().zip(&b.values);
        pairs
            .map(|(a, b)| by_size(&a.1, &b.1))
            .find(|o| o.is_ne())
            .unwrap_or(a.values.len().cmp(&b.values.len()))
    });
    groups
}

/// Compares by value if both texts are numbers. Numbers come before words.
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
    use crate::recipe::Recipe;
    use crate::results::Results;

    fn point(mask_ratio: f64, seed: u64) -> Results {
        let recipe: Recipe = toml::from_str(&format!(
            "name = \"s\"\nseed = {seed}\n[pretrain]\nmask_ratio = {mask_ratio:?}\n[sweep]\n\"pretrain.mask_ratio\" = [{mask_ratio:?}]\nseed = [{seed}]\n"
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
    fn points_that_differ_only_in_their_seed_form_a_group() {
        let points = [point(0.75, 0), point(0.5, 10), point(0.75, 1), point(0.5, 2)];
        let groups = groups(&points);
        let labels: Vec<_> = groups.iter().map(super::RunGroup::label).collect();
        assert_eq!(labels, ["mask_ratio 0.5", "mask_ratio 0.75"]);
        assert!(groups.iter().all(|group| group.runs.len() == 2));
    }
}
