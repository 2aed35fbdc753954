//! The formats of data sets.
//!
//! Each format has a function `find`, which finds the files and returns the splits as a `Found`. Formats that can
//! continue after a problem also return their problems.
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
//! Images from files are 8-bit pictures of any size. Digits are floats at `input_size`. Synthetic images are 8-bit
//! pictures at `input_size`. So without a random crop, digits and synthetic images are only normalized.
//!
//! To add a format, write a file here with a type that implements `Split`, and add an arm to the `match` in
//! `dataset.rs`. Formats do not use `dataset.rs`; the types that they share are in `found.rs` and `split.rs`.

pub(super) mod cifar;
pub(super) mod class_names;
mod classes;
pub(super) mod digits;
pub(super) mod found;
pub(super) mod image_folder;
pub(super) mod image_names;
mod label;
pub(super) mod listing_cache;
pub(super) mod named_images;
#[cfg(feature = "parquet")]
pub(super) mod parquet;
pub(super) mod passed_over;
pub(super) mod shards;
mod signature;
pub(super) mod split;
pub(super) mod subset;
pub(super) mod synthetic;
pub(super) mod web_dataset;
