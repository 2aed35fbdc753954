//! Images that the user names on the command line: image files, and folders of images.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::decode::picture::{Reading, Stored};
use crate::data::error::DataError;
use crate::recipe::{DataPlan, Format};
use crate::shape::ImageSize;

use super::class_names::readable_names;
use super::digits::read_like_a_digit;
use super::image_folder::Listing;
use super::split::Split;

/// The images that the user names on the command line.
struct NamedImages {
    /// The path and the label of each image.
    files: Vec<(PathBuf, u32)>,
    reading: Reading,
    /// The image size for the preprocessing of the digits; `None` for other preprocessing.
    digits: Option<ImageSize>,
}

/// Opens the image files in `paths`, and all images inside the folders in `paths`.
///
/// Returns (images, class names). There are class names only if `paths` is a single folder, and all its images are in
/// class folders.
pub fn open_images(
    paths: &[PathBuf],
    plan: &DataPlan,
) -> Result<(Arc<dyn Split>, Vec<String>), DataError> {
    let reading = Reading::of(plan)?;
    let (mut files, mut classes) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            fs::metadata(path).map_err(|error| DataError::unreadable(path, error))?;
            files.push((path.clone(), 0));
            continue;
        }
        if let Some(split) =
            ["train", "val"].map(|name| path.join(name)).iter().find(|p| p.is_dir())
        {
            let problem = "the folder contains `train/` or `val/`, so it is a whole data set";
            let hint = format!("pass one folder of this data set, for example {}", split.display());
            return Err(DataError::layout(path, problem, &hint));
        }
        let listing = Listing::of(path, plan)?;
        let labelled = paths.len() == 1 && listing.is_labelled();
        if labelled {
            classes = readable_names(&listing.classes, plan.class_map.as_deref())?;
        }
        let images = listing.into_split(reading, |class| if labelled { class } else { 0 });
        files.extend((0..images.len()).map(|index| (images.name(index), images.label(index))));
    }
    if files.is_empty() {
        let problem = "the folder contains no images (jpg, png, webp, …)";
        return Err(DataError::layout(
            &paths[0],
            problem,
            "pass image files or a folder with images",
        ));
    }
    let digits = (plan.format == Format::Digits).then_some(plan.input_size);
    Ok((Arc::new(NamedImages { files, reading, digits }), classes))
}

impl Split for NamedImages {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let path = &self.files[index].0;
        if let Some(size) = self.digits {
            return Ok(Stored::Picture(read_like_a_digit(path, size)?));
        }
        *buffer = fs::read(path).map_err(|error| DataError::unreadable(path, error))?;
        Ok(Stored::File { bytes: buffer, reading: self.reading })
    }

    fn name(&self, index: usize) -> PathBuf {
        self.files[index].0.clone()
    }

    fn holds_levels(&self) -> bool {
        self.digits.is_none() && self.reading.gives_levels()
    }
}
