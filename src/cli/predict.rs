//! `mae predict`: classifies images.

use super::checkpoint_args::{Ready, ready};
use super::{CliError, output};
use crate::checkpoint::Needs;
use crate::text::one_line;
use crate::{data, run, train};
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Classify images
///
/// Prints the most probable classes of each image with their probabilities. If images are unreadable, mae lists them at
/// the end and exits with 2.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Fine-tuned or probed checkpoint: a folder such as `runs/NAME/finetune/from-0160/checkpoints/epoch-0010`, a
    /// Hugging Face folder, or a `.pth`, `.pd` or `.safetensors` file
    checkpoint: PathBuf,
    /// Image files, such as JPEG, PNG, WebP, GIF, AVIF or TIFF, in any colour mode
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Number of classes to print for each image
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Recipe with `[data]` and `[runtime]`; by default the recipe that trained the checkpoint
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Prefix of the network's tensor names, if the checkpoint contains several networks
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Set one key of the recipe, as in `runtime.device="cpu"`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let Ready { opened, meta, mut plan } = ready(
        &args.checkpoint,
        args.recipe.as_deref(),
        args.prefix.as_deref(),
        &args.set,
        Needs::Heads,
    )?;
    plan.runtime.devices = 1;
    let device = train::choose(&plan.runtime.untuned())?;
    let classifier = run::load_classifier(&opened, &plan, &device, 1)?;
    let name = |class: usize| match meta.class_names.get(class) {
        Some(name) => name.clone(),
        None => format!("LABEL_{class}"),
    };
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for image in &args.images {
        let picture = match data::transform_picture(image, &plan.data) {
            Ok(picture) => picture,
            Err(error) => {
                unread.push(error.to_string());
                continue;
            }
        };
        let probabilities = classifier.probabilities(picture)?;
        let mut ranked: Vec<(usize, f64)> = probabilities.into_iter().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(args.top as usize);
        if args.json {
            let class = |&(class, p): &(usize, f64)| json!({ "class": class, "name": name(class), "probability": p });
            let classes: Vec<_> = ranked.iter().map(class).collect();
            found.push(json!({ "image": image.display().to_string(), "classes": classes }));
        } else {
            let mut text = one_line(&image.display().to_string()).into_owned();
            for (class, probability) in ranked {
                let _ = write!(text, "\n  {probability:.4}  {}", one_line(&name(class)));
            }
            output::result(&text)?;
        }
    }
    if args.json && !found.is_empty() {
        output::json(&json!({ "images": found }))?;
    }
    if unread.is_empty() { Ok(()) } else { Err(CliError::Usage(unread.join("\n"))) }
}
