//! Formats a comparison for the terminal: runs, different settings, results and notes.

use super::comparison::{Comparison, Shown};
use super::grid::{self, Cell, Column, shortened};
use super::notes::notes;
use super::run::{Metric, Run, SettingKey};
use crate::recipe::{KNN_COLUMN, ModelSize, Recipe};
use crate::results::accuracy::measure_name;

/// Up to this number of groups of runs, a table has one column per group.
const SIDE_BY_SIDE: usize = 4;
/// Maximum width of all result columns together, in characters.
const HEADINGS: usize = 94;
const LABEL: usize = 60;
const VALUE: usize = 28;

pub(super) fn text(comparison: &Comparison) -> String {
    let all: Vec<(usize, &[usize])> =
        comparison.groups.iter().enumerate().map(|(i, group)| (i + 1, group.as_slice())).collect();
    let models = models(comparison);
    let (shown, hidden): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, group)| {
        let run = &comparison.runs[group[0]];
        let model = run.origin.as_ref().map_or("", |origin| &origin.model);
        let other = models.as_ref().is_some_and(|models| !models.contains(&model));
        !(run.published && !model.is_empty() && other)
    });
    // Number the groups again, without gaps.
    let shown: Vec<_> = shown.iter().enumerate().map(|(i, (_, group))| (i + 1, *group)).collect();
    let mut parts = vec![legend(comparison, &shown), settings(comparison, &shown)];
    for metric in comparison.accuracies().into_iter().chain([Metric::PretrainLoss]) {
        parts.extend(results(comparison, &shown, metric));
    }
    if parts.len() == 2 {
        parts.push(vec!["There are no results yet.".to_owned()]);
    }
    let hidden: Vec<&[usize]> = hidden.iter().map(|(_, group)| *group).collect();
    let notes = notes(comparison, &shown, &hidden);
    parts.push(notes.iter().flat_map(|note| grid::wrapped(note)).collect());
    let parts = parts.iter().filter(|part| !part.is_empty()).map(|part| part.join("\n"));
    parts.collect::<Vec<_>>().join("\n\n")
}

/// Returns the model sizes of the runs; `None` if a run has no recipe.
fn models(comparison: &Comparison) -> Option<Vec<&'static str>> {
    let runs = comparison.runs.iter().filter(|run| !run.published);
    let recipes: Option<Vec<&Recipe>> = runs.map(|run| run.recipe.as_ref()).collect();
    Some(recipes?.into_iter().filter_map(|recipe| ModelSize::named(&recipe.model)).collect())
}

fn legend(comparison: &Comparison, shown: &Shown) -> Vec<String> {
    let cells = |cell: &dyn Fn(usize, &[usize]) -> String| -> Vec<String> {
        shown.iter().map(|(number, group)| cell(*number, group)).collect()
    };
    let mut columns = vec![
        cells(&|number, _| format!("[{number}]")),
        cells(&|_, group| shortened(&label(comparison, group), LABEL)),
        cells(&|_, group| state(comparison, group)),
    ];
    let width =
        |cells: &Vec<String>| cells.iter().map(|cell| grid::length(cell)).max().unwrap_or(0) + 2;
    columns.retain(|cells| width(cells) > 2);
    let left = grid::WIDTH.saturating_sub(2 + columns.iter().map(width).sum::<usize>());
    columns.push(cells(&|_, group| shortened(place(comparison, group), left.max(20))));
    let column = |cells: &Vec<String>| Column {
        head: Vec::new(),
        cells: cells.iter().map(|cell| Cell::text(cell)).collect(),
    };
    let mut lines = vec!["runs".to_owned()];
    lines.extend(grid::lines(&columns.iter().map(column).collect::<Vec<_>>(), 0));
    lines
}

/// Returns a label for runs that differ only in their seed.
///
/// The label `vit-b +2` means the run `vit-b` and two more runs.
pub(super) fn label(comparison: &Comparison, group: &[usize]) -> String {
    let labels: Vec<String> = group
        .iter()
        .map(|run| comparison.runs[*run].label.clone())
        .map(|label| if group.len() > 1 { without_seed(&label) } else { label })
        .collect();
    if labels.iter().all(|label| *label == labels[0]) {
        labels[0].clone()
    } else {
        format!("{} +{}", labels[0], labels.len() - 1)
    }
}

fn without_seed(label: &str) -> String {
    let (folder, point) = label.rsplit_once('/').unwrap_or(("", label));
    let parts: Vec<&str> = point.split(',').filter(|part| !part.starts_with("seed=")).collect();
    let parts = [folder, &parts.join(",")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn state(comparison: &Comparison, group: &[usize]) -> String {
    let runs: Vec<&Run> = group.iter().map(|run| &comparison.runs[*run]).collect();
    let unfinished = runs.iter().filter(|run| run.unfinished).count();
    let seeds = format!("seeds {}", seeds(&runs));
    match (group.len(), unfinished) {
        (1, 0) => String::new(),
        (1, _) => "not finished".to_owned(),
        (_, 0) => seeds,
        (_, _) => format!("{seeds}; {unfinished} not finished"),
    }
}

pub(super) fn seeds(runs: &[&Run]) -> String {
    let seeds: Vec<&str> = runs.iter().filter_map(|run| run.setting("seed")).collect();
    seeds.join(" ")
}

fn place<'a>(comparison: &'a Comparison, group: &[usize]) -> &'a str {
    let run = &comparison.runs[group[0]];
    let source = run.rows.first().map_or("", |row| row.source.as_str());
    match () {
        () if !source.is_empty() => source,
        () if group.len() > 1 || run.place == run.label => "",
        () => &run.place,
    }
}

/// Returns column headings such as `[1] vit-b`. Leaves out the labels if one is too long.
fn heads(comparison: &Comparison, shown: &Shown, most: usize) -> Vec<String> {
    let labels: Vec<String> = shown.iter().map(|(_, group)| label(comparison, group)).collect();
    let fits = labels.iter().all(|label| grid::length(label) + 4 <= most);
    let head = |((number, _), label): (&(usize, &[usize]), &String)| {
        if fits { format!("[{number}] {label}") } else { format!("[{number}]") }
    };
    shown.iter().zip(&labels).map(head).collect()
}

fn settings(comparison: &Comparison, shown: &Shown) -> Vec<String> {
    let shown: Vec<_> =
        shown.iter().copied().filter(|(_, group)| !comparison.runs[group[0]].published).collect();
    let rows = comparison.settings.iter().filter_map(|setting| {
        let values: Vec<String> =
            shown.iter().map(|(_, group)| value(&setting.values, group)).collect();
        let differs = values.iter().any(|value| *value != values[0]);
        differs.then(|| (setting.key.clone(), values))
    });
    let rows: Vec<(String, Vec<String>)> = rows.collect();
    let known =
        shown.iter().filter(|(_, group)| comparison.runs[group[0]].recipe.is_some()).count();
    if rows.is_empty() {
        return match known {
            0 | 1 => Vec::new(),
            n if n == shown.len() => vec!["The recipes do not differ.".to_owned()],
            n => vec![format!("The {n} known recipes do not differ.")],
        };
    }
    let cell = |text: &str| Cell::text(&shortened(text, VALUE));
    let mut lines = vec!["settings that differ".to_owned()];
    if shown.len() <= SIDE_BY_SIDE {
        let keys = rows.iter().map(|(key, _)| Cell::text(key)).collect();
        let mut columns = vec![Column { head: vec![String::new()], cells: keys }];
        for (index, head) in
            heads(comparison, &shown, HEADINGS / shown.len() - 2).into_iter().enumerate()
        {
            let cells = rows.iter().map(|(_, values)| cell(&values[index])).collect();
            columns.push(Column { head: vec![head], cells });
        }
        lines.extend(grid::lines(&columns, 1));
    } else {
        let runs = heads(comparison, &shown, LABEL).iter().map(|head| Cell::text(head)).collect();
        let mut columns = vec![Column { head: vec![String::new()], cells: runs }];
        columns.extend(rows.iter().map(|(key, values)| Column {
            head: vec![key.clone()],
            cells: values.iter().map(|value| cell(value)).collect(),
        }));
        lines.extend(grid::lines(&columns, 1));
    }
    lines
}

/// Returns the different values of a setting in `group`, separated by spaces.
fn value(values: &[Option<String>], group: &[usize]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for run in group {
        let value = values[*run].as_deref().unwrap_or("?");
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct.join(" ")
}

/// Returns the lines of a metric's table; `None` if there is nothing to show.
fn results(comparison: &Comparison, shown: &Shown, metric: Metric) -> Option<Vec<String>> {
    let loss = metric == Metric::PretrainLoss;
    if loss && !shown.iter().any(|(_, group)| has_loss_alone(comparison, group)) {
        return None;
    }
    let has = |key: &SettingKey, group: &[usize]| comparison.measured(group, key, metric).is_some();
    let any = |key: &&SettingKey| shown.iter().any(|(_, group)| has(key, group));
    let keys: Vec<&SettingKey> = comparison.keys.iter().filter(any).collect();
    if keys.is_empty() {
        return None;
    }
    let shown: Vec<_> = shown
        .iter()
        .copied()
        .filter(|(_, g)| keys.iter().any(|key| has(key, g)) || !loss)
        .collect();
    let title = match metric {
        Metric::Finetune => {
            "fine-tuning: top-1 accuracy in %, difference to run [1] in points".to_owned()
        }
        Metric::Linprobe => {
            "linear probe: top-1 accuracy in %, difference to run [1] in points".to_owned()
        }
        Metric::PretrainLoss => "pre-training: loss, difference to run [1]".to_owned(),
        Metric::Measure(index) => {
            let column = &comparison.measures[index];
            let name =
                if column == KNN_COLUMN { "k nearest neighbours" } else { measure_name(column) };
            format!("{name}: top-1 accuracy in %, difference to run [1] in points")
        }
    };
    let cell = |group: &[usize], key: &SettingKey| cell(comparison, group, key, metric);
    let annealed =
        |key: &SettingKey| key.annealed.map_or("", |yes| if yes { "1" } else { "0" }).to_owned();
    let mut columns = Vec::new();
    let lead = if shown.len() <= SIDE_BY_SIDE {
        let lead = |head: &str, text: &dyn Fn(&SettingKey) -> String| Column {
            head: vec![head.to_owned()],
            cells: keys.iter().map(|key| Cell::number(&text(key))).collect(),
        };
        columns.push(lead("pretrain_epoch", &epoch));
        columns.push(lead("annealed", &annealed));
        let heads = heads(comparison, &shown, HEADINGS / shown.len() - 2);
        columns.extend(heads.into_iter().zip(&shown).map(|(head, (_, group))| Column {
            head: vec![head],
            cells: keys.iter().map(|key| cell(group, key)).collect(),
        }));
        2
    } else {
        columns.push(Column {
            head: vec!["pretrain_epoch".to_owned(), "annealed".to_owned()],
            cells: heads(comparison, &shown, LABEL).iter().map(|head| Cell::text(head)).collect(),
        });
        columns.extend(keys.iter().map(|key| Column {
            head: vec![epoch(key), annealed(key)],
            cells: shown.iter().map(|(_, group)| cell(group, key)).collect(),
        }));
        1
    };
    let mut lines = vec![title];
    lines.extend(grid::lines(&columns, lead));
    Some(lines)
}

fn has_loss_alone(comparison: &Comparison, group: &[usize]) -> bool {
    let rows = || group.iter().flat_map(|run| &comparison.runs[*run].rows);
    rows().any(|row| row.loss.is_some())
        && rows().all(|row| row.finetune.is_none() && row.linprobe.is_none())
}

fn epoch(key: &SettingKey) -> String {
    match (key.epoch, key.file.as_str()) {
        (Some(epoch), _) => epoch.to_string(),
        (None, "") => "?".to_owned(),
        (None, file) => file.to_owned(),
    }
}

/// Returns a cell, for example the number `97.50` and the text `±0.28 (3) … +0.42 ~`.
///
/// The text has the standard deviation, the number of runs, and the difference from the baseline. `…` marks an
/// unfinished job. `~` marks a difference that may be chance.
fn cell(comparison: &Comparison, group: &[usize], key: &SettingKey, metric: Metric) -> Cell {
    let Some(measured) = comparison.measured(group, key, metric) else { return Cell::default() };
    let digits = if metric == Metric::PretrainLoss { 5 } else { 2 };
    let mut text = Vec::new();
    if let Some(spread) = measured.spread {
        text.push(format!("±{spread:.digits$} ({})", measured.runs));
    }
    if comparison.is_open(group, key, metric) {
        text.push("…".to_owned());
    }
    if let Some(difference) = comparison.against_first(group, key, metric) {
        // Adding 0 turns "-0.00" into "+0.00".
        let scale = 10_f64.powi(digits as i32);
        let points = (difference.points * scale).round() / scale + 0.0;
        text.push(format!("{points:+.digits$}"));
        if metric != Metric::PretrainLoss && difference.is_inside_noise() {
            text.push("~".to_owned());
        }
    }
    Cell { number: format!("{:.digits$}", measured.mean), text: text.join(" ") }
}
