//! What a reader must not read into a comparison.

use super::text::Shown;
use super::{Comparison, Metric};
use crate::results::seeds::SINGLE_RUN_FLOOR;

pub(super) fn notes(comparison: &Comparison, shown: &Shown, hidden: &[&[usize]]) -> Vec<String> {
    let mut notes: Vec<String> = noise(comparison, shown).into_iter().collect();
    let open = |metric| {
        let mut cells =
            comparison.keys.iter().flat_map(|key| shown.iter().map(move |of| (key, of)));
        cells.any(|(key, (_, group))| comparison.is_open(group, key, metric))
    };
    if open(Metric::Finetune) || open(Metric::Linprobe) {
        notes.push(
            "… its job is not at its end: the figure is that of the last epoch so far.".to_owned(),
        );
    }
    notes.extend(annealed(comparison, shown));
    notes.extend(data(comparison, shown));
    let unknown: Vec<String> = shown
        .iter()
        .filter(|(_, group)| {
            let run = &comparison.runs[group[0]];
            run.recipe.is_none() && !run.published
        })
        .map(|(number, _)| format!("[{number}]"))
        .collect();
    if !unknown.is_empty() {
        notes.push(format!("The recipe of {} is not known.", unknown.join(", ")));
    }
    let rows: usize =
        hidden.iter().flat_map(|g| g.iter()).map(|run| comparison.runs[*run].rows.len()).sum();
    if rows > 0 {
        notes.push(format!("Published figures of other models are not shown: {rows} rows; --csv and --xlsx have them."));
    }
    notes
}

/// The rule by which differences are marked, as far as it was needed.
fn noise(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let (mut seeds, mut single, mut alone) = (false, false, false);
    let (mut widest, mut images) = (0.0_f64, None);
    for metric in [Metric::Finetune, Metric::Linprobe] {
        for key in &comparison.keys {
            for (_, group) in shown {
                let Some(difference) = comparison.against_first(group, key, metric) else {
                    continue;
                };
                let first = comparison.groups[0].as_slice();
                let runs =
                    |of: &[usize]| comparison.measured(of, key, metric).map_or(0, |m| m.runs);
                let (a, b) = (runs(first), runs(group));
                seeds |= a > 1 || b > 1;
                single |= a == 1 || b == 1;
                if a == 1 && b == 1 {
                    alone = true;
                    widest = widest.max(difference.noise);
                    images = comparison.val_images(first).or_else(|| comparison.val_images(group));
                }
            }
        }
    }
    let mut rules = Vec::new();
    if seeds {
        rules.push(
            "within 2 sqrt(s1²/n1 + s2²/n2), s the spread (±) over n seeds, or within the standard error of the validation images"
                .to_owned(),
        );
    }
    if seeds && single {
        rules.push("a single run is taken to spread as the seeds beside it".to_owned());
    }
    if single {
        rules.push(format!(
            "single runs within {SINGLE_RUN_FLOOR} points (ViT-B on ImageNet varies by 0.05-0.08 between seeds, small data by whole points)"
        ));
    }
    if let Some(images) = images.filter(|_| alone && widest > SINGLE_RUN_FLOOR) {
        rules.push(format!(
            "or within the standard error of {images} validation images, sqrt(p (1 - p) / {images}), here up to {widest:.2}"
        ));
    }
    (!rules.is_empty()).then(|| format!("~ inside the noise, not a result: {}.", rules.join("; ")))
}

/// Epochs that were reached in the middle of one schedule and at the end of another.
fn annealed(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let there = |epoch: usize, annealed: bool| {
        let mut runs = shown.iter().flat_map(|(_, group)| group.iter());
        let key =
            |key: &super::SettingKey| key.epoch == Some(epoch) && key.annealed == Some(annealed);
        runs.any(|run| comparison.runs[*run].rows.iter().any(|row| key(&row.key)))
    };
    let mut epochs: Vec<usize> = comparison.keys.iter().filter_map(|key| key.epoch).collect();
    epochs.dedup();
    let both = epochs.into_iter().filter(|epoch| there(*epoch, false) && there(*epoch, true));
    let both: Vec<String> = both.map(|epoch| epoch.to_string()).collect();
    (!both.is_empty()).then(|| {
        format!(
            "At {} there are checkpoints from the middle of a longer schedule (annealed 0) and of one that ended there (1): \
             never compare the two.",
            both.join(", ")
        )
    })
}

/// Runs on different data.
fn data(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let fingerprint = |group: &[usize]| comparison.runs[group[0]].data_fingerprint.as_deref();
    let first = shown.iter().find_map(|(_, group)| fingerprint(group))?;
    let others = shown.iter().filter(|(_, group)| fingerprint(group).is_some_and(|f| f != first));
    let others: Vec<String> = others.map(|(number, _)| format!("[{number}]")).collect();
    (!others.is_empty()).then(|| {
        format!(
            "{} saw other data than the first run (fingerprints in provenance.json).",
            others.join(", ")
        )
    })
}
