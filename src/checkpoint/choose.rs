//! Chooses one of several networks in a checkpoint file. Explains why a file has no usable network.

use super::CheckpointError;
use super::candidate::Candidate;
use super::networks;
use std::fmt::Write as _;
use std::path::Path;

/// Words in the prefix of averaged weights (EMA).
const AVERAGED: [&str; 8] =
    ["ema", "swa", "averaged", "average", "avg", "momentum", "shadow", "target"];
/// Maximum number of tensor names that a message lists.
const LISTED: usize = 5;

/// Chooses the network to use. Also returns notes about ignored networks.
///
/// Without `prefix`, ignores unsupported networks. Also ignores averaged weights if there are other weights. Fails if
/// no network or several networks remain.
pub(super) fn choose(
    mut candidates: Vec<Candidate>,
    prefix: Option<&str>,
    path: &Path,
) -> Result<(Candidate, Vec<String>), CheckpointError> {
    if let Some(prefix) = prefix {
        return with_prefix(candidates, prefix, path).map(|chosen| (chosen, Vec::new()));
    }
    let mut notes = Vec::new();
    let is_plain = |candidate: &Candidate| !is_averaged(&candidate.prefix);
    if candidates.iter().any(is_plain) && !candidates.iter().all(is_plain) {
        let (plain, averaged): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_plain);
        candidates = plain;
        let names: Vec<String> = averaged.iter().map(shown_prefix).collect();
        notes.push(format!(
            "mae ignores the averaged weights (EMA) {}. To use these weights, pass `--prefix`, or set `prefix` in the recipe",
            names.join(" and ")
        ));
    }
    let (mut fitting, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.facts.is_ok());
    // A file may contain a network twice, for example a compiled module and the original module.
    fitting.dedup_by(|a, b| a.file.tensors == b.file.tensors);
    match fitting.len() {
        1 => {
            for other in &others {
                let problem = other.facts.as_ref().err().map_or("", String::as_str);
                notes.push(format!("mae ignores the network {}: {problem}", shown_prefix(other)));
            }
            Ok((fitting.remove(0), notes))
        }
        0 => {
            let nearest = others.into_iter().max_by_key(|other| other.file.tensors.len());
            let nearest = nearest.expect("a file without networks has its own error");
            Err(unsupported(path, &nearest))
        }
        _ => Err(ambiguous(path, &fitting)),
    }
}

fn is_averaged(prefix: &str) -> bool {
    // `encoder_k` is the momentum encoder of MoCo.
    prefix.split('.').any(|part| part == "encoder_k")
        || prefix.split(|c: char| !c.is_alphanumeric()).any(|word| AVERAGED.contains(&word))
}

/// Describes the prefix of a network for a message: ``under `model.` `` or `without a prefix`.
fn shown_prefix(candidate: &Candidate) -> String {
    match candidate.prefix.as_str() {
        "" => "without a prefix".to_owned(),
        prefix => format!("under `{prefix}`"),
    }
}

fn with_prefix(
    candidates: Vec<Candidate>,
    prefix: &str,
    path: &Path,
) -> Result<Candidate, CheckpointError> {
    let wanted = prefix.trim_end_matches('.');
    let bare = |candidate: &Candidate| candidate.prefix.trim_end_matches('.').to_owned();
    let is_inside = |candidate: &&Candidate| candidate.prefix.starts_with(&format!("{wanted}."));
    let exact = candidates.iter().find(|candidate| bare(candidate) == wanted);
    let mut inside = candidates.iter().filter(is_inside);
    let chosen = match (exact, inside.next(), inside.next()) {
        (Some(exact), _, _) => Some(exact.prefix.clone()),
        (None, Some(only), None) => Some(only.prefix.clone()),
        _ => None,
    };
    let Some(chosen) = chosen else {
        let listed: Vec<String> =
            candidates.iter().map(|candidate| format!("`{}`", bare(candidate))).collect();
        return Err(CheckpointError::Unsupported {
            path: path.to_owned(),
            problem: match candidates.iter().filter(is_inside).count() {
                0 => format!("no network has the prefix `{prefix}`"),
                n => format!("{n} networks have the prefix `{prefix}`, but mae can load only one"),
            },
            hint: format!("use one of these prefixes: {}", listed.join(", ")),
        });
    };
    let found = candidates.into_iter().find(|candidate| candidate.prefix == chosen);
    let found = found.expect("the prefix is that of a candidate");
    if found.facts.is_err() { Err(unsupported(path, &found)) } else { Ok(found) }
}

fn ambiguous(path: &Path, fitting: &[Candidate]) -> CheckpointError {
    let lines: Vec<String> = fitting
        .iter()
        .map(|candidate| {
            let what = candidate.facts.as_ref().map(super::Facts::summary).unwrap_or_default();
            format!("\n  `{}`: {what}", candidate.prefix.trim_end_matches('.'))
        })
        .collect();
    let example = fitting[0].prefix.trim_end_matches('.');
    CheckpointError::Unsupported {
        path: path.to_owned(),
        problem: format!(
            "the file contains {} networks with these prefixes:{}",
            lines.len(),
            lines.concat()
        ),
        hint: format!(
            "choose a network, for example with `--prefix \"{example}\"`. In a recipe, set `finetune.prefix`, \
             `linprobe.prefix` or `pretrain.prefix`"
        ),
    }
}

/// Returns the error for a network that this program does not support.
fn unsupported(path: &Path, candidate: &Candidate) -> CheckpointError {
    let problem = candidate.facts.as_ref().err().map_or("", String::as_str);
    let place = match candidate.prefix.as_str() {
        "" => String::new(),
        prefix => format!(" (prefix of the network: `{prefix}`)"),
    };
    CheckpointError::Unsupported {
        path: path.to_owned(),
        problem: format!("{problem}{place}"),
        hint: way_out(path, problem).to_owned(),
    }
}

/// Returns the hint for a file that this program cannot use because of `problem`.
fn way_out(path: &Path, problem: &str) -> &'static str {
    if is_one_of_several(path) {
        "pass the checkpoint's folder or its `.index.json` file: this file is only a part of the checkpoint"
    } else if problem.contains("NaN") {
        "use an earlier checkpoint of the same training"
    } else {
        "use a checkpoint of a plain Vision Transformer: MAE, DeiT, or `vit_*_patch*` of timm, torchvision or Hugging Face"
    }
}

/// Returns whether the file is one of several, such as `model-00001-of-00003.safetensors`.
fn is_one_of_several(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once("-of-").is_some_and(|(before, after)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number(after) && before.rsplit('-').next().is_some_and(is_number)
    })
}

/// Returns the error for a file without a Vision Transformer.
///
/// The error names the library whose tensor names match best.
pub(super) fn no_network(path: &Path, names: &[String], first_keys: &[String]) -> CheckpointError {
    let unsupported = |problem: String, hint: &str| CheckpointError::Unsupported {
        path: path.to_owned(),
        problem,
        hint: hint.to_owned(),
    };
    if names.is_empty() {
        let keys = match first_keys {
            [] => String::new(),
            keys => format!("; its first keys are {}", keys.join(", ")),
        };
        return unsupported(
            format!("the file contains no named tensors{keys}"),
            "save the weights of the network with `torch.save(model.state_dict(), FILE)`",
        );
    }
    let listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    let mut problem = format!(
        "mae does not support this network. The first of its {} tensors are {}",
        names.len(),
        listed.join(", ")
    );
    if let Some((dialect, prefix, count)) = networks::nearest(names) {
        let place =
            if prefix.is_empty() { String::new() } else { format!(" under the prefix `{prefix}`") };
        let missing = dialect.anchor().join(".");
        let _ = write!(
            problem,
            ". The most similar names are those of {}{place}: {count} names match, but `{missing}` is missing",
            dialect.label()
        );
        let parts = super::parts::list(names.iter().map(String::as_str));
        if !parts.is_empty() {
            let _ = write!(problem, ". Unsupported parts of the network: {parts}");
        }
    }
    let hint = way_out(path, &problem);
    unsupported(problem, hint)
}
