//! `mae`: a declarative experiment runner for Masked Autoencoders (arXiv 2111.06377) on Burn.
//!
//! One TOML file is a whole experiment. The runner resolves it, trains, keeps the intermediate checkpoints, fine-tunes
//! and probes each of them, and leaves tables that open in a spreadsheet.
//!
//! # The map
//!
//! | module | holds | may use |
//! | --- | --- | --- |
//! | [`shape`] | dimensions, precision, stages, the official code's rules | nothing |
//! | [`random`] | counter-based random numbers: the key of every draw | nothing |
//! | [`durable`] | atomic write, fsync, lock | nothing |
//! | [`figure`] | pictures in rows, with labels, as PNG | `durable` |
//! | [`ops`] | operations of our own, with their own backward | nothing |
//! | [`recipe`] | schema, layers, validation, sweep grid, the resolved `Plan` | `shape` |
//! | [`model`] | patch embedding, blocks, MAE, ViT; built from plain numbers | `shape`, `random`, `ops` |
//! | [`optim`] | lr schedule, parameter groups, LARS, clipping | `shape` |
//! | [`data`] | formats, decoding, transforms, mixup, loader; batches on the host | `shape`, `recipe`, `random`, `durable` |
//! | [`checkpoint`] | save, resume, import | `shape`, `model`, `recipe`, `durable` |
//! | [`results`] | run folder, CSV tables, provenance, reports | `shape`, `recipe`, `durable`, `figure` |
//! | [`infer`] | evaluation, prediction, reconstruction | `figure`, `recipe`, `model`, `data`, `checkpoint`, and what they use |
//! | [`train`] | the one loop, the stages, devices and ranks | `infer` and what it uses, `optim`, `results` |
//! | [`run`] | from a resolved recipe to finished jobs: order, sweeps, tables | `train`, `infer`, `results`, `checkpoint`, `data`, `recipe`, and what these share |
//! | [`verify`] | our own code against the official one's numbers | all above |
//! | [`mod@bench`] | measurements of the training loop | all above except `verify` |
//! | [`cli`] | a file a command; turns errors into text and exit codes | all above |
//!
//! Arrows point up this table only; a test holds them. A recipe becomes a `Plan` in `recipe::resolve` and nowhere else;
//! `train` turns the plan's jobs into stages and runs them in its one loop; `run` decides which jobs there are; every number
//! that reaches the disk goes through `results` or `checkpoint`, and every write through `durable`. Only `cli` prints, reads
//! arguments or exits.

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
pub mod train;
pub mod verify;
