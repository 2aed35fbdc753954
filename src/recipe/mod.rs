//! The recipe: one TOML file is one whole experiment.
//!
//! [`resolve`] turns a file into what will run, in five steps, each a file or two here:
//!
//! 1. `layers` (with `parse`) reads the defaults (`defaults.toml`), what the file `extends`, the
//!    file, the environment and `--set`, and merges them in this order; every value remembers its
//!    layer, every key of a file its line.
//! 2. `check` holds the merged tree against the JSON Schema, which `schema`, `stages` and `values`
//!    describe: unknown keys (`near` finds the meant one), types, closed sets, ranges.
//! 3. `sweep` takes the grid out of the tree and names its points.
//! 4. For each point, `name`, `setup`, `training` and `sources` derive what follows from other keys
//!    and refuse what is impossible together. `context` carries the problems along.
//! 5. What comes out is a [`Plan`], for those who run it, and a [`Recipe`] with everything written
//!    out (`write`), for those who read or repeat it.
//!
//! Two forms of a setting: [`Recipe`] is what a file says, optional and with TOML's names; [`Plan`]
//! is what will run, nothing optional. Only [`resolve`] turns one into the other and refuses; past
//! it nobody asks "was this set?".
//!
//! `jobs` and `cost` are arithmetic on a plan: its jobs and steps, parameters, FLOPs and memory.
//! Nothing here knows of tensors, devices or data files, prints, or reads the process's
//! environment.

mod check;
mod context;
mod cost;
mod dims;
mod error;
mod jobs;
#[cfg(test)]
mod laws;
mod layers;
mod name;
mod near;
mod parse;
mod plan;
mod rand_augment;
mod resolve;
mod schema;
mod setup;
mod sizes;
mod sources;
mod stages;
mod stated;
mod sweep;
mod training;
mod values;
mod vars;
mod write;

pub use cost::{Cost, Dims, Memory};
pub use error::{Origin, Other, Problem, RecipeError, RecipeErrors};
pub use jobs::{Job, NeverUpdates, Steps};
pub use layers::BaseLayer;
pub use near::word as nearest;
pub use plan::*;
pub use rand_augment::RandAugmentPlan;
pub use resolve::{
    Missing, Options, Resolved, ResolvedPoint, check_keys, is_default, resolve,
    resolve_checkpoint, resolve_text, set_key,
};
pub use schema::{Data, Model, Recipe, Runtime, schema};
pub use setup::IMAGENET_MEAN_STD;
pub use sizes::ModelSize;
pub use stages::{Augment, Finetune, Linprobe, Pretrain};
pub use values::{All, Auto, FromEntry, Off, OneOrMany, Or};
pub use write::{NOT_SET, differences, differing, is_stage, recipe_toml, settings};
