//! `mae reconstruct`: draws what a masked autoencoder reconstructs.

use super::checkpoint_args::{Ready, ready};
use super::{CliError, output};
use crate::checkpoint::Needs;
use crate::figure::FigureRow;
use crate::infer::{self, MaskSettings, ReconstructionInput};
use crate::results::{RunError, count};
use crate::shape::{MaeLoss, Masking};
use crate::train::{self, TrainError};
use crate::{data, run};
use std::path::{Path, PathBuf};

/// Draw what a masked autoencoder reconstructs
///
/// Each row of the figure shows four pictures: the original, the masked image, the reconstruction, and the
/// reconstruction with the visible patches. There is one row for each image, checkpoint and mask ratio, grouped by
/// image. All checkpoints get the same mask for the same image.
#[derive(clap::Args)]
#[command(
    override_usage = "mae reconstruct [OPTIONS] --images <IMAGE>... -o <PNG> <CHECKPOINT>..."
)]
pub(super) struct Args {
    /// Checkpoints with a decoder: folders such as `runs/NAME/pretrain/checkpoints/epoch-0800`, Hugging Face folders,
    /// or `.pth`, `.pd` or `.safetensors` files
    #[arg(required = true, value_name = "CHECKPOINT")]
    checkpoints: Vec<PathBuf>,
    /// Image files, such as JPEG, PNG, WebP, GIF, AVIF or TIFF, in any colour mode
    #[arg(long, required = true, num_args = 1.., value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Mask ratios, such as `0.5,0.75,0.9`; by default the mask ratio of the training. To draw block masks instead of
    /// random masks, use `--set pretrain.mask=block`
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = mask_ratio)]
    mask_ratio: Vec<f64>,
    /// Random seed of the masks
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Recipe with `[data]`, `[runtime]` and settings that the checkpoint does not store; by default the recipe that
    /// trained the checkpoint
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Prefix of the network's tensor names, if a checkpoint contains several networks
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `pretrain.norm_pix_loss=true`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Device to compute on; short for `--set runtime.device="D"`
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// PNG file to write; an existing file is replaced
    #[arg(short, long, value_name = "PNG")]
    output: PathBuf,
}

const MAX_ROWS: usize = 100;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let out = &args.output;
    refuse_output(out, &args.images)?;
    let rows = args.checkpoints.len() * args.images.len() * args.mask_ratio.len().max(1);
    if rows > MAX_ROWS {
        return Err(CliError::Usage(format!(
            "cannot draw a figure of {rows} rows: the limit is {MAX_ROWS} rows, and each combination of image, checkpoint and mask ratio has one row\n\
             hint: pass fewer images"
        )));
    }
    let mut groups = vec![Vec::new(); args.images.len()];
    let mut losses = Vec::new();
    for checkpoint in &args.checkpoints {
        losses.push(add_rows(&mut groups, checkpoint, args)?);
    }
    let figure = infer::reconstructions(groups, &losses);
    let failed = |source| RunError::Io { path: out.clone(), source };
    figure.save(out).map_err(failed).map_err(TrainError::from)?;
    Ok(output::result(&format!("{}: {}", out.display(), count(rows, "row")))?)
}

/// Reconstructs each image with one checkpoint, and adds the rows to `groups`.
///
/// Returns the loss that the checkpoint was trained with.
fn add_rows(
    groups: &mut [Vec<FigureRow>],
    checkpoint: &Path,
    args: &Args,
) -> Result<MaeLoss, CliError> {
    let mut set = args.set.clone();
    set.extend(args.device.as_ref().map(|device| format!("runtime.device={device:?}")));
    let mut ready =
        ready(checkpoint, args.recipe.as_deref(), args.prefix.as_deref(), &set, Needs::Decoder)?;
    ready.plan.runtime.devices = 1;
    let Ready { opened, plan, .. } = &ready;
    let device = train::choose(&plan.runtime.untuned())?;
    let autoencoder = run::load_autoencoder(opened, plan, &device)?;
    let own = plan.pretrain.as_ref().map(|pretrain| pretrain.masking);
    let own = own.unwrap_or(Masking::random(0.75));
    let ratios = if args.mask_ratio.is_empty() { vec![own.ratio] } else { args.mask_ratio.clone() };
    for (place, (image, group)) in args.images.iter().zip(groups).enumerate() {
        let values = data::transform_picture(image, &plan.data)?;
        let subject = ReconstructionInput { values, place: place as u64 };
        for &ratio in &ratios {
            let masking = Masking { ratio, ..own };
            let settings = MaskSettings { masking, seed: args.seed };
            let tiles = autoencoder.tiles(&subject, settings, &plan.data)?;
            let mut label = vec![last_part(image)];
            label.extend(name(&ready));
            label.extend(infer::mask_label(masking));
            label.extend(autoencoder.loss().norm_pix_loss.then(|| "norm_pix_loss".to_owned()));
            group.push(FigureRow { label, tiles });
        }
    }
    Ok(autoencoder.loss())
}

/// Returns the checkpoint's label in the figure, such as `["quickstart", "epoch 40"]`.
fn name(ready: &Ready) -> Vec<String> {
    let own = ready.opened.meta.is_some() && ready.meta.from.is_empty();
    let name = if own { ready.plan.name.clone() } else { last_part(Path::new(&ready.meta.from)) };
    let epoch = ready.meta.epoch;
    [name].into_iter().chain((epoch > 0).then(|| format!("epoch {epoch}"))).collect()
}

fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Fails if `path` does not end with `.png`, is a folder, is one of `images`, or is in a missing folder.
fn refuse_output(path: &Path, images: &[PathBuf]) -> Result<(), CliError> {
    let refuse = |problem: &str, hint: &str| {
        Err(CliError::Usage(format!("cannot write {}: {problem}\nhint: {hint}", path.display())))
    };
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        return refuse("the name of the figure must end with `.png`", "end the name with `.png`");
    }
    if path.is_dir() {
        return refuse("this is a folder", "pass a file name");
    }
    let place = path.canonicalize().ok();
    if place.is_some() && images.iter().any(|image| image.canonicalize().ok() == place) {
        return refuse("this is one of the input images", "choose another name");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refuse("the folder does not exist", "create the folder, or choose another name");
    }
    Ok(())
}

fn mask_ratio(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(ratio) if ratio > 0.0 && ratio < 1.0 => Ok(ratio),
        _ => Err("expected mask ratios between 0 and 1, such as 0.75 or 0.5,0.75,0.9".to_owned()),
    }
}
