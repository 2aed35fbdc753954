//! Data: formats, decoding, transforms, mixup, and the loader that gives batches on the host.
//!
//! [`open`] finds the data of a recipe and gives a [`DataSet`]: splits of labelled pictures, class names, counts and a
//! fingerprint. A [`Loader`] reads a [`Split`], makes each picture ready with a [`TrainTransform`] or an
//! [`EvalTransform`], joins them to a [`Batch`] and, in fine-tuning, mixes it with a [`Mixup`].
//!
//! **Formats.** `digits` are part of the program. `imagefolder` is `train/<class>/…` and `val/<class>/…`, or any folder of
//! image files for pre-training alone. `webdataset` is tar shards, `parquet` what Hugging Face's hub has, `cifar10` and
//! `cifar100` are the binary archives. `synthetic` makes images up. A format is a type that implements [`Split`];
//! a new one is added in `dataset.rs`. Photographs come as bytes at their own size; digits and synthetic images as floats
//! that are at `input_size` already, so that without a crop only normalization touches them.
//!
//! **Colour.** Files are decoded as by Pillow's `convert("RGB")`, or `convert("L")` where `in_chans` is 1: grey is
//! repeated, palettes are looked up, alpha is dropped without blending, CMYK is converted, orientation tags are not
//! obeyed. What a file is is told by its content. A file that is not whole is an error that names it, never a grey
//! picture. Of animations and files of many pages the first picture is taken; 16-bit grey is cut at 255, as by Pillow.
//!
//! **Geometry.** Everything is resized as Pillow resizes (`resize.rs`), to whole levels, before normalization.
//! Evaluation resizes the short side to `input_size` · 256 / 224 (above 224: to `input_size`) and takes the centre.
//! Training without a crop (`crop_scale = [1, 1]`) does the same with no margin around the centre.
//! RandAugment (`rand_augment`) works on whole levels, after crop and flip.
//!
//! **Order and randomness.** Sorted files and classes give every image an index, its *sample*. An epoch's order is a
//! permutation drawn for (seed, stage, epoch); crop, flip and erasing are drawn for (seed, stage, epoch, sample); mixup
//! for (seed, stage, epoch, micro-step). Nothing else has influence: not the number of workers, not where an epoch was
//! interrupted. Parameters are drawn apart from the pixels they are used on.

mod bad_files;
mod batch;
mod check;
mod cifar;
mod class_names;
mod color_jitter;
mod crop;
mod dataset;
mod decode;
mod digits;
mod draw;
mod erasing;
mod error;
mod evaluation;
mod frame;
mod image_folder;
mod jpeg;
mod listing_cache;
mod loader;
mod mixup;
mod pack;
#[cfg(feature = "parquet")]
mod parquet;
mod picture;
mod rand_augment;
mod resize;
mod shards;
mod simd;
mod split;
mod synthetic;
mod table;
mod times;
mod transform;
mod web_dataset;
mod workers;

pub use bad_files::BadFiles;
pub use batch::{Batch, Images, ImagesSlice, Normalization, Shard, Targets, TargetsSlice};
pub use check::{Checked, CheckedSplit, check};
pub use class_names::imagenet1k_names;
pub use crop::{CropRule, random_resized_crop};
pub use dataset::{DataSet, Labels, open, transform_picture};
pub use decode::{Colour, picture, read_picture};
pub use erasing::erasing_boxes;
pub use error::DataError;
pub use evaluation::{EvalTransform, short_side as eval_short_side};
pub use loader::{Epoch, Loader};
pub use mixup::{Mix, Mixup, mix};
pub use pack::{PackOptions, Packing, pack};
pub use picture::{CropBox, Picture, Pixels};
pub use rand_augment::{Interpolation, Op, RandAugment, Rgb};
pub use split::{Split, Stored};
pub use times::{LoadPart, LoadTimes};
pub use transform::{Augmentation, Cut, TrainTransform};
pub use web_dataset::Reencoded;
