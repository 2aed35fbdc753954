//! The recipe: one TOML file is one experiment.
//!
//! [`resolve()`] turns a file into plans, in five steps:
//!
//! 1. `layers` (with `parse`) reads the defaults (`defaults.toml`), the recipes in `extends`, the file, the environment
//!    and `--set`, and merges them in this order. It remembers the layer of each value, and the line of each key in a
//!    file.
//! 2. `check` compares the merged tree with the JSON Schema of `schema`, `stages` and `values`: unknown keys (`near`
//!    suggests the intended one), wrong types, invalid words, numbers out of range.
//! 3. `sweep` removes `[sweep]` from the tree. It returns the points of the grid, which are the runs, with their names.
//! 4. For each point, `name`, `setup`, `training`, `sources` and `measures` derive the other values and reject impossible
//!    combinations. `context` collects the problems.
//! 5. The result is a [`Plan`], which the program runs, and a [`Recipe`] with every value written out (`write`), which
//!    reproduces the run.
//!
//! A checkpoint has settings, too. [`resolve_checkpoint`] merges them as layers. `stated` rejects settings that
//! contradict the checkpoint's weights.
//!
//! A setting has two forms. [`Recipe`] has the keys of the file as optional fields. [`Plan`] has the values that the
//! run uses. Only `resolve` converts a recipe to a plan, so no other code checks whether a key is set.
//!
//! `layout` says how updates are spread over devices, and when this may change. `network` estimates the time of sums
//! between hosts. `jobs` and `cost` compute jobs, steps, parameters, FLOPs and memory from a plan. `official` maps keys to
//! flags of the official code. This module does not use tensors, devices or data files. It does not print, and does not
//! read the environment of the process.

mod augmentation;
mod check;
mod context;
mod cost;
mod dims;
mod error;
mod jobs;
#[cfg(test)]
mod laws;
mod layers;
mod layout;
mod masking;
mod measures;
mod name;
mod near;
mod network;
mod official;
mod parse;
mod plan;
mod rand_augment;
mod resolve;
mod schema;
mod setup;
mod sizes;
mod sources;
mod stage_plan;
mod stages;
mod stated;
mod sweep;
mod tidy_schema;
mod training;
mod values;
mod vars;
mod write;

pub use cost::{Cost, Dims, Memory};
pub use error::{Origin, Other, Problem, RecipeError, RecipeErrors};
pub use jobs::{Job, NeverUpdates, Steps};
pub use layers::BaseLayer;
pub use layout::{Batches, Layout, Pace};
pub use measures::{KNN_COLUMN, KnnPlan, KnnPool, KnnTable, RobustnessTable, TestClasses, TestSet};
pub use near::word as nearest;
pub use network::Network;
pub use official::official_flag;
pub use plan::*;
pub use rand_augment::RandAugmentPlan;
pub use resolve::{
    Missing, MissingFile, Options, Resolved, ResolvedPoint, check_keys, is_default, resolve,
    resolve_checkpoint, resolve_text, set_key,
};
pub use schema::{Data, Model, Recipe, Runtime, schema};
pub use setup::IMAGENET_MEAN_STD;
pub use sizes::ModelSize;
pub use stage_plan::{
    FinetunePlan, LinprobePlan, OnNan, PretrainPlan, PretrainStart, Source, TrainingPlan,
};
pub use stages::{Augment, Finetune, Linprobe, Pretrain};
pub use values::{All, Auto, FromEntry, Off, OneOrMany, Or};
pub use write::{NOT_SET, differences, differing, is_stage, recipe_toml, settings};
