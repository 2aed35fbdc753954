//! The tables `[knn]` and `[robustness]` of a recipe: measurements of checkpoints that need no training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::context::{Context, given};
use super::plan::Plan;
use super::stage_plan::{FinetunePlan, PretrainPlan};
use super::{setup, vars};

/// Classification of the validation images by the nearest training images, without training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnnTable {
    /// Number of nearest training images that vote. Can change when a run continues.
    #[schemars(range(min = 1, max = 100_000))]
    pub k: Option<usize>,
    /// A training image with cosine similarity `s` votes with the weight `exp(s / temperature)`. Can change when a run
    /// continues.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub temperature: Option<f64>,
    /// The features to compare: the class token ("cls"), or the mean of the patch tokens ("mean"). Can change when a run
    /// continues.
    pub pool: Option<KnnPool>,
}

/// Test sets other than the validation split, on which every fine-tuned checkpoint is measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RobustnessTable {
    /// Folders of the test sets, as `"PATH"` or `"NAME=PATH"`. The default NAME is the folder's name. `${VAR}` is replaced
    /// by the environment variable. Class folders are matched to the classes of the data by name. `accuracy.csv` gets a
    /// column `NAME_top1` for each set. Can change when a run continues.
    pub sets: Option<Vec<String>>,
    /// Which classes may be predicted if a test set lacks some classes: "all", or "present" for only the classes in the
    /// set. "auto" means "present" for ImageNet-A and ImageNet-R, which have 200 of ImageNet's classes, otherwise "all".
    /// Can change when a run continues.
    pub classes: Option<TestClasses>,
}

/// The column of `accuracy.csv` with the k-NN accuracy.
pub const KNN_COLUMN: &str = "knn_top1";

/// The settings of the k-NN classification of each kept pre-training checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct KnnPlan {
    pub k: usize,
    pub temperature: f64,
    pub pool: KnnPool,
}

/// The features that k-NN classification compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KnnPool {
    /// The class token.
    Cls,
    /// The mean of the patch tokens.
    Mean,
}

/// Which classes may be predicted on a test set that lacks some of the classifier's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TestClasses {
    /// The classes in the test set if they are 200 of ImageNet's 1,000 classes, as in ImageNet-A and ImageNet-R;
    /// otherwise all classes.
    #[default]
    Auto,
    /// The classes in the test set.
    Present,
    /// All classes of the classifier.
    All,
}

/// A test set other than the validation split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestSet {
    pub name: String,
    pub path: PathBuf,
}

pub(super) fn knn(
    table: &KnnTable,
    pretrain: Option<&PretrainPlan>,
    cx: &mut Context<'_>,
) -> KnnPlan {
    if pretrain.is_none() {
        let hint = "add [pretrain], or use `mae eval --knn` on a checkpoint";
        cx.refuse("knn", "", "needs the checkpoints of a [pretrain]", hint);
    }
    KnnPlan {
        k: given(table.k.as_ref()),
        temperature: given(table.temperature.as_ref()),
        pool: given(table.pool.as_ref()),
    }
}

pub(super) fn robustness(
    table: &mut RobustnessTable,
    finetune: Option<&FinetunePlan>,
    cx: &mut Context<'_>,
) -> Vec<TestSet> {
    const KEY: &str = "robustness.sets";
    if finetune.is_none() {
        let hint = "add [finetune], or use `mae eval --test PATH` on a checkpoint";
        cx.refuse("robustness", "", "needs the checkpoints of a [finetune]", hint);
    }
    let mut sets: Vec<TestSet> = Vec::new();
    let mut written = Vec::new();
    for text in table.sets.iter().flatten() {
        let Some(text) = setup::expanded(KEY, text, cx) else { continue };
        written.push(vars::escape(&text));
        let set = TestSet::parse(&text);
        if !is_name(&set.name) {
            let hint = "write \"NAME=PATH\" with a name of letters, digits, `_` and `-`";
            cx.refuse(KEY, format!("\"{text}\""), "has no valid name for its column", hint);
        } else if sets.iter().any(|other| other.name == set.name) || set.name == "knn" {
            let why = format!("has the name `{}`, which is already taken", set.name);
            let hint = "write \"NAME=PATH\" with another name";
            cx.refuse(KEY, format!("\"{text}\""), &why, hint);
        }
        sets.push(set);
    }
    if sets.is_empty() && table.sets.as_ref().is_none_or(Vec::is_empty) {
        let hint = "write `sets = [\"/data/imagenet-a\"]`, or remove [robustness]";
        cx.refuse(KEY, "", "is missing", hint);
    }
    table.sets = Some(written);
    sets
}

impl Plan {
    /// Returns whether the recipe measures an accuracy and so needs labels. Pre-training alone measures none.
    pub fn measures_accuracy(&self) -> bool {
        self.finetune.is_some() || self.linprobe.is_some() || self.knn.is_some()
    }

    /// Returns the names of `accuracy.csv`'s columns for `[knn]` and for the test sets of `[robustness]`.
    pub fn measure_columns(&self) -> Vec<String> {
        let knn = self.knn.iter().map(|_| KNN_COLUMN.to_owned());
        knn.chain(self.robustness.iter().map(TestSet::column)).collect()
    }
}

impl TestSet {
    /// Parses `PATH` or `NAME=PATH`. The default name is the name of the folder.
    pub fn parse(text: &str) -> Self {
        if let Some((name, path)) = text.split_once('=').filter(|(name, _)| is_name(name)) {
            return Self { name: name.to_owned(), path: path.into() };
        }
        let path = PathBuf::from(text);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, path }
    }

    /// Returns the name of the test set's column in `accuracy.csv`.
    pub fn column(&self) -> String {
        format!("{}_top1", self.name)
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reserved = ["finetune", "linprobe", "finetune_best", "linprobe_best"];
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && !reserved.contains(&name)
}
