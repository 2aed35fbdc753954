//! The handwritten digits that are part of the program: 8x8, one channel, 1,437 + 360 images. See `digits/README.md`.

use std::path::PathBuf;

use safetensors::SafeTensors;

use super::error::DataError;
use super::picture::{Picture, Pixels};
use super::resize::bilinear;
use super::split::{Split, Stored};

/// The file's bytes, which identify the data.
pub(super) const BYTES: &[u8] = include_bytes!("digits/digits.safetensors");
const SIDE: usize = 8;

/// A split of the digits, resized once to `input_size`: an epoch only copies.
pub(super) struct Digits {
    labels: Vec<u8>,
    /// `[N, input_size, input_size]`, 0..1.
    values: Vec<f32>,
    input_size: usize,
}

impl Digits {
    /// Gives the split called `name`: `train` or `val`.
    pub(super) fn new(name: &str, input_size: usize) -> Self {
        let file = SafeTensors::deserialize(BYTES).expect("the digits are part of the program");
        let tensor = |what: &str| {
            let tensor = file.tensor(&format!("{name}_{what}"));
            tensor.expect("the digits have both splits").data().to_vec()
        };
        let values = tensor("images")
            .chunks_exact(SIDE * SIDE)
            .flat_map(|levels| {
                let values: Vec<f32> = levels.iter().map(|&v| f32::from(v) / 255.0).collect();
                bilinear(&values, SIDE, SIDE, input_size)
            })
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
        let area = self.input_size * self.input_size;
        Ok(Stored::Picture(Picture {
            width: self.input_size,
            height: self.input_size,
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
