//! `mae eval --test`: measures a classifier on test sets other than the validation split.

use super::super::checkpoint_args::Ready;
use super::super::signals::stop_on_signals;
use super::super::{CliError, launcher, output};
use super::write_csv;
use crate::checkpoint::Head;
use crate::infer::StopFlag;
use crate::recipe::{TestClasses, TestSet};
use crate::results::count;
use crate::run::{self, TestResult};
use crate::train::{self, Hosts};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Measure on a test set instead: `PATH` or `NAME=PATH`. PATH is the folder of ImageNet-C, or a folder with one
    /// subfolder for each class of the checkpoint, with the name of the class
    #[arg(long, value_name = "SET")]
    test: Vec<String>,
    /// With --test: classes that the classifier may predict. `present`: classes with images in the test set. `all`: all
    /// classes. `auto`: `present` for ImageNet-A and ImageNet-R, `all` for others
    #[arg(long, value_enum, default_value = "auto", value_name = "CLASSES", requires = "test")]
    classes: Classes,
    /// With --test: write a CSV table, one row for each set
    #[arg(long, value_name = "F.csv", requires = "test")]
    csv: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Classes {
    Auto,
    Present,
    All,
}

impl Args {
    pub(super) fn is_empty(&self) -> bool {
        self.test.is_empty()
    }
}

const HEADER: [&str; 8] =
    ["set", "top1", "top5", "loss", "mce", "classes", "predicted_classes", "images"];

pub(super) fn run(
    args: &super::Args,
    ready: Ready,
    stop: &StopFlag,
    hosts: &Hosts,
) -> Result<(), CliError> {
    let Ready { opened, mut meta, plan } = ready;
    if let Head::Linear { classes, .. } | Head::Probe { classes, .. } = opened.facts.head
        && meta.class_names.is_empty()
    {
        // Class folders can still have the labels as their names.
        meta.class_names = (0..classes).map(|label| format!("class {label}")).collect();
    }
    let classes = match args.test_sets.classes {
        Classes::Auto => TestClasses::Auto,
        Classes::Present => TestClasses::Present,
        Classes::All => TestClasses::All,
    };
    let sets: Vec<TestSet> = args.test_sets.test.iter().map(|text| TestSet::parse(text)).collect();
    let open_all = || {
        let open = |set| run::open_set(set, &plan, &meta.class_names, classes);
        let opened_sets = sets.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok((train::choose(&plan.runtime.untuned())?, opened_sets))
    };
    let (device, opened_sets) = launcher::all_ready(hosts, open_all())?;
    stop_on_signals(stop, "stopping");
    let opened = Arc::new(opened);
    let mut results = Vec::new();
    for (set, images) in sets.iter().zip(&opened_sets) {
        let measured =
            run::measure_set(Arc::clone(&opened), &plan, images, (&device, hosts), stop)?;
        let result = measured.ok_or(CliError::Stopped)?;
        if !args.json && hosts.is_first() {
            output::result(&line(&set.name, &result, meta.num_classes))?;
        }
        results.push((set.name.as_str(), result));
    }
    if !hosts.is_first() {
        return Ok(());
    }
    if let Some(path) = &args.test_sets.csv {
        write_table(path, &results, meta.num_classes)?;
    }
    if args.json {
        let sets: Vec<Value> =
            results.iter().map(|(name, result)| as_json(name, result, meta.num_classes)).collect();
        output::json(&json!({ "sets": sets }))?;
    }
    Ok(())
}

fn line(name: &str, result: &TestResult, num_classes: usize) -> String {
    let metrics = &result.metrics;
    let mce = result.mce().map_or_else(String::new, |mce| format!(", mCE {mce:.2} %"));
    let classes = match (result.classes, result.is_restricted) {
        (classes, true) => {
            format!(" ({classes} of {num_classes} classes; mae predicts only these classes)")
        }
        (classes, false) if classes < num_classes => {
            format!(" ({classes} of {num_classes} classes)")
        }
        _ => String::new(),
    };
    format!(
        "{name}: top-1 {:.2} %, top-5 {:.2} %{mce}, loss {:.5} on {}{classes}",
        metrics.top1,
        metrics.top5,
        metrics.loss,
        count(metrics.images, "image")
    )
}

fn predicted(result: &TestResult, num_classes: usize) -> usize {
    if result.is_restricted { result.classes } else { num_classes }
}

fn write_table(
    path: &Path,
    results: &[(&str, TestResult)],
    num_classes: usize,
) -> Result<(), CliError> {
    let rows = results.iter().map(|(name, result)| {
        let metrics = &result.metrics;
        vec![
            (*name).to_owned(),
            format!("{:.2}", metrics.top1),
            format!("{:.2}", metrics.top5),
            format!("{:.5}", metrics.loss),
            result.mce().map(|mce| format!("{mce:.2}")).unwrap_or_default(),
            result.classes.to_string(),
            predicted(result, num_classes).to_string(),
            metrics.images.to_string(),
        ]
    });
    write_csv(path, &HEADER, rows)
}

fn as_json(name: &str, result: &TestResult, num_classes: usize) -> Value {
    let metrics = &result.metrics;
    let mut json = json!({
        "set": name,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "loss": metrics.loss,
        "classes": result.classes,
        "predicted_classes": predicted(result, num_classes),
        "images": metrics.images,
    });
    if let Some(mce) = result.mce() {
        json["mce"] = json!(mce);
        let errors: BTreeMap<_, _> = result.corruptions.iter().copied().collect();
        json["corruption_errors"] = json!(errors);
    }
    json
}
