//! The three stages of an experiment.

use std::fmt;

/// A stage of an experiment. The number of the stage is part of every random key.
///
/// The number 0 is reserved for random numbers outside of a stage.
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

impl fmt::Display for StageKind {
    /// Writes `pretrain`, `finetune` or `linprobe`. Recipe tables and run subfolders have these names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Linprobe => "linprobe",
        })
    }
}
