use std::path::Path;

use crate::data::decode::image_name::{is_array_name, is_image_name};
use crate::recipe::DataPlan;

/// Which files count as images. The file extension decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum ImageNames {
    /// Only files with the extension of an image format, such as `.jpg`.
    Images,
    /// Image files as in [`Self::Images`], and NumPy arrays (`.npy`).
    ImagesAndArrays,
}

impl ImageNames {
    /// Returns which files count as images for a recipe. NumPy arrays count only with `data.range`.
    pub(in crate::data) fn of(plan: &DataPlan) -> Self {
        if plan.range.is_some() { Self::ImagesAndArrays } else { Self::Images }
    }

    pub(super) fn contain(self, name: &Path) -> bool {
        is_image_name(name) || self == Self::ImagesAndArrays && is_array_name(name)
    }
}
