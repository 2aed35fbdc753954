//! Counter-based randomness: what is drawn depends on a key alone, never on what was drawn before.
//!
//! A key is (seed, stage, epoch, sample, purpose). No generator state is ever saved, the number of workers changes
//! nothing, and a resumed run continues with exactly the numbers it would have had. The generator is `ChaCha8` of
//! `rand_chacha`, keyed with the 32 bytes of [`Key`]: its stream is specified, so a later version draws the same.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a draw is for: two purposes never share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The order of an epoch's samples (`sample` is 0).
    Shuffle = 1,
    /// Crop and flip of a sample.
    Augment = 2,
    /// Random erasing of a sample.
    Erase = 3,
    /// Mixup and `CutMix` of a micro-batch (`sample` is the micro-step).
    Mixup = 4,
    /// The noise whose order is a sample's mask.
    Mask = 5,
    /// Which residual branches a sample drops.
    DropPath = 6,
    /// Initial values of a parameter (`sample` is a number made of its name).
    Init = 7,
    /// Pixels of made-up images.
    Synthetic = 8,
    /// RandAugment of a sample.
    RandAugment = 9,
    /// Colour jitter of a sample.
    ColorJitter = 10,
}

/// The stage of a [`Key`] for evaluation and everything outside a stage.
pub const NO_STAGE: u8 = 0;

/// Names one stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub seed: u64,
    /// The number of the stage, or [`NO_STAGE`].
    pub stage: u8,
    /// From 1; 0 outside epochs.
    pub epoch: usize,
}

impl Key {
    /// Gives the generator of one `sample` for one `purpose`.
    #[must_use]
    pub fn rng(&self, sample: u64, purpose: Purpose) -> ChaCha8Rng {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.epoch as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&sample.to_le_bytes());
        bytes[24] = self.stage;
        bytes[25] = purpose as u8;
        ChaCha8Rng::from_seed(bytes)
    }
}
