//! The formats of data sets. Each has a `find`, which looks for its files and returns their `Found` splits.
//!
//! | format | where the images are |
//! | --- | --- |
//! | `digits` | in the program |
//! | `synthetic` | nowhere: they are computed |
//! | `cifar10`, `cifar100` | in the binary version of the archives |
//! | `imagefolder` | `train/<class>/` and `val/<class>/`; for pre-training alone, any folder of image files |
//! | `webdataset` | tar shards |
//! | `parquet` | parquet files, as on Hugging Face's hub |
//!
//! Photographs are stored as bytes at their own size. Digits are floats at `input_size`, and synthetic images bytes at
//! `input_size`, so without a crop they are only normalized. A new format is a file here, with a type that implements `Split`, and an arm of the `match`
//! in `dataset.rs`. Formats do not know that file: what they share is in `found.rs` and `split.rs`.

pub(super) mod cifar;
pub(super) mod class_names;
pub(super) mod digits;
pub(super) mod found;
pub(super) mod image_folder;
pub(super) mod listing_cache;
#[cfg(feature = "parquet")]
pub(super) mod parquet;
mod shards;
pub(super) mod split;
pub(super) mod synthetic;
pub(super) mod web_dataset;
