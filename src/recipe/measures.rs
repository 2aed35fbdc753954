//! The tables `[knn]` and `[robustness]` of a recipe: measurements of checkpoints that need no training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::context::{Context, given};
use super::plan::Plan;
use super::stage_plan::{FinetunePlan, PretrainPlan};
use super::{setup, vars};

/// k-nearest-neighbour (k-NN) classification of the validation images, without training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnnTable {
    /// Number of nearest training images that vote. You can change this key when a run resumes.
    #[schemars(range(min = 1, max = 100_000))]
    pub k: Option<usize>,
    /// A training image votes with the weight `exp(s / temperature)`. `s` is the cosine similarity to the validation
    /// image. You can change this key when a run resumes.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub temperature: Option<f64>,
    /// The features to compare: the class token ("cls"), or the mean of the patch tokens ("mean"). You can change this
    /// key when a run resumes.
    pub pool: Option<KnnPool>,
}

/// Test sets besides the validation split. mae measures every fine-tuned checkpoint on each test set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RobustnessTable {
    /// Folders of the test sets, as `"PATH"` or `"NAME=PATH"`. The default NAME is the folder's name. mae replaces
    /// `${VAR}` by the environment variable, and matches class folders to the training classes by name. `accuracy.csv`
    /// gets a column `NAME_top1` for each test set. You can change this key when a run resumes.
    pub sets: Option<Vec<String>>,
    /// Which classes count as predictions if a test set lacks some classes. "all": all classes of the classifier.
    /// "present": only the classes in the test set. "auto": "present" if the test set has 200 of ImageNet's 1,000
    /// classes, as in ImageNet-A and ImageNet-R; otherwise "all". You can change this key when a run resumes.
    pub classes: Option<TestClasses>,
}

/// The column of `accuracy.csv` with the k-NN accuracy.
pub const KNN_COLUMN: &str = "knn_top1";

/// Settings of the k-NN classification that measures each kept pre-training checkpoint.
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

/// Which classes a classifier may predict on a test set that lacks some classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TestClasses {
    /// "present" if the test set has 200 of ImageNet's 1,000 classes, as in ImageNet-A and ImageNet-R; otherwise "all".
    #[default]
    Auto,
    /// Only the classes in the test set.
    Present,
    /// All classes of the classifier.
    All,
}

/// A test set besides the validation split.
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
        let hint = "add `[pretrain]` to the recipe, or run `mae eval --knn` with a checkpoint";
        cx.refuse(
            "knn",
            "",
            "needs the checkpoints of `[pretrain]`, but the recipe has no `[pretrain]`",
            hint,
        );
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
        let hint =
            "add `[finetune]` to the recipe, or run `mae eval --test PATH` with a checkpoint";
        cx.refuse(
            "robustness",
            "",
            "needs the checkpoints of `[finetune]`, but the recipe has no `[finetune]`",
            hint,
        );
    }
    let mut sets: Vec<TestSet> = Vec::new();
    let mut written = Vec::new();
    for text in table.sets.iter().flatten() {
        let Some(text) = setup::expanded(KEY, text, cx) else { continue };
        written.push(vars::escape(&text));
        let set = TestSet::parse(&text);
        if !is_name(&set.name) {
            let hint = "write \"NAME=PATH\". The name may contain letters, digits, `_` and `-`";
            cx.refuse(
                KEY,
                format!("\"{text}\""),
                "needs a valid name for its column of the results",
                hint,
            );
        } else if sets.iter().any(|other| other.name == set.name) || set.name == "knn" {
            let why = format!("has the name `{}`, which is already taken", set.name);
            let hint = "write \"NAME=PATH\" with another name";
            cx.refuse(KEY, format!("\"{text}\""), &why, hint);
        }
        sets.push(set);
    }
    if sets.is_empty() && table.sets.as_ref().is_none_or(Vec::is_empty) {
        let hint = "write `sets = [\"/data/imagenet-a\"]`, or remove `[robustness]`";
        cx.refuse(KEY, "", "is missing", hint);
    }
    table.sets = Some(written);
    sets
}

impl Plan {
    /// Returns whether the recipe measures an accuracy, which needs labels.
    ///
    /// False if the recipe has only `[pretrain]`.
    pub fn measures_accuracy(&self) -> bool {
        self.finetune.is_some() || self.linprobe.is_some() || self.knn.is_some()
    }

    /// Returns the columns of `accuracy.csv` for `[knn]` and `[robustness]`, such as `knn_top1`.
    pub fn measure_columns(&self) -> Vec<String> {
        let knn = self.knn.iter().map(|_| KNN_COLUMN.to_owned());
        knn.chain(self.robustness.iter().map(TestSet::column)).collect()
    }
}

impl TestSet {
    /// Parses `PATH` or `NAME=PATH`. The default name is the folder's name.
    pub fn parse(text: &str) -> Self {
        if let Some((name, path)) = text.split_once('=').filter(|(name, _)| is_name(name)) {
            return Self { name: name.to_owned(), path: path.into() };
        }
        let path = PathBuf::from(text);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, path }
    }

    /// Returns the test set's column in `accuracy.csv`, such as `imagenet-a_top1`.
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
