//! `mae eval`: measures a checkpoint on the validation split.

use super::checkpoint_args::{Ready, ready};
use super::signals::stop_on_signals;
use super::{CliError, output};
use crate::checkpoint::{Needs, Opened};
use crate::data::{self, DataSet, Labels};
use crate::infer::{Evaluated, Knn, KnnMetrics, Pooling, StopFlag};
use crate::recipe::{self, Format, Plan};
use crate::text::one_line;
use crate::train::{self, ChosenDevice};
use crate::run;
use std::path::{Path, PathBuf};

/// Number of images that the device computes at a time.
const BATCH_SIZE: usize = 64;

/// Measure a classifier on the validation split: top-1, top-5, loss
#[derive(clap::Args)]
pub(super) struct Args {
    /// Fine-tuned or probed checkpoint: a folder as in runs/NAME/finetune/from-0160/checkpoints/epoch-0010, a Hugging Face
    /// folder, or a .pth, .pd or .safetensors file
    checkpoint: PathBuf,
    /// Recipe with the data; by default the recipe that trained the checkpoint
    #[arg(long, value_name = "RECIPE")]
    data: Option<PathBuf>,
    /// Choose one of several networks by the prefix of its tensor names
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `data.path=/data/imagenet`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Classify by the K nearest training images instead of the checkpoint's head, without any training
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    knn: Option<u32>,
    /// With --knn: weight of a vote is exp(cosine similarity / T)
    #[arg(long, value_name = "T", default_value_t = 0.07, requires = "knn", value_parser = temperature)]
    temperature: f64,
    /// With --knn: class token, or mean of the patches; by default what the classifier of the checkpoint reads, cls for a
    /// pre-training
    #[arg(long, value_enum, value_name = "POOL", requires = "knn")]
    pool: Option<Pool>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pool {
    Cls,
    Mean,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let Ready { opened, meta, mut plan } = ready(
        &args.checkpoint,
        args.data.as_deref(),
        args.prefix.as_deref(),
        &args.set,
        Needs::Heads,
    )?;
    if !args.set.iter().any(|set| recipe::set_key(set) == "runtime.devices") {
        // The machine that trained the checkpoint may have had more GPUs.
        let there = train::count_gpus(plan.runtime.device).max(1);
        plan.runtime.devices = plan.runtime.devices.min(there);
    }
    let device = train::choose(&plan.runtime.untuned())?;
    if opened.meta.is_none() && args.data.is_none() && plan.data.format == Format::Synthetic {
        return Err(CliError::Usage(format!(
            "cannot measure {}: the checkpoint does not store which data it was trained on\nhint: set the data with --data RECIPE, or --set data.format=... \
             --set data.path=...",
            args.checkpoint.display()
        )));
    }
    let data = data::open(&plan.data, Labels::Needed)?;
    let stop = StopFlag::default();
    if let Some(k) = args.knn {
        stop_on_signals(&stop, "stopping");
        return by_neighbours(args, k as usize, (&opened, &plan), &data, &device, &stop);
    }
    // A checkpoint without a head gets a better error below.
    if data.facts.num_classes != meta.num_classes && opened.facts.num_classes() > 0 {
        return Err(CliError::Usage(format!(
            "cannot measure {}: the checkpoint has {} classes, but the data has {}\nhint: pass the data that the checkpoint was trained on, with --data or --set data.path=...",
            args.checkpoint.display(),
            meta.num_classes,
            data.facts.num_classes
        )));
    }
    check_classes(&args.checkpoint, &meta.class_names, &data.class_names, opened.meta.is_some())?;
    stop_on_signals(&stop, "stopping");
    match run::evaluate(opened, plan, data, BATCH_SIZE, &device, &stop)? {
        Evaluated::Metrics(metrics) if args.json => Ok(output::json(&serde_json::json!({
            "top1": metrics.top1,
            "top5": metrics.top5,
            "loss": metrics.loss,
            "images": metrics.images,
        }))?),
        Evaluated::Metrics(metrics) => Ok(output::result(&format!(
            "top-1 {:.2} %, top-5 {:.2} %, loss {:.5} on {} images",
            metrics.top1, metrics.top5, metrics.loss, metrics.images
        ))?),
        Evaluated::Nothing | Evaluated::Stopped => Err(CliError::Stopped),
    }
}

/// Classifies the validation images by the nearest training images, and prints the accuracy.
fn by_neighbours(
    args: &Args,
    k: usize,
    (opened, plan): (&Opened, &Plan),
    data: &DataSet,
    device: &ChosenDevice,
    stop: &StopFlag,
) -> Result<(), CliError> {
    let pooling = args.pool.map(|pool| match pool {
        Pool::Cls => Pooling::Cls,
        Pool::Mean => Pooling::Mean,
    });
    let features = run::load_features(opened, plan, device, (None, pooling))?;
    let knn = Knn { k, temperature: args.temperature };
    let measured = run::measure_knn(&features, plan, data, knn, None, (device, stop))?;
    let KnnMetrics { top1, top5, images } = measured.ok_or(CliError::Stopped)?;
    if args.json {
        let json = serde_json::json!({ "knn_top1": top1, "knn_top5": top5, "k": k, "images": images });
        return Ok(output::json(&json)?);
    }
    let text = format!("kNN (k = {k}): top-1 {top1:.2} %, top-5 {top5:.2} % on {images} images");
    Ok(output::result(&text)?)
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a number above 0, as in 0.07".to_owned()),
    }
}

/// Fails if a class has a different index in the checkpoint than in the data, because folders were renamed, added or
/// reordered.
///
/// `named` is true if the checkpoint stores the class names of its training data. If so, a renamed class only causes
/// a warning.
fn check_classes(
    checkpoint: &Path,
    known: &[String],
    found: &[String],
    named: bool,
) -> Result<(), CliError> {
    let mut differ = known.iter().zip(found).enumerate().filter(|(_, (a, b))| a != b);
    let moved = differ.clone().find_map(|(class, (name, _))| {
        // ImageNet has two classes named crane. So the class has not moved if the checkpoint has this name at both indices.
        let other = found.iter().position(|other| other == name)?;
        (known.get(other) != Some(name)).then_some((class, name, other))
    });
    if let Some((class, name, other)) = moved {
        let shown = one_line(name);
        return Err(CliError::Usage(format!(
            "cannot measure {}: its class {class} is `{shown}`, but in the data `{shown}` is class {other}\nhint: use the classes of \
             the training data in the same order. In an image folder, the order is that of the sorted folder names",
            checkpoint.display()
        )));
    }
    if let (true, Some((class, (name, other)))) = (named, differ.next()) {
        output::warning(&format!(
            "class {class} is `{}` in the checkpoint and `{}` in the data: the accuracy is only right if both are the same",
            one_line(name),
            one_line(other)
        ));
    }
    Ok(())
}
