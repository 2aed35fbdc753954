//! `mae reconstruct`: pictures, masked and painted anew, side by side.

use super::checkpoint_args::{Ready, ready};
use super::{CliError, output};
use crate::checkpoint::Needs;
use crate::figure::FigureRow;
use crate::infer::{self, MaskSettings, ReconstructionInput};
use crate::results::{RunError, count};
use crate::train::{self, TrainError};
use crate::{data, run};
use std::path::{Path, PathBuf};

/// Show what a masked autoencoder makes of pictures: original, masked, reconstruction, reconstruction + visible
///
/// A row for each picture, checkpoint and mask ratio, one picture's rows together. A picture's mask is the same in all.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Pre-training checkpoints, as runs/NAME/pretrain/checkpoints/epoch-0800, or anyone's that have a decoder: .pth, .pd,
    /// .safetensors, a Hugging Face folder
    #[arg(required = true, value_name = "CHECKPOINT")]
    checkpoints: Vec<PathBuf>,
    /// jpg, png, webp, bmp, tiff or ppm files of any colour mode
    #[arg(long, required = true, num_args = 1.., value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Shares of the patches to hide, as 0.5,0.75,0.9; by default what the checkpoint was trained with
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = mask_ratio)]
    mask_ratio: Vec<f64>,
    /// Draws other masks
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Take [data] and [runtime] from this recipe instead of the one the checkpoint was trained by, and what a file does not say
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Set one key, as `pretrain.norm_pix_loss=true` for a file that does not say it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Short for `--set runtime.device="D"`
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// The picture to write, a .png file; one that is there is replaced
    #[arg(short, long, value_name = "PNG")]
    output: PathBuf,
}

/// Rows that a figure may have: a folder of a thousand photographs is nothing that anybody looks at as one picture.
const MAX_ROWS: usize = 100;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let out = &args.output;
    refuse_output(out, &args.images)?;
    let rows = args.checkpoints.len() * args.images.len() * args.mask_ratio.len().max(1);
    if rows > MAX_ROWS {
        return Err(CliError::Usage(format!(
            "one picture of {rows} rows, a row for each checkpoint, image and mask ratio: more than {MAX_ROWS}\n\
             hint: give fewer images"
        )));
    }
    let mut groups = vec![Vec::new(); args.images.len()];
    let mut norm_pix_loss = false;
    for checkpoint in &args.checkpoints {
        norm_pix_loss |= add_rows(&mut groups, checkpoint, args)?;
    }
    let figure = infer::reconstructions(groups, norm_pix_loss);
    let failed = |source| RunError::Io { path: out.clone(), source };
    figure.save(out).map_err(failed).map_err(TrainError::from)?;
    Ok(output::result(&format!("{}: {}", out.display(), count(rows, "row")))?)
}

/// Adds a checkpoint's rows to the group of each image; gives whether the checkpoint has `norm_pix_loss`.
fn add_rows(
    groups: &mut [Vec<FigureRow>],
    checkpoint: &Path,
    args: &Args,
) -> Result<bool, CliError> {
    let mut set = args.set.clone();
    set.extend(args.device.as_ref().map(|device| format!("runtime.device={device:?}")));
    let mut ready = ready(checkpoint, args.recipe.as_deref(), &set, Needs::Decoder)?;
    ready.plan.runtime.devices = 1;
    let Ready { opened, plan, .. } = &ready;
    let device = train::choose(&plan.runtime.untuned())?;
    let autoencoder = run::load_autoencoder(opened, plan, &device)?;
    let own = plan.pretrain.as_ref().map_or(0.75, |pretrain| pretrain.mask_ratio);
    let ratios = if args.mask_ratio.is_empty() { vec![own] } else { args.mask_ratio.clone() };
    for (place, (image, group)) in args.images.iter().zip(groups).enumerate() {
        let values = data::transform_picture(image, &plan.data)?;
        let subject = ReconstructionInput { values, place: place as u64 };
        for &mask_ratio in &ratios {
            let masking = MaskSettings { mask_ratio, seed: args.seed };
            let tiles = autoencoder.tiles(&subject, masking, &plan.data)?;
            let mut label = vec![last_part(image)];
            label.extend(name(&ready));
            label.push(format!("mask ratio {mask_ratio}"));
            label.extend(autoencoder.norm_pix_loss().then(|| "norm_pix_loss".to_owned()));
            group.push(FigureRow { label, tiles });
        }
    }
    Ok(autoencoder.norm_pix_loss())
}

/// What a checkpoint is called: the run or the file it comes from, and its epoch where that is known.
fn name(ready: &Ready) -> Vec<String> {
    let own = ready.opened.meta.is_some() && ready.meta.from.is_empty();
    let name = if own { ready.plan.name.clone() } else { last_part(Path::new(&ready.meta.from)) };
    let epoch = ready.meta.epoch;
    [name].into_iter().chain((epoch > 0).then(|| format!("epoch {epoch}"))).collect()
}

fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Fails, before anything is computed, where no picture could be written.
fn refuse_output(path: &Path, images: &[PathBuf]) -> Result<(), CliError> {
    let refuse = |problem: &str, hint: &str| {
        Err(CliError::Usage(format!("{}: {problem}\nhint: {hint}", path.display())))
    };
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        return refuse("the picture is a PNG file", "give a name that ends in .png");
    }
    if path.is_dir() {
        return refuse("a folder is there", "give the name of a file");
    }
    let place = path.canonicalize().ok();
    if place.is_some() && images.iter().any(|image| image.canonicalize().ok() == place) {
        return refuse("one of the images", "give the picture another name");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refuse("its folder is not there", "make the folder, or give another name");
    }
    Ok(())
}

fn mask_ratio(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(ratio) if ratio > 0.0 && ratio < 1.0 => Ok(ratio),
        _ => Err("expected shares between 0 and 1, as 0.75 or 0.5,0.75,0.9".to_owned()),
    }
}
