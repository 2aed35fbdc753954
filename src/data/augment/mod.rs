//! From decoded pictures to the values a model gets: crop, resize, colours, normalization, erasing, mixup.
//!
//! Pictures are resized as in Pillow, to whole levels, before normalization. Evaluation resizes the short side to `input_size`
//! · 256 / 224, or to `input_size` if that is above 224, and takes the centre. Training without a crop
//! (`crop_scale = [1, 1]`) resizes the short side to `input_size` and takes the centre. RandAugment works on whole levels, after
//! crop and flip.
//!
//! All parameters are drawn separately from the pixels, so they can be tested and compared without pictures.

mod color_jitter;
pub(super) mod crop;
pub(super) mod erasing;
pub(super) mod evaluation;
pub(super) mod frame;
pub(super) mod mixup;
pub(super) mod rand_augment;
pub(super) mod transform;
