//! Groups of runs over seeds, different settings, and row keys of the result tables.

use super::run::{Run, SettingKey};
use crate::recipe::{self, Recipe};
use crate::results::seeds::{self, Identity};

/// A setting that differs between the compared runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub(super) key: String,
    /// One value per run; `None` if unknown.
    pub(super) values: Vec<Option<String>>,
}

/// Groups the runs that differ only in their seed. Each group is a list of indices into `runs`.
pub(super) fn over_seeds(runs: &[Run]) -> Vec<Vec<usize>> {
    let identity = |run: &Run| match &run.recipe {
        Some(recipe) => Some(Identity::of(recipe)),
        // A run from a table. Its settings are the columns before the results.
        None if run.setting("seed").is_some() => {
            let place = ("in".to_owned(), run.place.clone());
            Some(Identity::new([run.settings.clone(), vec![place]].concat()))
        }
        None => None,
    };
    seeds::over_seeds(&runs.iter().map(identity).collect::<Vec<_>>())
}

/// Returns the settings that differ between the runs.
pub(super) fn settings(runs: &[Run]) -> Vec<Setting> {
    let recipes: Vec<&Recipe> = runs.iter().filter_map(|run| run.recipe.as_ref()).collect();
    let plain = |text: &str| text.trim_matches('"').to_owned();
    let mut settings = Vec::new();
    for (key, values) in recipe::differing(&recipes) {
        let mut values = values.iter().map(|value| plain(value));
        let values = runs.iter().map(|run| match run.recipe {
            Some(_) => values.next(),
            None => run.setting(&key).map(plain),
        });
        settings.push(Setting { values: values.collect(), key: key.clone() });
    }
    // Settings that appear only in tables.
    for (key, _) in runs.iter().filter(|run| run.recipe.is_none()).flat_map(|run| &run.settings) {
        let values: Vec<_> = runs.iter().map(|run| run.setting(key).map(plain)).collect();
        let mut known = values.iter().flatten();
        let first = known.next();
        if settings.iter().all(|s| s.key != *key) && known.any(|value| Some(value) != first) {
            settings.push(Setting { key: key.clone(), values });
        }
    }
    let swept = |key: &str| runs.iter().find_map(|run| run.swept.iter().position(|k| k == key));
    settings.sort_by_key(|setting| swept(&setting.key).unwrap_or(usize::MAX));
    settings
}

pub(super) fn keys(runs: &[Run]) -> Vec<SettingKey> {
    let mut keys: Vec<SettingKey> =
        runs.iter().flat_map(|run| &run.rows).map(|row| row.key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys
}
