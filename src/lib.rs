//! `mae`: experiments with Masked Autoencoders (arXiv 2111.06377) from one TOML file, in Rust on Burn.
//!
//! A recipe in TOML describes a whole experiment. `mae run` resolves it, pre-trains, keeps checkpoints, fine-tunes and
//! linearly probes each kept checkpoint, and writes tables that spreadsheets can open.
//!
//! # Map of the modules
//!
//! | module | content | may use |
//! | --- | --- | --- |
//! | [`shape`] | dimensions, precision, stages, rules of the official code | nothing |
//! | [`random`] | counter-based random numbers | nothing |
//! | [`durable`] | atomic writes, locks, manifest of a run folder | nothing |
//! | [`text`] | names on one line, CSV cells that spreadsheets do not run | nothing |
//! | [`figure`] | rows of pictures with labels, as PNG | `durable` |
//! | [`ops`] | custom operations with their own backward pass | nothing |
//! | [`recipe`] | schema, layers, validation, sweep grid, resolved `Plan` | `shape` |
//! | [`model`] | patch embedding, blocks, MAE, ViT | `shape`, `random`, `ops` |
//! | [`optim`] | learning rate schedule, parameter groups, AdamW, LARS, clipping | `shape`, `ops` |
//! | [`data`] | formats, decoding, transforms, mixup, loader | `shape`, `recipe`, `random`, `durable`, `text` |
//! | [`checkpoint`] | save, resume, import, export | `shape`, `model`, `recipe`, `durable` |
//! | [`results`] | run folder, CSV tables, provenance, reports, comparisons | `shape`, `recipe`, `durable`, `text`, `figure` |
//! | [`infer`] | evaluation, prediction, reconstruction | `shape`, `random`, `durable`, `figure`, `ops`, `recipe`, `model`, `data`, `checkpoint` |
//! | [`train`] | training loop, stages, devices, ranks | `infer`, all that `infer` may use, `optim`, `results` |
//! | [`run`] | order of jobs, sweeps, accuracy tables | `shape`, `durable`, `recipe`, `data`, `checkpoint`, `results`, `infer`, `train` |
//! | [`verify`] | comparison with recorded numbers of the official code | all above |
//! | [`mod@bench`] | benchmarks of the training loop and the data pipeline | all above except `verify` |
//! | [`cli`] | one file per command; error messages and exit codes | all above |
//!
//! A module uses only modules above it in this table; `tests/it/layers.rs` checks this. Other rules:
//!
//! - Only `recipe::resolve` turns a recipe into a `Plan`.
//! - `run` decides which jobs to run. `train` runs all stages in one loop.
//! - Only `results` and `checkpoint` write results to the disk, and every write goes through `durable`.
//! - Only `cli` prints, reads arguments or exits.

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod durable;
pub mod figure;
pub mod infer;
pub mod model;
pub mod ops;
pub mod optim;
pub mod random;
pub mod recipe;
pub mod results;
pub mod run;
pub mod shape;
pub mod text;
pub mod train;
pub mod verify;
