//! `mae eval`: measures a checkpoint on the validation split, on other test sets, or by nearest neighbours.

mod neighbours;
mod per_class;
mod test_sets;

use super::checkpoint_args::{Ready, ready};
use super::signals::stop_on_signals;
use super::{CliError, launcher, output};
use crate::checkpoint::{Needs, Opened};
use crate::data::{self, DataSet, Labels};
use crate::infer::{self, Metrics, StopFlag};
use crate::recipe::{self, BadVal, Format};
use crate::run::{self, EvalImages};
use crate::text::{csv_rows, one_line};
use crate::train::{ChosenDevice, Hosts};
use crate::{durable, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Measure a classifier on the validation split: top-1, top-5, loss
#[derive(clap::Args)]
pub(super) struct Args {
    /// Fine-tuned or probed checkpoint: a folder such as `runs/NAME/finetune/from-0160/checkpoints/epoch-0010`, a
    /// Hugging Face folder, or a `.pth`, `.pd` or `.safetensors` file. With --knn, any checkpoint
    checkpoint: PathBuf,
    /// Recipe whose `[data]` names the validation images; by default the recipe that trained the checkpoint
    #[arg(long, value_name = "RECIPE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    test_sets: test_sets::Args,
    #[command(flatten)]
    neighbours: neighbours::Args,
    /// Write a CSV table with the results and the most frequent wrong prediction of each class
    #[arg(long, value_name = "F.csv", conflicts_with_all = ["test", "knn"])]
    per_class: Option<PathBuf>,
    /// Prefix of the network's tensor names, if the checkpoint contains several networks
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `data.path=/data/imagenet`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let hosts = launcher::connect()?;
    output::start_log_of(&hosts);
    let ended = run_on(args, &hosts);
    // Host 0 reports for all hosts. If another host exited with an error, the launcher might end host 0 too early.
    if hosts.is_first() { ended } else { Ok(()) }
}

fn run_on(args: &Args, hosts: &Hosts) -> Result<(), CliError> {
    let ready = launcher::all_ready(hosts, prepare(args, hosts))?;
    check_same(hosts, &ready)?;
    let stop = StopFlag::default();
    if !args.test_sets.is_empty() {
        return test_sets::run(args, ready, &stop, hosts);
    }
    if args.neighbours.knn.is_some() {
        return neighbours::run(args, ready, &stop, hosts);
    }
    on_validation(args, ready, &stop, hosts)
}

/// Fails on all hosts if they do not evaluate the same checkpoint in the same way.
fn check_same(hosts: &Hosts, ready: &Ready) -> Result<(), CliError> {
    if hosts.count() == 1 {
        // The hash of a large checkpoint takes seconds.
        return Ok(());
    }
    launcher::check_same(
        hosts,
        &[
            ("version of mae", run::build_name()),
            ("command line", format!("{:?}", std::env::args_os().skip(1).collect::<Vec<_>>())),
            ("recipe", format!("{:?}", ready.plan)),
            ("checkpoint", content_hash(&ready.opened)),
        ],
    )
}

/// Opens the checkpoint, and resolves the recipe for the devices of this host.
fn prepare(args: &Args, hosts: &Hosts) -> Result<Ready, CliError> {
    let mut ready = ready(
        &args.checkpoint,
        args.data.as_deref(),
        args.prefix.as_deref(),
        &args.set,
        Needs::Heads,
    )?;
    let plan = &mut ready.plan;
    if !args.set.iter().any(|set| recipe::set_key(set) == "runtime.devices") {
        // The machine that trained the checkpoint may have had more GPUs.
        let there = train::count_gpus(plan.runtime.device).max(1);
        plan.runtime.devices = fewest(hosts, plan.runtime.devices.min(there))?;
    }
    if args.test_sets.is_empty()
        && ready.opened.meta.is_none()
        && args.data.is_none()
        && ready.plan.data.format == Format::Synthetic
    {
        return Err(CliError::Usage(format!(
            "cannot evaluate {}: the checkpoint does not name its training data\n\
             hint: pass the data with `--data RECIPE`, or with `--set data.format=... --set data.path=...`",
            args.checkpoint.display()
        )));
    }
    Ok(ready)
}

/// Returns the smallest number of devices that a host has.
fn fewest(hosts: &Hosts, own: usize) -> Result<usize, CliError> {
    let all = hosts.exchange((own as u64).to_le_bytes().to_vec())?;
    let counts = all.iter().map(|count| count.as_slice().try_into().map_or(0, u64::from_le_bytes));
    Ok(counts.min().map_or(own, |fewest| fewest.max(1) as usize))
}

/// Returns a hash of the tensors of a checkpoint.
fn content_hash(opened: &Opened) -> String {
    let tensors = opened.file.tensors.iter();
    let hashes = tensors.map(|(name, tensor)| {
        let bytes: &[u8] = bytemuck::cast_slice(&tensor.values);
        format!("{name} {:?} {}", tensor.shape, durable::Content::of(bytes).blake3)
    });
    let hashes: Vec<String> = hashes.collect();
    durable::Content::of(hashes.join("\n").as_bytes()).blake3
}

/// Measures a classifier on the validation split.
fn on_validation(
    args: &Args,
    ready: Ready,
    stop: &StopFlag,
    hosts: &Hosts,
) -> Result<(), CliError> {
    let opened_data = open_data(args, &ready, stop)
        .and_then(|(device, data)| Ok((EvalImages::validation(&ready.plan, &data)?, device, data)));
    let (images, device, data) = launcher::all_ready(hosts, opened_data)?;
    launcher::check_same(hosts, &[("fingerprint of the data", data.fingerprint.clone())])?;
    let Ready { opened, plan, .. } = ready;
    let skipped = data.val_skipped.as_ref().map(|skipped| skipped.len());
    let tallies = run::evaluate(Arc::new(opened), &plan, vec![images], (&device, hosts), stop)?;
    let tallies = tallies.ok_or(CliError::Stopped)?;
    if !hosts.is_first() {
        return Ok(());
    }
    if let Some(path) = &args.per_class {
        per_class::write(path, &tallies[0], &data.class_names)?;
    }
    show(&tallies[0].metrics(), skipped, args.json)
}

/// Chooses the devices of this host, and opens the data for a classifier.
fn open_data(
    args: &Args,
    Ready { opened, meta, plan }: &Ready,
    stop: &StopFlag,
) -> Result<(ChosenDevice, DataSet), CliError> {
    let device = train::choose(&plan.runtime.untuned())?;
    let data = data::open(&plan.data, Labels::Needed)?;
    // A checkpoint without a head gets a better error below.
    if data.facts.num_classes != meta.num_classes && opened.facts.num_classes() > 0 {
        return Err(CliError::Usage(format!(
            "cannot evaluate {}: the checkpoint has {} classes, but the data has {} classes\n\
             hint: use `--data` or `--set data.path=...` to pass data with the classes of the checkpoint",
            args.checkpoint.display(),
            meta.num_classes,
            data.facts.num_classes
        )));
    }
    check_classes(&args.checkpoint, &meta.class_names, &data.class_names, opened.meta.is_some())?;
    stop_on_signals(stop, "stopping");
    let data = match plan.data.bad_val {
        BadVal::Stop => data,
        BadVal::Skip => infer::read_validation(plan, &data, stop)?.ok_or(CliError::Stopped)?,
    };
    Ok((device, data))
}

/// Prints the metrics. `skipped` counts unreadable images; `None` if such an image stops the command.
fn show(metrics: &Metrics, skipped: Option<usize>, json: bool) -> Result<(), CliError> {
    let Metrics { loss, top1, top5, images } = *metrics;
    if json {
        let mut object =
            serde_json::json!({ "top1": top1, "top5": top5, "loss": loss, "images": images });
        if let Some(skipped) = skipped {
            object["val_skipped"] = skipped.into();
        }
        return Ok(output::json(&object)?);
    }
    let left_out = match skipped {
        None | Some(0) => String::new(),
        Some(skipped) => format!(" ({skipped} unreadable images left out)"),
    };
    Ok(output::result(&format!(
        "top-1 {top1:.2} %, top-5 {top5:.2} %, loss {loss:.5} on {images} images{left_out}"
    ))?)
}

fn write_csv(
    path: &Path,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), CliError> {
    let header = header.iter().copied().map(str::to_owned).collect();
    let bytes = csv_rows(std::iter::once(header).chain(rows), csv::Terminator::CRLF);
    durable::write_output(path, &bytes)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Fails if a class has a different label in the data than in the checkpoint.
///
/// If `named` is true, the checkpoint stores class names. A renamed class then causes only a warning.
fn check_classes(
    checkpoint: &Path,
    known: &[String],
    found: &[String],
    named: bool,
) -> Result<(), CliError> {
    let mut differ = known.iter().zip(found).enumerate().filter(|(_, (a, b))| a != b);
    let moved = differ.clone().find_map(|(class, (name, _))| {
        // ImageNet has two classes named crane. So the class has not moved if the checkpoint has this name at both
        // indices.
        let other = found.iter().position(|other| other == name)?;
        (known.get(other) != Some(name)).then_some((class, name, other))
    });
    if let Some((class, name, other)) = moved {
        let shown = one_line(name);
        return Err(CliError::Usage(format!(
            "cannot evaluate {}: `{shown}` is class {class} in the checkpoint, but class {other} in the data\n\
             hint: use the classes of the training data in the same order. In an image folder, mae sorts the classes \
             by folder name",
            checkpoint.display()
        )));
    }
    if let (true, Some((class, (name, other)))) = (named, differ.next()) {
        output::warning(&format!(
            "class {class} is `{}` in the checkpoint, but `{}` in the data. If these are different classes, the \
             accuracy is wrong",
            one_line(name),
            one_line(other)
        ));
    }
    Ok(())
}
