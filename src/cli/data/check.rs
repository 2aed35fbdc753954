//! `mae data check`: finds problems of a data set, and computes the numbers for a recipe.

use super::{CheckPass, SourceArgs};
use crate::cli::{CliError, output};
use crate::data::{self, ChannelNumbers, Checked, CheckedSplit};
use crate::results::count;
use crate::text::one_line;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Decode every image, and report unreadable files, classes, sizes, duplicates, mean and std
///
/// Exits with 1 if an image is unreadable or the data set has a problem.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Write all unreadable files, damaged files and duplicates to a CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

const SHOWN: usize = 20;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (plan, labels) = args.source.plan()?;
    let pass = CheckPass::start();
    let checked = data::check(&plan, labels, |done, total| pass.go_on(done, total))?;
    pass.finish();
    let Some(checked) = checked else { return Err(CliError::Stopped) };
    if let Some(path) = &args.csv {
        checked.write_csv(path)?;
    }
    if args.json {
        output::json(&checked)?;
    } else {
        output::result(text(&checked, plan.in_chans).trim_end())?;
    }
    if checked.is_bad() {
        let files: usize = checked.splits.iter().map(|split| split.bad.len()).sum();
        let problems = checked.problems.len();
        let what = format!(
            "found {} and {} of the whole data set",
            count(files, "unreadable file"),
            count(problems, "problem")
        );
        return Err(CliError::Failed(what));
    }
    Ok(())
}

/// Returns one value per channel; repeats a single value.
fn for_channels(values: &[f64], in_chans: usize) -> Vec<f64> {
    match values {
        [value] => vec![*value; in_chans],
        values => values.to_vec(),
    }
}

fn text(checked: &Checked, in_chans: usize) -> String {
    let mut text = String::new();
    for split in &checked.splits {
        let _ = writeln!(text, "{}", summary(split));
    }
    if !checked.left_out.is_empty() {
        let named = |(ending, count): &(String, usize)| match ending.as_str() {
            "" => format!("{count} without an extension"),
            ending => format!("{count} .{}", one_line(ending)),
        };
        let endings: Vec<String> = checked.left_out.iter().map(named).collect();
        let _ = writeln!(text, "files without an image extension: {}", endings.join(", "));
    }
    if !checked.passed_over.is_empty() {
        let all: u64 = checked.passed_over.values().sum();
        let _ = writeln!(text, "files that mae does not use: {all}");
        for (what, count) in &checked.passed_over {
            let _ = writeln!(text, "  {}: {count}", one_line(what));
        }
    }
    for note in &checked.notes {
        let _ = writeln!(text, "note: {note}");
    }
    list(&mut text, "problems of the whole data set", checked.problems.iter().cloned());
    if checked.unchecked > 0 {
        let _ = writeln!(
            text,
            "images without a checksum: {} (without a checksum, mae misses damage in an image that still decodes; `mae \
             data pack` writes checksums)",
            checked.unchecked
        );
    }
    for split in &checked.splits {
        let named = |(path, problem): &(PathBuf, String)| format!("{}: {problem}", shown(path));
        let CheckedSplit { name, bad, damaged, .. } = split;
        list(&mut text, &format!("unreadable files in {name}"), bad.iter().map(named));
        let what = format!("damaged files in {name}, of which mae decodes only a part");
        list(&mut text, &what, damaged.iter().map(named));
    }
    let pair = |[train, val]: &[PathBuf; 2]| format!("{} = {}", shown(train), shown(val));
    list(
        &mut text,
        "images with the same bytes in train and val",
        checked.in_both.iter().map(pair),
    );
    let _ = write!(text, "{}", numbers_text(checked));
    let numbers = |values: &[f64]| {
        values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ")
    };
    let _ = write!(
        text,
        "mean and std of the training images, for `[data]` in a recipe:\nmean = [{}]\nstd = [{}]\n",
        numbers(&for_channels(&checked.mean, in_chans)),
        numbers(&for_channels(&checked.std, in_chans))
    );
    for split in &checked.splits {
        let _ = writeln!(text, "{}_images = {}", split.name, split.images);
    }
    text
}

/// Returns the percentiles of the pixel values, and a `range = ...` line for the recipe.
///
/// The text is empty if all files have 8 bits.
fn numbers_text(checked: &Checked) -> String {
    let mut text = String::new();
    if checked.cut_images > 0 {
        let _ = writeln!(
            text,
            "images with more than 8 bits: {}. Without `data.range`, mae reads these images like Pillow: grey values above 255 become 255",
            checked.cut_images
        );
    }
    let Some(numbers) = &checked.numbers else { return text };
    let sample = if numbers.is_sample { ", from a sample of the pixels" } else { "" };
    let _ = writeln!(text, "pixel values in the training files, before scaling{sample}:");
    for (channel, ChannelNumbers { percentiles }) in numbers.channels.iter().enumerate().take(SHOWN)
    {
        let percentile = |(percent, number): &(f64, f64)| match percent {
            0.0 => format!("smallest {}", number_text(*number)),
            100.0 => format!("largest {}", number_text(*number)),
            percent => format!("{percent} % {}", number_text(*number)),
        };
        let percentiles: Vec<String> = percentiles.iter().map(percentile).collect();
        let _ = writeln!(text, "  channel {}: {}", channel + 1, percentiles.join(", "));
    }
    if numbers.channels.len() > SHOWN {
        let _ = writeln!(text, "  and {} more channels", numbers.channels.len() - SHOWN);
    }
    let [low, high] = numbers.range.map(number_text);
    if low == high {
        return text;
    }
    let _ = writeln!(
        text,
        "range from the 0.5 % to the 99.5 % percentile, for `[data]` in a recipe:\nrange = [{low}, {high}]"
    );
    text
}

/// Formats a number with at most 6 decimals, or like `1.2346e-5` if it is below 0.001.
fn number_text(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-3 {
        return format!("{number:.4e}");
    }
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn summary(split: &CheckedSplit) -> String {
    let CheckedSplit { name, images, bytes, width, height, .. } = split;
    let mut text = format!("{name}: {}, {:.1} MB", count(*images, "image"), *bytes as f64 / 1e6);
    let counts = || split.classes.iter().map(|(_, count)| *count);
    if let (Some(least), Some(most)) = (counts().min(), counts().max()) {
        let classes = match split.classes.len() {
            1 => "1 class".to_owned(),
            classes => format!("{classes} classes"),
        };
        let of_class = match (least, most) {
            (least, most) if least == most && split.classes.len() > 1 => {
                format!("{} each", count(most, "image"))
            }
            (least, most) if least == most => count(most, "image"),
            (least, most) => format!("{least} to {most} images each"),
        };
        let _ = write!(text, ", {classes} with {of_class}");
    }
    let _ = write!(
        text,
        "; width {} to {} px (median {}), height {} to {} px (median {})",
        width[0], width[2], width[1], height[0], height[2], height[1]
    );
    text
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

fn list(text: &mut String, what: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "{what}: {}", entries.len());
    for entry in entries.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", entry.replace('\n', "\n    "));
    }
    if entries.len() > SHOWN {
        let _ = writeln!(text, "  and {} more (`--csv FILE` lists all)", entries.len() - SHOWN);
    }
}
