use std::path::PathBuf;

use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Picture, Stored};
use crate::data::error::DataError;

/// The training or validation split of a data set.
pub trait Split: Send + Sync {
    /// Returns the number of pictures.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the label of picture `index`; 0 if the split has no classes.
    fn label(&self, index: usize) -> u32;

    /// Returns picture `index`. Repeated calls return the same picture.
    ///
    /// For an image file, reads the bytes into `buffer`.
    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError>;

    /// Returns the path of picture `index`, for messages.
    ///
    /// For a picture in a shard, this is the path of the shard plus the name inside the shard.
    fn name(&self, index: usize) -> PathBuf;

    /// Returns whether the pictures have 8-bit pixel values. If not, their pixel values are floats.
    fn holds_levels(&self) -> bool {
        true
    }

    /// Returns whether reading a picture only copies memory, without file access.
    fn is_cheap(&self) -> bool {
        false
    }
}

/// Reads and decodes picture `index` of a split.
pub fn picture(split: &dyn Split, index: usize) -> Result<Picture, DataError> {
    let mut buffer = Vec::new();
    let whole = OpenedImage::stored(split.read(index, &mut buffer)?).and_then(OpenedImage::whole);
    whole.map_err(|error| error.of(&split.name(index)))
}
