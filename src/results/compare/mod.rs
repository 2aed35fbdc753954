//! `mae compare`: the settings in which runs differ, and their accuracies side by side.
//!
//! Three steps:
//!
//! 1. `input` reads the arguments into [`Run`]s. Its formats are in `table`, `log` and `published`.
//! 2. [`Comparison`] finds the settings that differ, groups the runs that differ only in their seed, and compares each
//!    group with the first one. `seeds::noise` decides which differences may be chance.
//! 3. `text`, `sheet` (CSV) and `xlsx` print or write the result.

mod charts;
mod curve;
mod error;
mod grid;
mod groups;
mod input;
mod log;
mod notes;
mod published;
mod sheet;
mod table;
mod text;
mod xlsx;

pub use error::CompareError;

use super::accuracy::AccuracyRow;
use crate::recipe::Recipe;
use crate::results::seeds::{self, Measured};
use curve::Curve;
use std::cmp::Ordering;
use std::path::Path;

/// The largest accuracy.
const PERCENT: f64 = 100.0;

/// One column of a comparison: a run, or one series of a table.
#[derive(Debug, Clone, PartialEq, Default)]
struct Run {
    /// Name in the CSV file. All series of a published table have the same name.
    name: String,
    /// Name in the terminal. Differs between the series of a table.
    label: String,
    /// Path or name of the source.
    place: String,
    /// Whether it comes from a published table of this program.
    published: bool,
    /// `None` for a table or a log.
    recipe: Option<Recipe>,
    /// Dotted keys and values: all settings of a recipe (values as TOML), or the setting columns of a table (as written).
    settings: Vec<(String, String)>,
    swept: Vec<String>,
    origin: Option<RunOrigin>,
    /// Whether the run has not finished.
    unfinished: bool,
    /// Folders of the jobs that have started but not finished.
    open_jobs: Vec<String>,
    data_fingerprint: Option<String>,
    /// Number of images in the validation split, if known.
    val_images: Option<usize>,
    rows: Vec<ComparisonRow>,
    curves: Vec<Curve>,
}

/// What a published result was measured on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RunOrigin {
    model: String,
    variant: String,
    value: String,
}

/// One starting point of a run and the results from there.
#[derive(Debug, Clone, PartialEq, Default)]
struct ComparisonRow {
    key: SettingKey,
    cells: AccuracyRow,
    finetune: Option<f64>,
    linprobe: Option<f64>,
    loss: Option<f64>,
    source: String,
}

/// Key of a row. Results share a row only if their epoch is the same, and both or neither are annealed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct SettingKey {
    /// 0 for a start from scratch, `None` for a start from a file.
    epoch: Option<usize>,
    annealed: Option<bool>,
    /// Distinguishes starts from several files.
    file: String,
}

/// A metric that runs are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Finetune,
    Linprobe,
    PretrainLoss,
}

/// Difference between a group and the first one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    points: f64,
    /// A difference up to this limit may be chance.
    noise: f64,
}

/// A setting that differs between runs.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    key: String,
    /// One value per run; `None` if unknown.
    values: Vec<Option<String>>,
}

/// Several runs, compared.
#[derive(Debug)]
pub struct Comparison {
    runs: Vec<Run>,
    /// Groups of runs that differ only in their seed, as indices into `runs`.
    groups: Vec<Vec<usize>>,
    /// The settings that differ, swept keys first.
    settings: Vec<Setting>,
    /// The rows of the result tables, in order.
    keys: Vec<SettingKey>,
}

impl Comparison {
    /// Reads folders of runs and sweeps, tables, logs and patterns of these, and the published tables of these names.
    ///
    /// Fails if one of them cannot be used, or if there is only one run.
    pub fn read(arguments: &[String], published: &[String]) -> Result<Self, CompareError> {
        let runs = input::read(arguments, published)?;
        Ok(Self {
            groups: groups::over_seeds(&runs),
            settings: groups::settings(&runs),
            keys: groups::keys(&runs),
            runs,
        })
    }

    /// Returns the comparison as text for a terminal.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Writes one CSV table with a row for each run and pre-training epoch.
    pub fn write_csv(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        sheet::write_csv(path, &sheet::summary(self))
    }

    /// Writes an Excel workbook: the same table, the settings that differ, the groups of seeds, every epoch, and charts.
    pub fn write_xlsx(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        xlsx::write(path, self)
    }

    /// Fails if `path` cannot be a file, or belongs to a compared run.
    pub fn check_output(&self, path: &Path) -> Result<(), CompareError> {
        let refuse = |problem: &str, hint| {
            let (path, problem) = (path.to_owned(), problem.to_owned());
            Err(CompareError::Output { path, problem, hint })
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return refuse(
                "the folder does not exist",
                "create the folder, or choose another path",
            );
        }
        if path.is_dir() {
            return refuse("it is a folder", "name a file in this folder");
        }
        let read = path.canonicalize().is_ok_and(|path| {
            let places =
                self.runs.iter().filter_map(|run| Path::new(&run.place).canonicalize().ok());
            // The table of a sweep is in the same folder as its points.
            places.into_iter().any(|place| {
                path.starts_with(&place)
                    || path.parent() == place.parent() && path.ends_with("accuracy.csv")
            })
        });
        if read {
            return refuse(
                "it is a file of a compared run",
                "choose a path outside the compared runs",
            );
        }
        Ok(())
    }

    fn measured(&self, group: &[usize], key: &SettingKey, metric: Metric) -> Option<Measured> {
        let runs = group.iter().map(|run| &self.runs[*run]);
        let values = runs.filter_map(|run| run.row(key)?.value(metric));
        Measured::of(&values.collect::<Vec<_>>())
    }

    /// Returns the difference to the first group; `None` for the first group itself, and if a value is missing.
    fn against_first(
        &self,
        group: &[usize],
        key: &SettingKey,
        metric: Metric,
    ) -> Option<Difference> {
        let first = self.groups.first().filter(|first| *first != group)?;
        let (a, b) = (self.measured(first, key, metric)?, self.measured(group, key, metric)?);
        let images = self.val_images(first).or_else(|| self.val_images(group));
        Some(Difference { points: b.mean - a.mean, noise: seeds::noise(&a, &b, images) })
    }

    fn val_images(&self, group: &[usize]) -> Option<usize> {
        self.runs[*group.first()?].val_images
    }

    /// Whether a value of the group comes from a job that has not finished.
    fn is_open(&self, group: &[usize], key: &SettingKey, metric: Metric) -> bool {
        group.iter().any(|run| {
            let run = &self.runs[*run];
            run.row(key).is_some_and(|row| row.job(metric).is_some_and(|job| run.is_open(job)))
        })
    }

    fn group_of(&self, run: usize) -> &[usize] {
        let found = self.groups.iter().find(|group| group.contains(&run));
        found.expect("every run is in a group")
    }
}

impl Difference {
    fn is_inside_noise(&self) -> bool {
        seeds::is_inside(self.points, self.noise)
    }
}

impl Run {
    fn row(&self, key: &SettingKey) -> Option<&ComparisonRow> {
        self.rows.iter().find(|row| row.key == *key)
    }

    fn is_open(&self, job: &str) -> bool {
        self.open_jobs.iter().any(|open| open == job)
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn sort_rows(&mut self) {
        self.rows.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

impl RunOrigin {
    fn label(&self, name: &str) -> String {
        let Self { model, variant, value } = self;
        let variant = match (variant.as_str(), value.as_str()) {
            (variant, "") => variant.to_owned(),
            ("epochs", _) => "epochs".to_owned(),
            _ => format!("{variant}={value}"),
        };
        let parts = [name, model, &variant];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Whether both belong to the same series. A series of the variant `epochs` covers several values.
    fn is_series_of(&self, other: &Self) -> bool {
        let value =
            |of: &Self| if of.variant == "epochs" { String::new() } else { of.value.clone() };
        self.model == other.model && self.variant == other.variant && value(self) == value(other)
    }
}

impl ComparisonRow {
    /// Parses the numbers in `cells`. The error names the column.
    fn of(cells: AccuracyRow, source: String) -> Result<Self, String> {
        let refuse =
            |column: &str, text: &str, what: &str| format!("{column} `{text}` is not {what}");
        let number = |column: &str, text: &str, most: f64| match text.parse::<f64>() {
            _ if text.is_empty() => Ok(None),
            Ok(number) if (0.0..=most).contains(&number) => Ok(Some(number)),
            _ if most > PERCENT => Err(refuse(column, text, "a number of at least 0")),
            _ => Err(refuse(column, text, "a number from 0 to 100")),
        };
        let epoch = match cells.pretrain_epoch.parse() {
            _ if cells.pretrain_epoch.is_empty() => None,
            Ok(epoch) => Some(epoch),
            Err(_) => {
                return Err(refuse("pretrain_epoch", &cells.pretrain_epoch, "a whole number"));
            }
        };
        let annealed = match cells.annealed.as_str() {
            "" => None,
            "0" => Some(false),
            "1" => Some(true),
            other => return Err(refuse("annealed", other, "0 or 1")),
        };
        for (column, text) in crate::results::accuracy::COLUMNS.into_iter().zip(cells.cells()) {
            if column.contains("top") {
                number(column, text, PERCENT)?;
            }
        }
        let run =
            if cells.finetune.run.is_empty() { &cells.linprobe.run } else { &cells.finetune.run };
        let file = if epoch.is_none() { run.rsplit('/').next().unwrap_or_default() } else { "" };
        Ok(Self {
            key: SettingKey { epoch, annealed, file: file.to_owned() },
            finetune: number("finetune_top1", &cells.finetune.top1, PERCENT)?,
            linprobe: number("linprobe_top1", &cells.linprobe.top1, PERCENT)?,
            loss: number("pretrain_loss", &cells.pretrain_loss, f64::MAX)?,
            cells,
            source,
        })
    }

    /// Returns the folder of the job that measured `metric`.
    fn job(&self, metric: Metric) -> Option<&str> {
        match metric {
            Metric::Finetune => Some(&self.cells.finetune.run),
            Metric::Linprobe => Some(&self.cells.linprobe.run),
            Metric::PretrainLoss => None,
        }
    }

    fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Finetune => self.finetune,
            Metric::Linprobe => self.linprobe,
            Metric::PretrainLoss => self.loss,
        }
    }
}

impl Ord for SettingKey {
    /// Sorts by epoch, starts from files last; of one epoch, checkpoints that are not annealed first.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |key: &Self| {
            (key.epoch.unwrap_or(usize::MAX), key.annealed.map_or(2, u8::from), key.file.clone())
        };
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for SettingKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
