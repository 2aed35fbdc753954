//! `mae convert`: converts a checkpoint from one format to another.

use super::checkpoint_args::{Ready, ready};
use super::{CliError, output};
use crate::checkpoint::{self, CheckpointFormat, ExportSettings, Needs};
use crate::{data, recipe};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// Convert a checkpoint: mae, PyTorch, Paddle, timm, Hugging Face
///
/// mae recognizes the format of IN by its content, and copies the weights bit for bit. The format of OUT may need a
/// setting that IN does not store, such as the number of heads. The error message then names the key to pass with
/// `--set`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Checkpoint folder, Hugging Face folder, or a `.pth`, `.bin`, `.pd`, `.pdparams` or `.safetensors` file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File or folder to write; must not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of OUT
    #[arg(long, value_enum, default_value_t = To::Mae)]
    to: To,
    /// Recipe with the settings that IN does not store
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Prefix of the network's tensor names, if IN contains several networks
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `model.num_heads=4`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// Checkpoint folder of mae
    Mae,
    /// File with the official parameter names: a PyTorch file if OUT ends with `.pth`, otherwise a safetensors file
    Official,
    /// Safetensors file for timm; it has no decoder
    Timm,
    /// Folder for `from_pretrained` of transformers
    Huggingface,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let out = &args.output;
    refuse_name(out, args.to)?;
    let needs = match args.to {
        To::Mae | To::Huggingface => Needs::Everything,
        To::Official | To::Timm => Needs::Tensors,
    };
    let ready =
        ready(&args.input, args.recipe.as_deref(), args.prefix.as_deref(), &args.set, needs)?;
    let facts = &ready.opened.facts;
    let mut left_out = 0;
    match args.to {
        To::Mae => checkpoint::publish(out, &ready.opened.file, None, &ready.meta)?,
        To::Official if ending(out).as_deref() == Some("pth") => {
            checkpoint::write_torch(&ready.opened.file, out)?;
        }
        To::Official => ready.opened.file.write(out)?,
        To::Timm => left_out = checkpoint::write_timm(&ready.opened.file, facts, out)?,
        To::Huggingface => {
            checkpoint::write_huggingface(&ready.opened.file, facts, &settings(&ready), out)?;
        }
    }
    if left_out > 0 {
        output::warning(&format!(
            "timm has no decoder, so mae left out {left_out} decoder tensors"
        ));
    }
    if matches!(args.to, To::Official | To::Timm) {
        for unsaid in unsaid(&ready) {
            output::warning(&unsaid);
        }
    }
    Ok(output::result(&summary(&ready, out))?)
}

/// Fails if `out` exists, or if its extension does not fit the format.
fn refuse_name(out: &Path, to: To) -> Result<(), CliError> {
    if out.symlink_metadata().is_ok() {
        return Err(CliError::Usage(format!(
            "cannot write {}: the path already exists\nhint: choose another name, or remove the old file or folder",
            out.display()
        )));
    }
    let problem = match (to, ending(out).as_deref()) {
        (To::Mae | To::Huggingface, Some("safetensors" | "pth" | "bin" | "pd" | "pdparams")) => {
            "the name has a file extension, but `--to mae` and `--to huggingface` write a folder\n\
             hint: remove the extension of OUT, or write one file with `--to official`"
        }
        (To::Official, Some("safetensors" | "pth")) | (To::Timm, Some("safetensors")) => {
            return Ok(());
        }
        (To::Official, _) => {
            "the name must end with `.safetensors` or `.pth`, because `--to official` writes one file\nhint: end OUT with `.safetensors`, or with `.pth` for `torch.load`"
        }
        (To::Timm, _) => {
            "the name must end with `.safetensors`, because `--to timm` writes a safetensors file\nhint: end OUT with `.safetensors`"
        }
        _ => return Ok(()),
    };
    Err(CliError::Usage(format!("cannot write {}: {problem}", out.display())))
}

fn ending(out: &Path) -> Option<String> {
    out.extension().map(|ending| ending.to_string_lossy().to_lowercase())
}

/// Returns a warning for each unusual setting that the output file cannot store.
fn unsaid(ready: &Ready) -> Vec<String> {
    let Ready { opened, plan, .. } = ready;
    let mut unsaid = Vec::new();
    let size = plan.data.input_size;
    if !size.is_square() {
        unsaid.push(format!(
            "the new file does not store the image size. When you load it, set img_size = {size}"
        ));
    }
    let eps = plan.model.norm_eps;
    if (eps - 1e-6).abs() > 1e-12 {
        unsaid.push(format!(
            "the new file does not store the LayerNorm epsilon. When you load it, set the epsilon to {eps:e}"
        ));
    }
    let heads = plan.model.num_heads;
    let known = opened.facts.num_heads.is_some();
    if known && checkpoint::usual_heads(opened.facts.embed_dim) != Some(heads) {
        unsaid.push(format!(
            "the new file does not store the number of attention heads. When you load it, set {heads} heads"
        ));
    }
    let stated = opened.facts.settings.mean.as_ref().zip(opened.facts.settings.std.as_ref());
    let [usual_mean, usual_std] = recipe::IMAGENET_MEAN_STD;
    if let Some((mean, std)) = stated.filter(|of| of.0[..] != usual_mean || of.1[..] != usual_std) {
        unsaid.push(format!(
            "the new file does not store the normalization. Normalize images with mean {mean:?} and std {std:?}"
        ));
    }
    unsaid
}

fn settings(ready: &Ready) -> ExportSettings {
    let Ready { plan, meta, .. } = ready;
    ExportSettings {
        num_heads: plan.model.num_heads,
        decoder_num_heads: plan.model.decoder_num_heads,
        input_size: plan.data.input_size,
        eval_short_side: data::eval_short_side(&plan.data),
        norm_eps: plan.model.norm_eps,
        mask_ratio: plan.pretrain.as_ref().map_or(0.75, |pretrain| pretrain.masking.ratio),
        norm_pix_loss: plan.pretrain.as_ref().is_some_and(|pretrain| pretrain.loss.norm_pix_loss),
        mean: plan.data.mean.clone(),
        std: plan.data.std.clone(),
        class_names: meta.class_names.clone(),
    }
}

fn summary(ready: &Ready, out: &Path) -> String {
    let format = match ready.opened.format {
        CheckpointFormat::Mae => "mae checkpoint",
        CheckpointFormat::Pickle => "pickle",
        CheckpointFormat::HuggingFace => "Hugging Face",
        CheckpointFormat::Safetensors => "safetensors",
        CheckpointFormat::State => "saved state of mae",
    };
    format!(
        "{} ({format}: {}) -> {}",
        ready.opened.path.display(),
        ready.opened.facts.summary(),
        out.display()
    )
}
