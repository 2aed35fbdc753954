use std::path::PathBuf;
use std::sync::Arc;

use crate::data::decode::picture::Stored;
use crate::data::error::DataError;

use super::split::Split;

/// A split without some of its pictures.
pub(in crate::data) struct Subset {
    split: Arc<dyn Split>,
    /// For each picture of the subset, its index in the original split.
    kept: Vec<usize>,
}

impl Subset {
    /// Returns `split` without some pictures. `left_out` are the sorted indices of these pictures.
    pub(in crate::data) fn without(split: Arc<dyn Split>, left_out: &[usize]) -> Self {
        let kept =
            (0..split.len()).filter(|index| left_out.binary_search(index).is_err()).collect();
        Self { split, kept }
    }
}

impl Split for Subset {
    fn len(&self) -> usize {
        self.kept.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.split.label(self.kept[index])
    }

    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        self.split.read(self.kept[index], buffer)
    }

    fn name(&self, index: usize) -> PathBuf {
        self.split.name(self.kept[index])
    }

    fn holds_levels(&self) -> bool {
        self.split.holds_levels()
    }

    fn is_cheap(&self) -> bool {
        self.split.is_cheap()
    }
}
