use std::path::PathBuf;

use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Picture, Stored};
use crate::data::error::DataError;

/// The training split or the validation split of a data set: labelled pictures by index.
pub trait Split: Send + Sync {
    /// Returns the number of pictures.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the class of picture `index`, or 0 if the data has no classes.
    fn label(&self, index: usize) -> u32;

    /// Returns picture `index`. Every call with this index returns the same picture.
    ///
    /// If the picture is an image file, reads its bytes into `buffer`.
    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError>;

    /// Returns the path of picture `index` for messages: the file, or the shard joined with the name in the shard.
    fn name(&self, index: usize) -> PathBuf;

    /// Returns whether pictures have 8-bit pixel values. Otherwise, pictures are floats at the model's `input_size`.
    fn holds_levels(&self) -> bool {
        true
    }

    /// Returns whether reading a picture only copies memory, so loader threads would not help.
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
