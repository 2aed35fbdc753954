//! Resolves the starting weights of all stages: epochs, checkpoint files, or random weights.

use std::path::{Path, PathBuf};

use super::context::{Context, given};
use super::error::Problem;
use super::resolve::{Missing, MissingFile};
use super::setup::expanded;
use super::stage_plan::{PretrainPlan, PretrainStart, Source};
use super::stages::Pretrain;
use super::values::{FromEntry, OneOrMany};
use super::{near, vars};
use crate::shape::StageKind;

/// Special words that `finetune.from` and `linprobe.from` accept.
const WORDS: [&str; 4] = ["scratch", "start", "checkpoints", "last"];

/// Converts the value of `from` to starting weights, one for each job, without duplicates.
///
/// Writes the converted list back to `setting`.
pub(super) fn from(
    stage: StageKind,
    setting: &mut Option<OneOrMany<FromEntry>>,
    pretrain: Option<&PretrainPlan>,
    cx: &mut Context<'_>,
) -> Vec<Source> {
    let key = format!("{stage}.from");
    let mut sources = Vec::new();
    for entry in given(setting.as_ref()).as_slice() {
        for source in spelled_out(&key, entry, pretrain, cx) {
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
    pretrain: Option<&PretrainPlan>,
    cx: &mut Context<'_>,
) -> Vec<Source> {
    let kept = pretrain.map(|pretrain| pretrain.checkpoint_epochs.as_slice());
    match entry {
        FromEntry::Text(word) if word == "scratch" => vec![Source::Scratch],
        FromEntry::Text(word) if word == "start" => {
            let start = pretrain.map(|pretrain| &pretrain.start);
            if let Some(PretrainStart::Weights(path)) = start {
                return vec![Source::Start(path.clone())];
            }
            // A faulty `pretrain.from` is already reported.
            let why = "means the weights of `pretrain.from`, but `pretrain.from` is not set";
            let hint = format!(
                "set `pretrain.from` to a checkpoint file, or set `{key}` to \"scratch\" for random weights"
            );
            cx.refuse_with(key, &["pretrain.from"], "\"start\"", why, hint);
            Vec::new()
        }
        FromEntry::Text(word) if word == "checkpoints" || word == "last" => {
            let kept = kept_or_refuse(key, &format!("\"{word}\""), kept, cx);
            let first = if word == "last" { kept.len().saturating_sub(1) } else { 0 };
            kept[first..].iter().copied().map(Source::Epoch).collect()
        }
        FromEntry::Text(text) => {
            file(key, text, &WORDS, cx).into_iter().map(Source::File).collect()
        }
        FromEntry::Epoch(epoch) => {
            let kept = kept_or_refuse(key, &epoch.to_string(), kept, cx);
            if !kept.is_empty() && !kept.contains(epoch) {
                let why = "is an epoch without a checkpoint";
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

/// Returns the epochs with checkpoints. Adds a problem if the recipe has no `[pretrain]`.
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

/// Returns the starting state of pre-training. Adds a problem if both `from` and `resume` are set.
///
/// Replaces `${VAR}` in both paths in `table`.
pub(super) fn start(table: &mut Pretrain, cx: &mut Context<'_>) -> PretrainStart {
    let mut path = |key: &str, setting: &mut Option<String>| {
        let text = setting.take().filter(|text| !text.is_empty());
        let path = text.and_then(|text| file(key, &text, &[], cx));
        *setting = path.as_ref().map(|path| vars::escape(&path.to_string_lossy()));
        path
    };
    let from = path("pretrain.from", &mut table.from);
    let resume = path("pretrain.resume", &mut table.resume);
    match (from, resume) {
        (None, None) => PretrainStart::Random,
        (Some(from), None) => PretrainStart::Weights(from),
        (None, Some(resume)) => PretrainStart::Resume(resume),
        (Some(from), Some(resume)) => {
            let hint = "remove one of the two keys. `from` starts a new pre-training. `resume` continues the schedule of the checkpoint";
            cx.conflict(
                ("pretrain.from", format!("{:?}", from.display())),
                "cannot be combined with",
                ("pretrain.resume", format!("{:?}", resume.display())),
                hint,
            );
            PretrainStart::Weights(from)
        }
    }
}

/// Returns the checkpoint path `text` with `${VAR}` replaced.
///
/// If the path does not exist, does what [`Missing`] describes. `words` are the special words of `key`, for hints.
fn file(key: &str, text: &str, words: &[&'static str], cx: &mut Context<'_>) -> Option<PathBuf> {
    let path = expanded(key, text, cx)?;
    if !Path::new(&path).exists() {
        let found = toml::Value::String(text.to_owned());
        let hint = match near::word(&path, words.iter().copied()) {
            Some(word) => format!("did you mean `\"{word}\"`?"),
            None if path.parse::<usize>().is_ok() && !words.is_empty() => {
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
    Some(PathBuf::from(path))
}

fn entry(source: &Source) -> FromEntry {
    match source {
        Source::Scratch => FromEntry::Text("scratch".to_owned()),
        Source::Start(_) => FromEntry::Text("start".to_owned()),
        Source::Epoch(epoch) => FromEntry::Epoch(*epoch),
        Source::File(path) => FromEntry::Text(vars::escape(&path.to_string_lossy())),
    }
}
