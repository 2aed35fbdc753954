//! The three stages of an experiment.

use std::fmt;

/// A stage of an experiment.
///
/// Its number is part of the key of every random draw. 0 is reserved for draws outside of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StageKind {
    /// Trains the masked autoencoder.
    Pretrain = 1,
    /// Trains a classifier: its head and the encoder.
    Finetune = 2,
    /// Trains a linear classifier on a frozen encoder.
    Linprobe = 3,
}

impl fmt::Display for StageKind {
    /// Writes `pretrain`, `finetune` or `linprobe`: the name of the table in a recipe and of the subfolder in a run
    /// folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Linprobe => "linprobe",
        })
    }
}
