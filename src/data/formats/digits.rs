//! The handwritten digits that are part of the program: 8 x 8 pixels, one channel, 1,437 + 360 images.
//!
//! See `digits/README.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::data::decode::opened_image::decode_file;
use crate::data::decode::picture::{Colour, Picture, Pixels, Reading, Stored};
use crate::data::decode::resize::bilinear;
use crate::data::error::DataError;
use crate::recipe::DataPlan;
use crate::shape::ImageSize;

use super::found::Found;
use super::split::Split;

const BYTES: &[u8] = include_bytes!("digits/digits.safetensors");
const SIDE: usize = 8;

/// Returns the training split and the validation split of the digits.
pub(in crate::data) fn find(plan: &DataPlan) -> Found {
    let split = |name| Arc::new(Digits::new(name, plan.input_size));
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    Found::of(split("train"), Some(split("val")), classes, Sha256::new_with_prefix(BYTES))
}

/// Reads an image file with the preprocessing of the digits: grey floats from 0 to 1, resized to `size`.
pub(in crate::data) fn read_like_a_digit(
    path: &Path,
    size: ImageSize,
) -> Result<Picture, DataError> {
    let grey = decode_file(path, Reading::Levels(Colour::Grey))?;
    let Pixels::U8(levels) = &grey.pixels else { unreachable!("image files have levels") };
    let pixels = Pixels::F32(resized(levels, grey.width, grey.height, size));
    Ok(Picture { width: size.width, height: size.height, channels: 1, pixels })
}

fn resized(levels: &[u8], width: usize, height: usize, size: ImageSize) -> Vec<f32> {
    let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 255.0).collect();
    bilinear(&values, width, height, size)
}

/// A split of the digits data set, already resized to `input_size`.
struct Digits {
    labels: Vec<u8>,
    /// Pixel values from 0 to 1, shape `[N, H, W]`.
    values: Vec<f32>,
    input_size: ImageSize,
}

impl Digits {
    /// Loads a split. `name` is `train` or `val`.
    fn new(name: &str, input_size: ImageSize) -> Self {
        let file = SafeTensors::deserialize(BYTES).expect("the digits are part of the program");
        let tensor = |what: &str| {
            let tensor = file.tensor(&format!("{name}_{what}"));
            tensor.expect("the digits have both splits").data().to_vec()
        };
        let values = tensor("images")
            .chunks_exact(SIDE * SIDE)
            .flat_map(|levels| resized(levels, SIDE, SIDE, input_size))
            .collect();
        Self { labels: tensor("labels"), values, input_size }
    }
}

impl Split for Digits {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }

    fn read<'a>(&self, index: usize, _: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let area = self.input_size.area();
        Ok(Stored::Picture(Picture {
            width: self.input_size.width,
            height: self.input_size.height,
            channels: 1,
            pixels: Pixels::F32(self.values[index * area..(index + 1) * area].to_vec()),
        }))
    }

    fn name(&self, index: usize) -> PathBuf {
        PathBuf::from(format!("digit {index}"))
    }

    fn holds_levels(&self) -> bool {
        false
    }

    fn is_cheap(&self) -> bool {
        true
    }
}
