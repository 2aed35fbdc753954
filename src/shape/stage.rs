//! The stages of an experiment.

use std::fmt;

/// A stage of an experiment.
///
/// Its number enters the key of every random draw; 0 is left for draws outside stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StageKind {
    /// The masked autoencoder.
    Pretrain = 1,
    /// A classifier, the whole encoder trained.
    Finetune = 2,
    /// A classifier on a frozen encoder.
    Linprobe = 3,
}

impl fmt::Display for StageKind {
    /// The stage's table in a recipe, and its folder in a run's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Linprobe => "linprobe",
        })
    }
}
