//! Made-up images, for tests and for measuring without a data set. A class is a coloured grating of its own frequency
//! and angle; an image is its class's grating at a random phase, under noise.

use std::f32::consts::TAU;
use std::path::PathBuf;

use rand::Rng;

use crate::random::{Key, NO_STAGE, Purpose};

use super::draw::{uniform, unit};
use super::error::DataError;
use super::picture::{Picture, Pixels};
use super::split::{Split, Stored};

/// Takes the epoch's place in the keys, so that classes and splits share no stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum SyntheticPart {
    Train = 1,
    Val = 2,
}

/// The keys' "epoch" of what a class looks like.
const CLASSES: usize = 0;

pub(super) struct Synthetic {
    pub(super) part: SyntheticPart,
    pub(super) images: usize,
    pub(super) num_classes: usize,
    pub(super) input_size: usize,
    pub(super) in_chans: usize,
}

/// What images of one class have in common.
struct Grating {
    /// Periods across the image, along x and y.
    periods: [f32; 2],
    /// How strongly each channel swings.
    colour: Vec<f32>,
}

impl Synthetic {
    fn grating(&self, label: u32) -> Grating {
        let mut rng = rng(CLASSES, u64::from(label));
        let periods = [uniform(&mut rng, 0.5..6.0) as f32, uniform(&mut rng, -6.0..6.0) as f32];
        let colour = (0..self.in_chans).map(|_| uniform(&mut rng, -0.4..0.4) as f32).collect();
        Grating { periods, colour }
    }
}

/// The data is the same for every seed of a recipe.
fn rng(part: usize, index: u64) -> impl Rng {
    Key { seed: 0, stage: NO_STAGE, epoch: part }.rng(index, Purpose::Synthetic)
}

impl Split for Synthetic {
    fn len(&self) -> usize {
        self.images
    }

    fn label(&self, index: usize) -> u32 {
        (index % self.num_classes) as u32
    }

    fn read<'a>(&self, index: usize, _: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let Grating { periods, colour } = self.grating(self.label(index));
        let mut rng = rng(self.part as usize, index as u64);
        let phase = unit(&mut rng) as f32;
        let side = self.input_size;
        let mut values = Vec::with_capacity(side * side * self.in_chans);
        for y in 0..side {
            for x in 0..side {
                let turns = (periods[0] * x as f32 + periods[1] * y as f32) / side as f32 + phase;
                let swing = (turns * TAU).sin();
                let noise = rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
                values.extend(colour.iter().map(|c| 0.5 + c * swing + 0.2 * noise));
            }
        }
        let pixels = Pixels::F32(values);
        let picture = Picture { width: side, height: side, channels: self.in_chans, pixels };
        Ok(Stored::Picture(picture))
    }

    fn name(&self, index: usize) -> PathBuf {
        PathBuf::from(format!("made-up image {index}"))
    }

    fn holds_levels(&self) -> bool {
        false
    }
}
