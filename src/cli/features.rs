//! `mae features`: writes the features of images to a file.

use super::checkpoint_args::{Ready, ready};
use super::signals::stop_on_signals;
use super::{CliError, output};
use crate::checkpoint::Needs;
use crate::data::{self, DataError, Labels, Share, Split};
use crate::infer::{Features, Pooling, StopFlag};
use crate::recipe::DataPlan;
use crate::results::{FeatureFile, FeatureRow, count};
use crate::{run, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Write the features of images to a file
///
/// The file has one row for each image, in order. A `.csv` or `.parquet` file also has the name and class of each
/// image. For a `.npy` or `.safetensors` file, mae writes names and classes to a second file (`F.npy.csv`).
#[derive(clap::Args)]
pub(super) struct Args {
    /// Checkpoint of any kind: a folder such as `runs/NAME/pretrain/checkpoints/epoch-0800`, a Hugging Face folder, or
    /// a `.pth`, `.pd` or `.safetensors` file
    checkpoint: PathBuf,
    /// Image files, folders of images, or one recipe (`.toml`) with the data set; by default the data set that trained
    /// the checkpoint
    #[arg(value_name = "IMAGES|RECIPE")]
    images: Vec<PathBuf>,
    /// Split of the data set to read
    #[arg(long, value_enum, default_value = "val", value_name = "SPLIT")]
    split: SplitName,
    /// Transformer block whose output to write, counted from 1. By default, the last block, after the final LayerNorm
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Class token (cls), mean of the patch tokens (mean), or all tokens (tokens). By default, the features that the
    /// checkpoint's classifier reads, or cls if there is no classifier
    #[arg(long, value_enum, value_name = "POOL")]
    pool: Option<Pool>,
    /// File to write: `.safetensors`, `.npy`, `.csv` or `.parquet`; an existing file is replaced
    #[arg(short, long, value_name = "F")]
    output: PathBuf,
    /// Prefix of the network's tensor names, if the checkpoint contains several networks
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `runtime.precision=bf16`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SplitName {
    Train,
    Val,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pool {
    Cls,
    Mean,
    Tokens,
}

impl From<Pool> for Pooling {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Cls => Self::Cls,
            Pool::Mean => Self::Mean,
            Pool::Tokens => Self::Tokens,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let is_recipe =
        |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    let recipe = args.images.iter().find(|path| is_recipe(path));
    if recipe.is_some() && args.images.len() > 1 {
        return Err(CliError::Usage(
            "cannot read image files and a recipe's data set in one command\nhint: name either image files and folders, or one recipe"
                .to_owned(),
        ));
    }
    refuse_input_as_output(args)?;
    let recipe = recipe.map(PathBuf::as_path);
    let prefix = args.prefix.as_deref();
    let Ready { opened, mut plan, .. } =
        ready(&args.checkpoint, recipe, prefix, &args.set, Needs::Heads)?;
    plan.runtime.devices = 1;
    let (split, classes) = match recipe {
        None if !args.images.is_empty() => data::open_images(&args.images, &plan.data)?,
        _ => of_data_set(&plan.data, args.split)?,
    };
    let device = train::choose(&plan.runtime.untuned())?;
    let ways = (args.layer, args.pool.map(Pooling::from));
    let extractor = run::load_features(&opened, &plan, &device, ways)?;
    let shape = extractor.shape();
    let rows = (0..split.len()).map(|index| row(&*split, index, &classes)).collect();
    let mut file = FeatureFile::create(&args.output, &shape, rows)?;
    let stop = StopFlag::default();
    stop_on_signals(&stop, "stopping");
    let take = |part: Features| Ok::<_, CliError>(file.append(&part.values)?);
    let images = split.len();
    let pass = extractor.pass(&plan, split, run::EVAL_BATCH, &stop);
    if !extractor.each(&pass, (&device.replicas(), Share::ALL), take)? {
        return Err(CliError::Stopped);
    }
    file.finish()?;
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    Ok(output::result(&format!(
        "{}: {} of {}",
        args.output.display(),
        count(images, "image"),
        match &shape[..] {
            [width] => format!("{width} features"),
            _ => format!("{} features", shape.join(" x ")),
        }
    ))?)
}

/// Returns a split of a data set and its class names.
///
/// The names are empty if the data set has no classes, or if the validation labels do not match the training classes.
fn of_data_set(
    plan: &DataPlan,
    name: SplitName,
) -> Result<(Arc<dyn Split>, Vec<String>), DataError> {
    let (data, refused) = match data::open(plan, Labels::Needed) {
        Ok(data) => (data, None),
        Err(error) => (data::open(plan, Labels::Unneeded)?, Some(error)),
    };
    match (name, data.val) {
        (SplitName::Train, _) => Ok((data.train, data.class_names)),
        (SplitName::Val, Some(val)) if refused.is_some() => Ok((val, Vec::new())),
        (SplitName::Val, Some(val)) => Ok((val, data.class_names)),
        (SplitName::Val, None) => Err(refused.expect("data with labels has a validation split")),
    }
}

fn row(split: &dyn Split, index: usize, classes: &[String]) -> FeatureRow {
    let label = split.label(index);
    let class = classes.get(label as usize).map(|name| (label, name.clone()));
    FeatureRow { name: split.name(index).display().to_string(), class }
}

/// Fails if the output would replace an input.
fn refuse_input_as_output(args: &Args) -> Result<(), CliError> {
    let place = |path: &Path| path.canonicalize().ok();
    let output = place(&args.output);
    let mut inputs = std::iter::once(&args.checkpoint).chain(&args.images);
    if output.is_some() && inputs.any(|input| place(input) == output) {
        return Err(CliError::Usage(format!(
            "cannot write {}: this path is one of the inputs\nhint: choose another name",
            args.output.display()
        )));
    }
    Ok(())
}
