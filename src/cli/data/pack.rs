//! `mae data pack`: packs a data set into `WebDataset` shards.

use super::{CheckPass, SourceArgs};
use crate::cli::{CliError, output};
use crate::data::{self, PackOptions, Packing, Reencoded};
use crate::results::count;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Pack image files into WebDataset shards, and resume after an interruption
///
/// Exits with 1 if it left out unreadable files.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Folder to write: shards in `train/` and `val/`, `classes.txt`, `pack.json`, checksums, and a table of unreadable
    /// files
    out: PathBuf,
    /// Shrink images so that their shorter side has at most PIXELS pixels. Training crops then differ slightly from the
    /// official code, and `mae run` prints a warning
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    short_side: Option<u32>,
    /// JPEG quality of shrunk images
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100), requires = "short_side")]
    quality: u8,
    /// Images per shard
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (plan, _) = args.source.plan()?;
    if plan.range.is_some() && args.short_side.is_some() {
        return Err(CliError::Usage(
            "cannot use --short-side with data.range: resized images become JPEG files, which have only 8-bit values\n\
             hint: remove --short-side to pack the files as they are"
                .to_owned(),
        ));
    }
    let reencode = args
        .short_side
        .map(|short_side| Reencoded { short_side: short_side as usize, quality: args.quality });
    let options = PackOptions { samples_per_shard: args.samples as usize, reencode };
    let pass = CheckPass::start();
    let packing = data::pack(&plan, &args.out, options, |done, total| pass.go_on(done, total))?;
    pass.finish();
    let Some(packing) = packing else { return Err(CliError::Interrupted) };
    if args.json {
        output::json(&packing)?;
    } else {
        output::result(&text(&packing, args))?;
    }
    match packing.left_out.len() {
        0 => Ok(()),
        files => Err(CliError::Failed(format!("left out {}", count(files, "unreadable file")))),
    }
}

fn text(packing: &Packing, args: &Args) -> String {
    let Packing { images, shards, shards_there, bytes, left_out } = packing;
    let (image, shard) = (count(*images, "image"), count(*shards, "shard"));
    let mut text = format!("{image} in {shard}, {:.1} MB", *bytes as f64 / 1e6);
    if *shards_there > 0 {
        let _ = write!(text, " ({shards_there} of these shards existed before)");
    }
    for (file, problem) in left_out {
        let _ = write!(text, "\nleft out: {file}: {problem}");
    }
    let _ = write!(
        text,
        "\nadd to a recipe:\n[data]\nformat = \"webdataset\"\npath = {}",
        toml::Value::String(args.out.display().to_string())
    );
    text
}
