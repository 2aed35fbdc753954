//! The head of the HTML report: title, settings and progress of the run.

use super::beside::model;
use super::groups::{by_size, short, swept};
use super::input::Report;
use super::text::{count, duration, escape, thousands, utc};
use crate::durable;
use crate::recipe::Recipe;
use crate::results::Results;
use crate::shape::{MaskKind, StageKind};
use std::fmt::Write as _;

pub(super) fn head(report: &Report<'_>) -> String {
    let mut html = format!("<header><h1>{}</h1>\n", escape(&report.name));
    let _ = writeln!(html, "<p>{}</p>", escape(&what(report)));
    match report.points {
        [run] if !report.is_sweep => {
            let _ = writeln!(html, "<p>{}</p>", state(run));
        }
        points => html.push_str(&sweep_state(report, points)),
    }
    html.push_str("</header>\n");
    html
}

/// Describes model, data, pre-training, device and swept values in one line.
fn what(report: &Report<'_>) -> String {
    let first = &report.points[0];
    let recipe = &first.recipe;
    let swept: Vec<String> = swept(first).into_iter().map(|(key, _)| key).collect();
    let mut parts = vec![model_in_words(recipe), data_in_words(recipe)];
    if let Some(pretrain) = &recipe.pretrain {
        let fixed = |key: &str| !swept.iter().any(|swept| swept == key);
        if let Some(epochs) = pretrain.epochs.filter(|_| fixed("pretrain.epochs")) {
            parts.push(format!("{} of pre-training", count(epochs, "epoch")));
        }
        if let Some(ratio) = pretrain.mask_ratio.filter(|_| fixed("pretrain.mask_ratio")) {
            parts.push(format!("mask ratio {ratio}"));
        }
        if let Some(mask) = pretrain.mask.filter(|mask| *mask != MaskKind::Random) {
            parts.push(format!("{mask} masks"));
        }
    }
    if let Some(provenance) = report.points.iter().find_map(|run| run.provenance.as_ref()) {
        let times = if provenance.devices > 1 {
            format!("{} × ", provenance.devices)
        } else {
            String::new()
        };
        parts.push(format!("{times}{}, {}", provenance.device, provenance.precision));
    }
    let mut text = parts.join(" · ");
    for key in &swept {
        let mut values: Vec<String> = Vec::new();
        let of_key = |run| self::swept(run).into_iter().find(|(k, _)| k == key);
        for (_, value) in report.points.iter().filter_map(of_key) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values.sort_by(|a, b| by_size(a, b));
        let _ = write!(text, " · swept: {key} = {}", values.join(", "));
    }
    text
}

fn model_in_words(recipe: &Recipe) -> String {
    let of = &recipe.model;
    match (model(recipe), of.depth, of.embed_dim, of.patch_size) {
        (Some(name), ..) => name,
        (None, Some(depth), Some(width), Some(patch)) => {
            format!("ViT with {depth} blocks, width {width}, patch size {patch}")
        }
        _ => "ViT".to_owned(),
    }
}

fn data_in_words(recipe: &Recipe) -> String {
    let data = &recipe.data;
    let format = data.format.and_then(|format| serde_json::to_value(format).ok());
    let mut text = format.and_then(|f| f.as_str().map(str::to_owned)).unwrap_or_default();
    if let Some(path) = data.path.as_ref().filter(|path| !path.is_empty()) {
        let _ = write!(text, " {path}");
    }
    if let Some(images) = data.train_images {
        let _ = write!(text, ", {} training images", thousands(images));
    }
    if let Some(size) = data.input_size {
        let _ = write!(text, " at {}×{}", size.height, size.width);
    }
    text
}

/// Returns the progress of a run as HTML.
fn state(run: &Results) -> String {
    let (class, word) = badge(run);
    let mut text = format!("<span class=\"badge {class}\">{word}</span> ");
    let jobs = jobs(run);
    let Some(provenance) = &run.provenance else { return text };
    let _ = write!(text, "started {}", utc(provenance.started_unix_s));
    if let Some(end) = provenance.finished_unix_s {
        let took = duration(end.saturating_sub(provenance.started_unix_s));
        let _ = write!(text, ", finished {} ({took} after the last start)", utc(end));
        return text;
    }
    let done = jobs.iter().filter(|job| job.done()).count();
    let _ = write!(text, ", {done} of {} done", count(jobs.len(), "job"));
    for job in jobs.iter().filter(|job| job.epoch > 0 && !job.done()) {
        let _ = write!(text, "; {}: epoch {} of {}", escape(&job.dir), job.epoch, job.epochs);
    }
    text
}

fn badge(run: &Results) -> (&'static str, &'static str) {
    match run.provenance.as_ref().map(|provenance| provenance.finished_unix_s) {
        None => ("open", "not started"),
        Some(Some(_)) => ("done", "done"),
        Some(None) if durable::is_held(&run.path) => ("open", "running"),
        Some(None) => ("open", "stopped early"),
    }
}

fn sweep_state(report: &Report<'_>, points: &[Results]) -> String {
    let done = points.iter().filter(|run| badge(run).1 == "done").count();
    let all = points.len() + report.not_begun;
    let starts = points.iter().filter_map(|run| run.provenance.as_ref());
    let start = starts.map(|provenance| provenance.started_unix_s).min();
    let class = if done == all { "done" } else { "open" };
    let mut html = format!(
        "<p><span class=\"badge {class}\">{done} of {} done</span>{}</p>\n",
        count(all, "point"),
        start.map_or_else(String::new, |start| format!(" started {}", utc(start)))
    );
    let open: Vec<_> = points.iter().filter(|run| badge(run).1 != "done").collect();
    if open.is_empty() && report.not_begun == 0 {
        return html;
    }
    html.push_str("<ul class=\"open\">");
    for run in open {
        let _ = write!(html, "<li><b>{}</b>: {}</li>", escape(&point_name(run)), state(run));
    }
    if report.not_begun > 0 {
        let _ = write!(html, "<li>{} not started</li>", count(report.not_begun, "point"));
    }
    html.push_str("</ul>\n");
    html
}

/// Returns the swept values of a run, such as `mask_ratio 0.5, seed 2`.
pub(super) fn point_name(run: &Results) -> String {
    let parts = swept(run).into_iter().map(|(key, value)| format!("{} {value}", short(&key)));
    parts.collect::<Vec<_>>().join(", ")
}

pub(super) struct JobState {
    pub(super) dir: String,
    pub(super) epoch: usize,
    pub(super) epochs: usize,
}

impl JobState {
    pub(super) fn done(&self) -> bool {
        self.epoch >= self.epochs
    }
}

/// Returns the progress of all jobs, including jobs that have not started.
pub(super) fn jobs(run: &Results) -> Vec<JobState> {
    let recipe = &run.recipe;
    let of = |stage: StageKind, dir: &str| JobState {
        dir: dir.to_owned(),
        epoch: run
            .jobs
            .iter()
            .find(|job| job.dir == dir)
            .and_then(|job| job.epochs.last())
            .map_or(0, |row| row.epoch),
        epochs: run.epochs(stage).unwrap_or(0),
    };
    let pretrain = recipe.pretrain.iter().map(|_| (StageKind::Pretrain, "pretrain"));
    let finetunes = run.accuracy.iter().map(|row| (StageKind::Finetune, row.finetune.run.as_str()));
    let probes = run.accuracy.iter().map(|row| (StageKind::Linprobe, row.linprobe.run.as_str()));
    let all = pretrain.chain(finetunes).chain(probes).filter(|(_, dir)| !dir.is_empty());
    all.map(|(stage, dir)| of(stage, dir)).collect()
}
