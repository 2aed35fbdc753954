use std::path::PathBuf;

use super::decode::Colour;
use super::error::DataError;
use super::picture::Picture;

/// One part of a data set, training or validation: labelled pictures by index.
pub trait Split: Send + Sync {
    /// The number of pictures.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of picture `index`; 0 where the data has no classes.
    fn label(&self, index: usize) -> u32;

    /// Gives picture `index`, the same at every call; the bytes of a file are put into `buffer`.
    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError>;

    /// What people find picture `index` by: its file, or the shard and the file in it.
    fn name(&self, index: usize) -> PathBuf;

    /// Tells that pictures are photographs in whole levels at their own size, not values at the model's.
    fn holds_levels(&self) -> bool {
        true
    }

    /// Tells that reading is hardly more than copying, so that loader threads would only cost.
    fn is_cheap(&self) -> bool {
        false
    }
}

/// A picture as its split keeps it.
pub enum Stored<'a> {
    /// An image file's bytes, and what to decode them to.
    File {
        bytes: &'a [u8],
        colour: Colour,
    },
    Picture(Picture),
}
