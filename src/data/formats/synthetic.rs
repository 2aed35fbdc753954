//! Computes synthetic images, for tests and for measurements without a data set.
//!
//! Each class has a coloured grating with its own frequency and angle. An image is the grating of its class with a
//! random phase and noise. Grey and RGB images have 8-bit pixel values, like image files. Images with other numbers of
//! channels are floats.

use std::f32::consts::TAU;
use std::path::PathBuf;
use std::sync::Arc;

use rand::Rng;
use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Picture, Pixels, Stored};
use crate::data::draw::{uniform, unit};
use crate::data::error::DataError;
use crate::random::{Key, NO_STAGE, Purpose};
use crate::recipe::DataPlan;
use crate::shape::ImageSize;

use super::found::Found;
use super::split::Split;

/// A split of the synthetic data. Each split has different random numbers.
#[derive(Debug, Clone, Copy)]
enum SyntheticPart {
    Train = 1,
    Val = 2,
}

// Random keys of class patterns use this number as their epoch. Random keys of images use a `SyntheticPart`.
const CLASSES: usize = 0;

/// Returns the synthetic data set. The recipe sets the numbers of classes and images.
///
/// Defaults: 1,024 training images, 256 validation images, 1,000 classes.
pub(in crate::data) fn find(plan: &DataPlan) -> Found {
    let num_classes = plan.promised.num_classes.unwrap_or(1000).max(1);
    let split = |part, images| {
        let (input_size, in_chans) = (plan.input_size, plan.in_chans);
        Arc::new(Synthetic { part, images, num_classes, input_size, in_chans })
    };
    let (train, val) =
        (plan.promised.train_images.unwrap_or(1024), plan.promised.val_images.unwrap_or(256));
    let identity = format!("synthetic levels {num_classes} {train} {val}");
    let classes = (0..num_classes).map(|class| format!("class {class}")).collect();
    let (train, val) = (split(SyntheticPart::Train, train), split(SyntheticPart::Val, val));
    Found::of(train, Some(val), classes, Sha256::new_with_prefix(identity))
}

struct Synthetic {
    part: SyntheticPart,
    images: usize,
    num_classes: usize,
    input_size: ImageSize,
    in_chans: usize,
}

/// The stripe pattern of a class.
struct Grating {
    /// Number of periods across the image, along x and y.
    periods: [f32; 2],
    /// Amplitude of the stripes in each channel.
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

/// Returns the random number generator of an image or of a class pattern.
///
/// For an image, `part` is the number of a [`SyntheticPart`]. For a pattern, `part` is [`CLASSES`].
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
        let ImageSize { height, width } = self.input_size;
        let turn = |turns: f32| (turns * TAU).sin_cos();
        let columns: Vec<_> =
            (0..width).map(|x| turn(periods[0] * x as f32 / width as f32)).collect();
        let mut noise = vec![0; height * width];
        rng.fill_bytes(&mut noise);
        let mut values = Vec::with_capacity(height * width * self.in_chans);
        for (y, noise) in noise.chunks_exact(width).enumerate() {
            let (sin_y, cos_y) = turn(periods[1] * y as f32 / height as f32 + phase);
            for ((sin_x, cos_x), noise) in columns.iter().zip(noise) {
                let swing = sin_x * cos_y + cos_x * sin_y;
                let noise = f32::from(*noise) / 255.0 - 0.5;
                values.extend(colour.iter().map(|c| 0.5 + c * swing + 0.2 * noise));
            }
        }
        let pixels = if self.holds_levels() {
            Pixels::U8(values.iter().map(|value| (value * 255.0).round() as u8).collect())
        } else {
            Pixels::F32(values)
        };
        let picture = Picture { width, height, channels: self.in_chans, pixels };
        Ok(Stored::Picture(picture))
    }

    fn name(&self, index: usize) -> PathBuf {
        PathBuf::from(format!("synthetic image {index}"))
    }

    fn holds_levels(&self) -> bool {
        matches!(self.in_chans, 1 | 3)
    }
}
