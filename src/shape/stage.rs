//! The three stages of an experiment.

use std::fmt;

/// A stage of an experiment.
///
/// Each stage has its own random numbers: the key of the random generator contains the stage number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StageKind {
    /// Trains the masked autoencoder.
    Pretrain = 1,
    /// Trains a classifier: the encoder and the classification head.
    Finetune = 2,
    /// Trains a linear classifier on a frozen encoder.
    Linprobe = 3,
}

impl StageKind {
    /// The stages in running order.
    pub const ALL: [Self; 3] = [Self::Pretrain, Self::Finetune, Self::Linprobe];
}

impl fmt::Display for StageKind {
    /// Writes the stage's name in recipes: `pretrain`, `finetune` or `linprobe`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Linprobe => "linprobe",
        })
    }
}
