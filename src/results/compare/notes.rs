//! The notes below a comparison, which explain marks and warn of wrong conclusions.

use super::comparison::{Comparison, Shown};
use super::run::{ComparisonRow, Metric, SettingKey};
use crate::results::seeds::SINGLE_RUN_FLOOR;
use std::fmt::Write as _;

/// Returns the notes below the tables, one paragraph per note.
pub(super) fn notes(comparison: &Comparison, shown: &Shown, hidden: &[&[usize]]) -> Vec<String> {
    let mut notes: Vec<String> = noise(comparison, shown).into_iter().collect();
    let open = |metric| {
        let mut cells =
            comparison.keys.iter().flat_map(|key| shown.iter().map(move |of| (key, of)));
        cells.any(|(key, (_, group))| comparison.is_open(group, key, metric))
    };
    if open(Metric::Finetune) || open(Metric::Linprobe) {
        notes.push("… the job has not finished, so the value is from the latest epoch.".to_owned());
    }
    notes.extend(annealed(comparison, shown));
    notes.extend(data(comparison, shown));
    notes.extend(skipped(comparison, shown));
    let unknown: Vec<String> = shown
        .iter()
        .filter(|(_, group)| {
            let run = &comparison.runs[group[0]];
            run.recipe.is_none() && !run.published
        })
        .map(|(number, _)| format!("[{number}]"))
        .collect();
    if !unknown.is_empty() {
        notes.push(format!(
            "The recipe of {} is unknown, so settings that differ may be missing above.",
            unknown.join(", ")
        ));
    }
    for (number, group) in shown {
        let remarks = group.iter().flat_map(|run| &comparison.runs[*run].remarks);
        let remarks: Vec<&str> = remarks.map(String::as_str).collect();
        if !remarks.is_empty() {
            notes.push(format!("[{number}]: {}.", remarks.join("; ")));
        }
    }
    let rows: usize =
        hidden.iter().flat_map(|g| g.iter()).map(|run| comparison.runs[*run].rows.len()).sum();
    if rows > 0 {
        notes.push(format!("This comparison leaves out published results of other models ({rows} rows). `--csv` and \
                            `--xlsx` write these rows, too."));
    }
    notes
}

/// Explains the mark `~`, which shows that a difference may be chance.
fn noise(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let (mut seeds, mut single, mut images) = (false, false, None);
    let (mut widest_of_seeds, mut widest_of_two) = (0.0_f64, 0.0_f64);
    for metric in comparison.accuracies() {
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
                    widest_of_two = widest_of_two.max(difference.noise);
                    images = comparison.val_images(first).or_else(|| comparison.val_images(group));
                } else {
                    widest_of_seeds = widest_of_seeds.max(difference.noise);
                }
            }
        }
    }
    if !(seeds || single) {
        return None;
    }
    let mut text = "~ the difference is within the noise, so it may be chance.".to_owned();
    if let Some(images) = images.filter(|_| widest_of_two > SINGLE_RUN_FLOOR) {
        let _ = write!(
            text,
            " For two single runs, the noise is two standard errors on {images} validation images: 2 sqrt(p1 (1 - \
             p1)/{images} + p2 (1 - p2)/{images}). Here the noise is up to {widest_of_two:.2} points."
        );
    }
    if seeds {
        let _ = write!(
            text,
            " For means over several seeds, the noise is the larger of two values. The first is two standard errors over \
             the seeds: 2 sqrt(s1²/n1 + s2²/n2), with n seeds and the standard deviation s (±). The second is two \
             standard errors on the validation images. Here the noise is up to {widest_of_seeds:.2} points."
        );
    }
    if seeds && single {
        text.push_str(" mae assumes that a single run has the same standard deviation as the runs with several seeds.");
    }
    if single {
        let _ = write!(
            text,
            " For a single run, the noise is at least {SINGLE_RUN_FLOOR} points: ViT-B on ImageNet varies by 0.05 to \
             0.08 points between seeds. Results on small data vary by whole points."
        );
    }
    Some(text)
}

/// Warns if a checkpoint from mid-schedule is compared with one from the end of a schedule.
fn annealed(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let there = |epoch: usize, annealed: bool| {
        let mut runs = shown.iter().flat_map(|(_, group)| group.iter());
        let key = |key: &SettingKey| key.epoch == Some(epoch) && key.annealed == Some(annealed);
        runs.any(|run| comparison.runs[*run].rows.iter().any(|row| key(&row.key)))
    };
    let mut epochs: Vec<usize> = comparison.keys.iter().filter_map(|key| key.epoch).collect();
    epochs.dedup();
    let both = epochs.into_iter().filter(|epoch| there(*epoch, false) && there(*epoch, true));
    let both: Vec<String> = both.map(|epoch| epoch.to_string()).collect();
    (!both.is_empty()).then(|| {
        format!(
            "Pre-training epoch {}: some checkpoints are from the middle of a longer schedule (annealed 0). Others are from the end \
             of a schedule (annealed 1). Do not compare the two kinds of checkpoints.",
            both.join(", ")
        )
    })
}

/// Warns if the compared runs used different data.
fn data(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let fingerprint = |group: &[usize]| comparison.runs[group[0]].data_fingerprint.as_deref();
    let (one, first) = shown.iter().find_map(|(one, group)| Some((one, fingerprint(group)?)))?;
    let others = shown.iter().filter(|(_, group)| fingerprint(group).is_some_and(|f| f != first));
    let others: Vec<String> = others.map(|(number, _)| format!("[{number}]")).collect();
    (!others.is_empty()).then(|| {
        format!(
            "{} used different data from [{one}] (`data_fingerprint` in `provenance.json`), so the accuracies may not \
             be comparable.",
            others.join(", ")
        )
    })
}

/// Warns if the runs left out different numbers of unreadable validation images.
fn skipped(comparison: &Comparison, shown: &Shown) -> Option<String> {
    let runs = shown.iter().flat_map(|(number, group)| group.iter().map(move |run| (number, run)));
    let counts = runs.filter_map(|(number, run)| {
        let run = &comparison.runs[*run];
        let is_own = !run.published && run.rows.iter().any(ComparisonRow::has_accuracy);
        is_own.then(|| (number, run.val_skipped()))
    });
    let mut counts: Vec<_> = counts.collect();
    counts.dedup();
    if counts.iter().all(|(_, images)| *images == counts[0].1) {
        return None;
    }
    let counts = counts.iter().map(|(number, images)| format!("[{number}] {images}"));
    Some(format!(
        "The runs left out different numbers of unreadable validation images (`val_skipped`): {}. Their accuracies are \
         not from the same images, so they may not be comparable.",
        counts.collect::<Vec<_>>().join(", ")
    ))
}
