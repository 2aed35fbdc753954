//! Counter-based random numbers: a draw depends only on its key, not on earlier draws.
//!
//! A key is (seed, stage, epoch, sample, purpose). There is no generator state to save. Results do not depend on the
//! number of workers, and a resumed run draws the same numbers as an uninterrupted one. The generator is `ChaCha8` of
//! `rand_chacha`, seeded with the 32 bytes of the key. Its output is specified, so it stays the same in later versions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The purpose of random numbers. Different purposes have different random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Order of the samples in an epoch. The argument `sample` of [`Key::rng`] is 0.
    Shuffle = 1,
    /// Crop and flip of a sample.
    Augment = 2,
    /// Random erasing of a sample.
    Erase = 3,
    /// Mixup and `CutMix` of a micro-batch. The argument `sample` of [`Key::rng`] is the number of the micro-step.
    Mixup = 4,
    /// Random masking of the patches of a sample.
    Mask = 5,
    /// Stochastic depth of a sample.
    DropPath = 6,
    /// Initial values of a parameter. The argument `sample` of [`Key::rng`] is a hash of the parameter's name.
    Init = 7,
    /// Pixels of synthetic images.
    Synthetic = 8,
    /// RandAugment of a sample.
    RandAugment = 9,
    /// Colour jitter of a sample.
    ColorJitter = 10,
}

/// Value of [`Key::stage`] for random numbers outside of training, such as in evaluation.
pub const NO_STAGE: u8 = 0;

/// Seed, stage and epoch, which select a set of random numbers.
///
/// [`Key::rng`] adds the sample and the purpose, such as cropping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub seed: u64,
    /// Number of the training stage, or [`NO_STAGE`].
    pub stage: u8,
    /// The epoch, counted from 1; 0 outside of an epoch.
    pub epoch: usize,
}

impl Key {
    /// Returns a random generator. Its numbers depend only on the key, `sample` and `purpose`.
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
