//! Data on the host: reads data sets, decodes and augments images, and loads batches.
//!
//! [`open`] finds the data of a recipe and returns a [`DataSet`]: splits of labelled pictures, class names, counts and
//! a fingerprint. A [`Loader`] reads a [`Split`] and prepares each picture with a [`TrainTransform`] or an
//! [`EvalTransform`]. The loader joins the pictures into a [`Batch`] and, in fine-tuning, applies [`Mixup`].
//!
//! | folder or file | holds | may use |
//! | --- | --- | --- |
//! | `error`, `table`, `draw`, `times`, `panics`, `batch` | errors, CSV tables, random numbers, timers, panics of libraries, the [`Batch`] | |
//! | `decode/` | image files to pixels; resizing | the first row |
//! | `formats/` | one file per format, each with a type that implements [`Split`] | `decode/` |
//! | `augment/` | crop, flip, colours, normalization, erasing, mixup | `decode/` |
//! | `dataset` | [`open`]: opens the recipe's format and compares the counts with the recipe | `formats/`, `augment/` |
//! | `test_set` | [`open_test_set`]: other test sets, with the labels of a checkpoint | `formats/` |
//! | `loader/` | worker threads, prefetching, unusable files | `formats/`, `augment/` |
//! | `tools/` | `mae data check` and `mae data pack` | all above |

mod augment;
mod batch;
mod dataset;
mod decode;
mod draw;
mod error;
mod formats;
mod loader;
mod panics;
mod recycled;
mod table;
mod test_set;
mod times;
mod tools;

pub use augment::crop::{CropRule, random_resized_crop};
pub use augment::erasing::erasing_boxes;
pub use augment::evaluation::{EvalTransform, short_side as eval_short_side};
pub use augment::mixup::{Mix, Mixup, mix};
pub use augment::rand_augment::affine::Interpolation;
pub use augment::rand_augment::op::Op;
pub use augment::rand_augment::policy::RandAugment;
pub use augment::rand_augment::rgb::Rgb;
pub use augment::transform::{Augmentation, Cut, TrainTransform};
pub use batch::{Batch, Images, ImagesSlice, Normalization, Shard, Targets, TargetsSlice};
pub use dataset::{DataSet, open, transform_picture};
pub use decode::image_name::is_image_name;
pub use decode::opened_image::read_picture;
pub use decode::picture::{Colour, CropBox, Picture, Pixels, Reading, Stored, ValueScale};
pub use error::DataError;
pub use formats::class_names::imagenet1k_names;
pub use formats::found::{Integrity, Labels};
pub use formats::named_images::open_images;
pub use formats::shards::format_of_files;
pub use formats::split::{Split, picture};
pub use formats::web_dataset::packed::Reencoded;
pub use loader::bad_files::BadFiles;
pub use loader::epoch::Epoch;
pub use loader::{Loader, Share};
pub use test_set::{CORRUPTIONS, SEVERITIES, TestImages, TestPart, open_test_set};
pub use times::{LoadPart, LoadTimes};
pub use tools::check::check;
pub use tools::check::report::{ChannelNumbers, Checked, CheckedSplit, Numbers};
pub use tools::pack::{PackOptions, Packing, pack};
