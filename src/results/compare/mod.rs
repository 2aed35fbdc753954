//! Several runs side by side: in which settings they differ, and what came of it.
//!
//! Three steps: `input` reads what the arguments name (`table`, `log` and `published` are its formats) into [`Run`]s;
//! [`Comparison`] finds the settings that differ and the runs that differ only in their seed, and measures each group
//! against the first; `text`, `sheet` (the CSV) and `xlsx` show it. What counts as a difference is `seeds::noise`.

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

/// One column of a comparison: a run, or a series of a table.
#[derive(Debug, Clone, PartialEq, Default)]
struct Run {
    /// What the CSV calls it; a published table's runs share one.
    name: String,
    /// What a reader sees; tells the series of a table apart.
    label: String,
    /// Where it was read.
    place: String,
    /// Whether it is part of the program's published figures.
    published: bool,
    /// `None` where only a table or a log is there.
    recipe: Option<Recipe>,
    /// Everything a recipe says, or what little a table does: (dotted key, value as TOML text or as the table has it).
    settings: Vec<(String, String)>,
    swept: Vec<String>,
    origin: Option<RunOrigin>,
    /// Whether a run has begun and not ended.
    unfinished: bool,
    /// The folders of jobs that have begun and not ended.
    open_jobs: Vec<String>,
    data_fingerprint: Option<String>,
    /// Images of the validation split, where that is known.
    val_images: Option<usize>,
    rows: Vec<ComparisonRow>,
    curves: Vec<Curve>,
}

/// What a published figure is of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RunOrigin {
    model: String,
    variant: String,
    value: String,
}

/// One starting point of a run, and what was measured from it.
#[derive(Debug, Clone, PartialEq, Default)]
struct ComparisonRow {
    key: SettingKey,
    cells: AccuracyRow,
    finetune: Option<f64>,
    linprobe: Option<f64>,
    loss: Option<f64>,
    source: String,
}

/// What may stand on one row: the same epoch, and both annealed or both not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct SettingKey {
    /// 0 is a start from scratch; `None` a file.
    epoch: Option<usize>,
    annealed: Option<bool>,
    /// Tells a run's starts from several files apart.
    file: String,
}

/// A measured column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Finetune,
    Linprobe,
    PretrainLoss,
}

/// A group against the first one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    points: f64,
    /// Up to which it says nothing.
    noise: f64,
}

/// A setting that is not the same in all runs.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    key: String,
    /// For each run; `None` where it is not known.
    values: Vec<Option<String>>,
}

/// Runs, and what is to be said about them together.
#[derive(Debug)]
pub struct Comparison {
    runs: Vec<Run>,
    /// Runs that differ only in their seed, as indices.
    groups: Vec<Vec<usize>>,
    /// Swept keys first.
    settings: Vec<Setting>,
    /// The rows of a table of results, in order.
    keys: Vec<SettingKey>,
}

impl Comparison {
    /// Reads what the arguments name: folders of runs and sweeps, tables, logs, patterns of those; and published figures.
    ///
    /// Fails where one of them cannot be used, or only one run is there.
    pub fn read(arguments: &[String], published: &[String]) -> Result<Self, CompareError> {
        let runs = input::read(arguments, published)?;
        Ok(Self {
            groups: groups::over_seeds(&runs),
            settings: groups::settings(&runs),
            keys: groups::keys(&runs),
            runs,
        })
    }

    /// Gives the comparison for a terminal.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Writes one tidy table, a row for each run and pre-training epoch.
    pub fn write_csv(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        sheet::write_csv(path, &sheet::summary(self))
    }

    /// Writes an Excel workbook: the same table, the differences, the seeds' groups, every epoch, with charts.
    pub fn write_xlsx(&self, path: &Path) -> Result<(), CompareError> {
        self.check_output(path)?;
        xlsx::write(path, self)
    }

    /// Refuses a place that is not there, or is part of what is compared.
    pub fn check_output(&self, path: &Path) -> Result<(), CompareError> {
        let refuse = |problem: &str, hint| {
            let (path, problem) = (path.to_owned(), problem.to_owned());
            Err(CompareError::Output { path, problem, hint })
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return refuse("its folder is not there", "make the folder, or write somewhere else");
        }
        if path.is_dir() {
            return refuse("a folder, not a file", "name a file in it");
        }
        let read = path.canonicalize().is_ok_and(|path| {
            let places =
                self.runs.iter().filter_map(|run| Path::new(&run.place).canonicalize().ok());
            // A sweep's own table lies beside its points.
            places.into_iter().any(|place| {
                path.starts_with(&place)
                    || path.parent() == place.parent() && path.ends_with("accuracy.csv")
            })
        });
        if read {
            return refuse("part of what is compared", "write to another place");
        }
        Ok(())
    }

    fn measured(&self, group: &[usize], key: &SettingKey, metric: Metric) -> Option<Measured> {
        let runs = group.iter().map(|run| &self.runs[*run]);
        let values = runs.filter_map(|run| run.row(key)?.value(metric));
        Measured::of(&values.collect::<Vec<_>>())
    }

    /// A group against the first; `None` for the first itself, and where one of the two has nothing.
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

    /// Whether a figure of the group is one of a job that is not at its end.
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

    /// Whether both are points of one series: along `epochs` they are.
    fn is_series_of(&self, other: &Self) -> bool {
        let value =
            |of: &Self| if of.variant == "epochs" { String::new() } else { of.value.clone() };
        self.model == other.model && self.variant == other.variant && value(self) == value(other)
    }
}

impl ComparisonRow {
    /// Reads the numbers of cells; the error names the column.
    fn of(cells: AccuracyRow, source: String) -> Result<Self, String> {
        let refuse =
            |column: &str, text: &str, what: &str| format!("{column} `{text}` is not {what}");
        let number = |column: &str, text: &str, most: f64| match text.parse::<f64>() {
            _ if text.is_empty() => Ok(None),
            Ok(number) if (0.0..=most).contains(&number) => Ok(Some(number)),
            _ => Err(refuse(column, text, "a number that this column can have")),
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
                number(column, text, 100.0)?;
            }
        }
        let run =
            if cells.finetune.run.is_empty() { &cells.linprobe.run } else { &cells.finetune.run };
        let file = if epoch.is_none() { run.rsplit('/').next().unwrap_or_default() } else { "" };
        Ok(Self {
            key: SettingKey { epoch, annealed, file: file.to_owned() },
            finetune: number("finetune_top1", &cells.finetune.top1, 100.0)?,
            linprobe: number("linprobe_top1", &cells.linprobe.top1, 100.0)?,
            loss: number("pretrain_loss", &cells.pretrain_loss, f64::MAX)?,
            cells,
            source,
        })
    }

    /// The folder of the job that measured it.
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
    /// By epoch, files last; what is not annealed first.
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
