//! The accuracies of `[knn]` and `[robustness]`: `knn.csv` and `robustness.csv` in the run folder.
//!
//! Each table has the settings that a value was measured with. A value that was measured with other settings does not
//! count, and the run measures it again.

use super::error::{Remedy, RunError};
use super::read_checked::read_checked;
use crate::durable;
use crate::recipe::{Job, KNN_COLUMN, KnnPlan, Plan, Source, TestClasses, TestSet};
use crate::shape::StageKind;
use crate::text::{cell_text, csv_rows};
use serde::{Deserialize, Serialize};
use std::path::Path;

const KNN: &str = "knn.csv";
const ROBUSTNESS: &str = "robustness.csv";

/// A row of `knn.csv`. Accuracies are in % with two decimals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnnRow {
    pub pretrain_epoch: usize,
    pub k: usize,
    pub temperature: f64,
    pub pool: String,
    pub knn_top1: String,
    pub knn_top5: String,
    pub images: usize,
}

/// A row of `robustness.csv`: one fine-tuning, measured on one test set.
///
/// Accuracies are in % with two decimals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RobustnessRow {
    /// Folder of the fine-tuning job, such as `finetune/from-0800`.
    pub finetune_run: String,
    pub set: String,
    pub path: String,
    /// The recipe's `robustness.classes`, which sets the classes that may be predicted.
    pub classes: String,
    pub top1: String,
    pub top5: String,
    /// Mean corruption error in %. Empty unless the test set is ImageNet-C.
    pub mce: String,
    /// Number of classes in the test set.
    pub set_classes: usize,
    pub images: usize,
}

/// The rows of `knn.csv` and `robustness.csv`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeasureTables {
    knn: Vec<KnnRow>,
    robustness: Vec<RobustnessRow>,
}

impl MeasureTables {
    /// Reads `knn.csv` and `robustness.csv` in the run folder `folder`. A missing file has no rows.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        Ok(Self { knn: read(&folder.join(KNN))?, robustness: read(&folder.join(ROBUSTNESS))? })
    }

    /// Returns the row of `knn.csv` for a pre-training epoch and the settings in `plan`; `None` if missing.
    pub fn knn(&self, plan: &KnnPlan, epoch: usize) -> Option<&KnnRow> {
        let pool = recipe_word(plan.pool);
        let same = |row: &&KnnRow| {
            row.pretrain_epoch == epoch
                && row.k == plan.k
                && (row.temperature - plan.temperature).abs() < 1e-12
                && row.pool == pool
        };
        self.knn.iter().find(same)
    }

    /// Returns the row of `robustness.csv` for a test set and the fine-tuning in the folder `dir`; `None` if missing.
    pub fn robustness(
        &self,
        set: &TestSet,
        classes: TestClasses,
        dir: &str,
    ) -> Option<&RobustnessRow> {
        let (path, classes) = (set.path.display().to_string(), recipe_word(classes));
        let same = |row: &&RobustnessRow| {
            row.finetune_run == dir
                && row.set == set.name
                && row.path == path
                && row.classes == classes
        };
        self.robustness.iter().find(same)
    }

    /// Adds a row to `knn.csv`. Replaces an existing row with the same epoch.
    pub fn add_knn(&mut self, folder: &Path, row: KnnRow) -> Result<(), RunError> {
        self.knn.retain(|old| old.pretrain_epoch != row.pretrain_epoch);
        self.knn.push(row);
        self.knn.sort_by_key(|row| row.pretrain_epoch);
        write(&folder.join(KNN), &self.knn)
    }

    /// Adds a row to `robustness.csv`. Replaces an existing row with the same fine-tuning and test set.
    pub fn add_robustness(&mut self, folder: &Path, row: RobustnessRow) -> Result<(), RunError> {
        self.robustness
            .retain(|old| (&old.finetune_run, &old.set) != (&row.finetune_run, &row.set));
        self.robustness.push(row);
        self.robustness.sort_by(|a, b| (&a.finetune_run, &a.set).cmp(&(&b.finetune_run, &b.set)));
        write(&folder.join(ROBUSTNESS), &self.robustness)
    }

    /// Returns the cells for the row of `source` in `accuracy.csv`, as (column name, cell).
    pub(super) fn cells(
        &self,
        plan: &Plan,
        source: &Source,
        jobs: &[Job],
    ) -> Vec<(String, String)> {
        let mut cells = Vec::new();
        if let Some(knn) = &plan.knn {
            let row = match source {
                Source::Epoch(epoch) => self.knn(knn, *epoch),
                _ => None,
            };
            let cell = row.map(|row| row.knn_top1.clone()).unwrap_or_default();
            cells.push((KNN_COLUMN.to_owned(), cell));
        }
        let is_start =
            |job: &&Job| job.stage == StageKind::Finetune && job.from.as_ref() == Some(source);
        let finetune = jobs.iter().find(is_start);
        for set in &plan.robustness {
            let row =
                finetune.and_then(|job| self.robustness(set, plan.robustness_classes, &job.dir));
            cells.push((set.column(), row.map(|row| row.top1.clone()).unwrap_or_default()));
        }
        cells
    }
}

/// Returns a recipe value as text, for example `"cls"` for `KnnPool::Cls`.
pub fn recipe_word(choice: impl Serialize) -> String {
    let word = serde_json::to_value(choice).expect("a choice is a word");
    word.as_str().unwrap_or_default().to_owned()
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>, RunError> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = read_checked(path, Remedy::WrittenAnew)?;
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let damaged = |e: csv::Error| RunError::broken_table(path.to_owned(), e.to_string());
    let headers = reader.headers().map_err(damaged)?.clone();
    let rows = reader.records().map(|record| {
        let record: csv::StringRecord = record?.iter().map(cell_text).collect();
        record.deserialize(Some(&headers))
    });
    rows.collect::<Result<_, csv::Error>>().map_err(damaged)
}

fn write<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), RunError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a row has only plain fields");
    }
    let plain = writer.into_inner().expect("a vector takes every byte");
    // Escapes cells that a spreadsheet would run as a formula.
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&plain[..]);
    let records: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().expect("the rows were just written");
    let bytes = csv_rows(&records, csv::Terminator::CRLF);
    durable::write(path, &bytes).map_err(RunError::io(path))
}

#[cfg(test)]
mod tests {
    use super::{KnnRow, MeasureTables, RobustnessRow};
    use crate::recipe::{KnnPlan, KnnPool, TestClasses, TestSet};

    #[test]
    fn only_values_with_the_same_settings_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut measured = MeasureTables::default();
        let row = |epoch: usize, top1: &str| KnnRow {
            pretrain_epoch: epoch,
            k: 20,
            temperature: 0.07,
            pool: "cls".to_owned(),
            knn_top1: top1.to_owned(),
            knn_top5: "99.00".to_owned(),
            images: 360,
        };
        for (epoch, top1) in [(8, "80.00"), (4, "70.00"), (8, "81.00")] {
            measured.add_knn(dir.path(), row(epoch, top1)).unwrap();
        }
        let set = TestSet { name: "a".to_owned(), path: "=x".into() };
        let robust = RobustnessRow {
            finetune_run: "finetune/from-0008".to_owned(),
            set: "a".to_owned(),
            path: "=x".to_owned(),
            classes: "auto".to_owned(),
            top1: "35.90".to_owned(),
            top5: "60.00".to_owned(),
            mce: String::new(),
            set_classes: 200,
            images: 7500,
        };
        measured.add_robustness(dir.path(), robust.clone()).unwrap();
        let read = MeasureTables::read(dir.path()).unwrap();
        assert_eq!(read, measured);
        let plan = KnnPlan { k: 20, temperature: 0.07, pool: KnnPool::Cls };
        assert_eq!(read.knn(&plan, 8), Some(&row(8, "81.00")));
        assert_eq!(read.knn(&KnnPlan { k: 10, ..plan.clone() }, 8), None);
        assert_eq!(read.knn(&KnnPlan { pool: KnnPool::Mean, ..plan }, 8), None);
        assert_eq!(read.robustness(&set, TestClasses::Auto, "finetune/from-0008"), Some(&robust));
        let moved = TestSet { path: "y".into(), ..set };
        assert_eq!(read.robustness(&moved, TestClasses::Auto, "finetune/from-0008"), None);
    }
}
