//! The runs of a comparison, with their results.

use super::curve::Curve;
use crate::recipe::Recipe;
use crate::results::accuracy::{AccuracyRow, COLUMNS};
use std::cmp::Ordering;

const PERCENT: f64 = 100.0;

/// A compared run: a run folder, a log, or one series of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Run {
    /// Name in the CSV file. All series of a published table have the same name.
    pub(super) name: String,
    /// Name in the terminal. Each series of a published table has a different label.
    pub(super) label: String,
    /// Path of the run's folder or file. For published results, the table name.
    pub(super) place: String,
    /// Whether the results are from a published table.
    pub(super) published: bool,
    /// The resolved recipe; `None` for a table or a log.
    pub(super) recipe: Option<Recipe>,
    /// Dotted recipe keys and their values, such as `pretrain.mask_ratio` and `0.75`.
    pub(super) settings: Vec<(String, String)>,
    pub(super) swept: Vec<String>,
    pub(super) origin: Option<RunOrigin>,
    pub(super) unfinished: bool,
    /// Folders of unfinished jobs, such as `finetune/from-0800`.
    pub(super) open_jobs: Vec<String>,
    pub(super) data_fingerprint: Option<String>,
    /// Number of validation images; `None` if unknown.
    pub(super) val_images: Option<usize>,
    pub(super) rows: Vec<ComparisonRow>,
    pub(super) curves: Vec<Curve>,
    /// Notes to the user, such as `line 3 is incomplete`.
    pub(super) remarks: Vec<String>,
}

/// The model and the varied setting of a published result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunOrigin {
    pub(super) model: String,
    pub(super) variant: String,
    pub(super) value: String,
}

/// The results of a run for one checkpoint, or for training from scratch.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ComparisonRow {
    pub(super) key: SettingKey,
    pub(super) cells: AccuracyRow,
    pub(super) finetune: Option<f64>,
    pub(super) linprobe: Option<f64>,
    pub(super) loss: Option<f64>,
    /// Accuracies of `[knn]` and `[robustness]`, in the order of `Comparison::measures`.
    pub(super) measures: Vec<Option<f64>>,
    pub(super) source: String,
}

/// Identifies the checkpoint of a row. Results with the same key are compared in one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SettingKey {
    /// Pre-training epoch: 0 for training from scratch, `None` for a checkpoint file.
    pub(super) epoch: Option<usize>,
    pub(super) annealed: Option<bool>,
    /// Name of the checkpoint file. Empty if the run has only one such file.
    pub(super) file: String,
}

/// A metric in the result tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Finetune,
    Linprobe,
    PretrainLoss,
    /// An accuracy of `[knn]` or `[robustness]`, as an index into `Comparison::measures`.
    Measure(usize),
}

impl Run {
    pub(super) fn row(&self, key: &SettingKey) -> Option<&ComparisonRow> {
        self.rows.iter().find(|row| row.key == *key)
    }

    pub(super) fn is_open(&self, job: &str) -> bool {
        self.open_jobs.iter().any(|open| open == job)
    }

    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn val_skipped(&self) -> usize {
        self.rows.iter().filter_map(|row| row.cells.skipped_images()).max().unwrap_or(0)
    }

    pub(super) fn sort_rows(&mut self) {
        self.rows.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

impl RunOrigin {
    pub(super) fn label(&self, name: &str) -> String {
        let Self { model, variant, value } = self;
        let variant = match (variant.as_str(), value.as_str()) {
            (variant, "") => variant.to_owned(),
            ("epochs", _) => "epochs".to_owned(),
            _ => format!("{variant}={value}"),
        };
        let parts = [name, model, &variant];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Returns whether two published results differ only in the number of pre-training epochs.
    pub(super) fn is_series_of(&self, other: &Self) -> bool {
        let value =
            |of: &Self| if of.variant == "epochs" { String::new() } else { of.value.clone() };
        self.model == other.model && self.variant == other.variant && value(self) == value(other)
    }
}

impl ComparisonRow {
    /// Parses the numbers in `cells`. An error names the column.
    pub(super) fn of(cells: AccuracyRow, source: String) -> Result<Self, String> {
        let refuse = |column: &str, text: &str, what: &str| {
            format!("`{column}` is `{text}`, expected {what}")
        };
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
        for (column, text) in COLUMNS.into_iter().zip(cells.cells()) {
            if column.contains("top") {
                number(column, text, PERCENT)?;
            }
        }
        for (column, text) in &cells.measures {
            number(column, text, PERCENT)?;
        }
        let run =
            if cells.finetune.run.is_empty() { &cells.linprobe.run } else { &cells.finetune.run };
        let file = if epoch.is_none() { run.rsplit('/').next().unwrap_or_default() } else { "" };
        Ok(Self {
            key: SettingKey { epoch, annealed, file: file.to_owned() },
            finetune: number("finetune_top1", &cells.finetune.top1, PERCENT)?,
            linprobe: number("linprobe_top1", &cells.linprobe.top1, PERCENT)?,
            loss: number("pretrain_loss", &cells.pretrain_loss, f64::MAX)?,
            measures: Vec::new(),
            cells,
            source,
        })
    }

    /// Returns the folder of the job that measured `metric`.
    pub(super) fn job(&self, metric: Metric) -> Option<&str> {
        match metric {
            Metric::Finetune => Some(&self.cells.finetune.run),
            Metric::Linprobe => Some(&self.cells.linprobe.run),
            Metric::PretrainLoss | Metric::Measure(_) => None,
        }
    }

    pub(super) fn has_accuracy(&self) -> bool {
        let measures = self.measures.iter().copied();
        [self.finetune, self.linprobe].into_iter().chain(measures).any(|value| value.is_some())
    }

    pub(super) fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Finetune => self.finetune,
            Metric::Linprobe => self.linprobe,
            Metric::PretrainLoss => self.loss,
            Metric::Measure(index) => self.measures.get(index).copied().flatten(),
        }
    }
}

impl Ord for SettingKey {
    /// Sorts by pre-training epoch. Checkpoint files come last.
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
