//! The part of the encoder that partial fine-tuning trains.

/// The encoder blocks that a fine-tuning trains, counted from the last block.
///
/// The head and the last normalization are always trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainedBlocks {
    /// This number of blocks, counted from the last block. With all blocks, the embeddings are trained, too.
    Last(usize),
    /// Half of the last block: its MLP with the LayerNorm before it (paper, Fig. 9).
    HalfOfLast,
}

impl TrainedBlocks {
    /// Returns the number of blocks that are trained fully or partly.
    pub fn count(self) -> usize {
        match self {
            Self::Last(blocks) => blocks,
            Self::HalfOfLast => 1,
        }
    }
}
