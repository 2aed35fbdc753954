//! `mae data`: checks a data set, or packs it into shards.

mod check;
mod pack;

use super::signals::stop_on_signals;
use super::{CliError, recipe_args};
use crate::data::{self, Labels};
use crate::infer::StopFlag;
use crate::recipe::{DataPlan, Format, Missing};
use crate::results;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Check a data set, or pack it into WebDataset shards
#[derive(clap::Subcommand)]
pub(super) enum Data {
    Check(check::Args),
    Pack(pack::Args),
}

#[derive(clap::Args)]
pub(super) struct SourceArgs {
    /// Recipe with a `[data]` table, or folder of the data set. mae recognizes the format of a folder by its content
    source: PathBuf,
    /// Set one key of the recipe, as in `data.path=/data/imagenet`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(super) fn run(data: &Data) -> Result<(), CliError> {
    match data {
        Data::Check(args) => check::run(args),
        Data::Pack(args) => pack::run(args),
    }
}

impl SourceArgs {
    fn plan(&self) -> Result<(DataPlan, Labels), CliError> {
        if !self.source.exists() {
            return Err(CliError::Usage(format!(
                "cannot read {}: this path does not exist\nhint: pass a recipe file, or the folder of a data set",
                self.source.display()
            )));
        }
        if results::is_run(&self.source) {
            let run = self.source.display();
            return Err(CliError::Usage(format!(
                "cannot check {run} as a data set: this is the folder of a run\n\
                 hint: run `mae check {run}` to check the run, or `mae data check {run}/recipe.toml` to check its data"
            )));
        }
        if self.source.is_file() && data::is_image_name(&self.source) {
            return Err(CliError::Usage(format!(
                "cannot check {} as a data set: this is an image file\nhint: pass the folder of the data set",
                self.source.display()
            )));
        }
        let resolved = if self.source.is_dir() {
            let text = recipe_of(&self.source);
            recipe_args::resolve_text(&self.source, &text, &self.set)?
        } else {
            recipe_args::resolve(&self.source, &self.set, Missing::Refuse)?
        };
        let point =
            resolved.points.into_iter().next().expect("a resolved recipe has at least one point");
        let plan = point.plan;
        let trains_classifier =
            plan.pretrain.is_none() || plan.finetune.is_some() || plan.linprobe.is_some();
        // Images outside train/ are for pre-training only.
        let has_train = self.source.join("train").is_dir();
        let labels = match plan.data.format {
            Format::WebDataset | Format::Parquet if self.source.is_dir() => Labels::IfAny,
            Format::ImageFolder if self.source.is_dir() && !has_train => Labels::Unneeded,
            _ if self.source.is_dir() || trains_classifier => Labels::Needed,
            _ => Labels::Unneeded,
        };
        Ok((plan.data, labels))
    }
}

/// Returns a recipe in TOML for the data set in `folder`.
fn recipe_of(folder: &Path) -> String {
    // `Value` quotes the path. `${` is escaped, because a recipe would read it as a variable.
    let path = toml::Value::String(folder.to_string_lossy().replace("${", "$${"));
    format!("name = \"data\"\n[data]\nformat = \"{}\"\npath = {path}\n", format_of(folder))
}

fn format_of(folder: &Path) -> &'static str {
    let has = |name: &str| folder.join(name).exists();
    if has("data_batch_1.bin") || has("cifar-10-batches-bin") {
        "cifar10"
    } else if has("cifar-100-binary") || has("train.bin") {
        "cifar100"
    } else {
        data::format_of_files(folder)
    }
}

/// Progress bar of a command that reads all images. Ctrl-C stops the command.
struct CheckPass {
    bar: ProgressBar,
    stop: StopFlag,
}

impl CheckPass {
    fn start() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        let style = "{bar:30} {human_pos}/{human_len} images, {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
        let stop = StopFlag::default();
        stop_on_signals(&stop, "stopping");
        Self { bar, stop }
    }

    fn go_on(&self, done: usize, total: usize) -> bool {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        !self.stop.requested()
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
