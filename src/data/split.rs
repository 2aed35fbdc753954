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

    /// Gives picture `index`, the same at every call.
    fn read(&self, index: usize) -> Result<Picture, DataError>;

    /// Tells that reading is hardly more than copying, so that loader threads would only cost.
    fn is_cheap(&self) -> bool {
        false
    }
}
