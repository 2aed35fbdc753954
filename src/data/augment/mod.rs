//! Turns decoded pictures into the input of the model: crop, resize, colours, normalization, erasing, mixup.
//!
//! Pictures are resized as in Pillow, to integers in 0..255, before normalization. Evaluation resizes the short side to
//! `input_size` · 256 / 224 and crops the centre. If `input_size` is above 224, evaluation resizes the short side to
//! `input_size` instead. Training without a random crop (`crop_scale = [1, 1]`) also resizes the short side to
//! `input_size` and crops the centre. RandAugment works on 8-bit pixel values, after crop and flip.
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
