//! Resolves `from`, the starting weights of fine-tunings and probes: epochs, checkpoint files, or random weights.

use std::path::{Path, PathBuf};

use super::context::{Context, given};
use super::error::Problem;
use super::plan::{PretrainPlan, Source};
use super::resolve::{Missing, MissingFile};
use super::setup::expanded;
use super::values::{FromEntry, OneOrMany};
use super::{near, vars};
use crate::shape::StageKind;

const WORDS: [&str; 3] = ["scratch", "checkpoints", "last"];

/// Returns the starting weights of each job, without duplicates.
///
/// Replaces `setting`, the value of `from`, by the list of these weights.
pub(super) fn from(
    stage: StageKind,
    setting: &mut Option<OneOrMany<FromEntry>>,
    pretrain: Option<&PretrainPlan>,
    cx: &mut Context<'_>,
) -> Vec<Source> {
    let key = format!("{stage}.from");
    let kept = pretrain.map(|pretrain| pretrain.checkpoint_epochs.as_slice());
    let mut sources = Vec::new();
    for entry in given(setting.as_ref()).as_slice() {
        for source in spelled_out(&key, entry, kept, cx) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }
    *setting = Some(OneOrMany::Many(sources.iter().map(entry).collect()));
    sources
}

fn spelled_out(
    key: &str,
    entry: &FromEntry,
    kept: Option<&[usize]>,
    cx: &mut Context<'_>,
) -> Vec<Source> {
    match entry {
        FromEntry::Text(word) if word == "scratch" => vec![Source::Scratch],
        FromEntry::Text(word) if word == "checkpoints" || word == "last" => {
            let kept = kept_or_refuse(key, &format!("\"{word}\""), kept, cx);
            let first = if word == "last" { kept.len().saturating_sub(1) } else { 0 };
            kept[first..].iter().copied().map(Source::Epoch).collect()
        }
        FromEntry::Text(text) => file(key, text, cx).into_iter().collect(),
        FromEntry::Epoch(epoch) => {
            let kept = kept_or_refuse(key, &epoch.to_string(), kept, cx);
            if !kept.is_empty() && !kept.contains(epoch) {
                let why = "is not an epoch with a checkpoint";
                let hint = format!(
                    "use one of the epochs {kept:?}, or add this epoch to `pretrain.checkpoint_epochs`"
                );
                let others = ["pretrain.checkpoint_epochs", "pretrain.epochs"];
                cx.refuse_with(key, &others, epoch, why, hint);
            }
            vec![Source::Epoch(*epoch)]
        }
    }
}

/// Returns the epochs of kept checkpoints. Adds a problem if the recipe has no `[pretrain]`.
fn kept_or_refuse<'a>(
    key: &str,
    found: &str,
    kept: Option<&'a [usize]>,
    cx: &mut Context<'_>,
) -> &'a [usize] {
    let Some(kept) = kept else {
        let why = "needs checkpoints of this run, but the recipe has no `[pretrain]`";
        let hint = format!("add `[pretrain]`, or set `{key}` to \"scratch\" or a checkpoint file");
        cx.refuse_with(key, &["pretrain"], found, why, hint);
        return &[];
    };
    kept
}

/// Returns the path in `pretrain.resume` with each `${VAR}` replaced.
pub(super) fn resume(setting: &mut Option<String>, cx: &mut Context<'_>) -> Option<PathBuf> {
    let text = setting.clone().filter(|text| !text.is_empty());
    let path = text.and_then(|text| match file("pretrain.resume", &text, cx) {
        Some(Source::File(path)) => Some(path),
        _ => None,
    });
    *setting = path.as_ref().map(|path| vars::escape(&path.to_string_lossy()));
    path
}

/// Returns the checkpoint at the path `text`, which is the value of `key`.
///
/// If the path does not exist, adds a warning, a problem, or an entry to `cx.missing`, depending on
/// `missing_data`.
fn file(key: &str, text: &str, cx: &mut Context<'_>) -> Option<Source> {
    let path = expanded(key, text, cx)?;
    if !Path::new(&path).exists() {
        let found = toml::Value::String(text.to_owned());
        let hint = match near::word(&path, WORDS) {
            Some(word) => format!("did you mean `\"{word}\"`?"),
            None if path.parse::<usize>().is_ok() => {
                format!("did you mean the epoch `{path}`, without quotes?")
            }
            None => "check the path, which is relative to the current directory".to_owned(),
        };
        let why = "does not exist";
        match cx.options.missing_data {
            Missing::Warn => {
                let origin = cx.origin(key);
                cx.warnings.push(format!("`{key} = {found}` {why} ({origin}); {hint}"));
            }
            Missing::Refuse => cx.refuse(key, found, why, hint),
            Missing::RefuseIfNeeded => {
                let (found, why) = (found.to_string(), why.to_owned());
                let error = cx.error(key, Problem::Refused { found, why, hint });
                cx.missing.push(MissingFile { path: PathBuf::from(&path), error });
            }
        }
    }
    Some(Source::File(PathBuf::from(path)))
}

fn entry(source: &Source) -> FromEntry {
    match source {
        Source::Scratch => FromEntry::Text("scratch".to_owned()),
        Source::Epoch(epoch) => FromEntry::Epoch(*epoch),
        Source::File(path) => FromEntry::Text(vars::escape(&path.to_string_lossy())),
    }
}
