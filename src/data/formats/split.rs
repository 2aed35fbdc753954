use std::path::PathBuf;

use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Picture, Stored};
use crate::data::error::DataError;

/// The training or the validation part of a data set: labelled pictures by index.
pub trait Split: Send + Sync {
    /// Returns the number of pictures.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the class of picture `index`, or 0 if the data has no classes.
    fn label(&self, index: usize) -> u32;

    /// Returns picture `index`, which is the same in every call. If it is in a file, reads the bytes into `buffer`.
    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError>;

    /// Returns a path for messages about picture `index`: its file, or its shard followed by its name in the shard.
    fn name(&self, index: usize) -> PathBuf;

    /// Returns whether pictures have levels in 0..255. Otherwise they are floats at the model's `input_size`.
    fn holds_levels(&self) -> bool {
        true
    }

    /// Returns whether reading only copies memory, so loader threads would not help.
    fn is_cheap(&self) -> bool {
        false
    }
}

/// Returns picture `index` of a split, decoded.
pub fn picture(split: &dyn Split, index: usize) -> Result<Picture, DataError> {
    let mut buffer = Vec::new();
    let whole = OpenedImage::stored(split.read(index, &mut buffer)?).and_then(OpenedImage::whole);
    whole.map_err(|error| DataError::bad_image(&split.name(index), &error))
}
