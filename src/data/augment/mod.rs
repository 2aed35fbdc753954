//! Turns decoded pictures into the input of the model: crop, resize, colours, normalization, erasing, mixup.
//!
//! Like Pillow, resizing an 8-bit picture returns 8-bit pixel values, which are then normalized. RandAugment works on
//! 8-bit pixel values, after crop and flip.
//!
//! - Evaluation resizes the short side to `input_size` · 256 / 224 and crops the centre. For CIFAR, or if `input_size`
//!   is above 224, the short side becomes `input_size` instead.
//! - Training without a random crop (`crop_scale = [1, 1]`) resizes the short side to `input_size` and crops the
//!   centre.
//!
//! Drawing the random parameters does not need the pixels, so tests can compare the parameters without pictures.

mod color_jitter;
pub(super) mod crop;
pub(super) mod erasing;
pub(super) mod evaluation;
pub(super) mod frame;
pub(super) mod mixup;
pub(super) mod rand_augment;
pub(super) mod transform;
