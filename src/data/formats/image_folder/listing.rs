//! Lists the files of one split of an image folder.
//!
//! Classes are sorted by the bytes of their names. The files of a folder are sorted in the same way, and come before
//! the files of its subfolders. The listing ignores hidden files, files of operating systems and files without an image
//! extension. It follows symbolic links.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Reading, Stored};
use crate::data::error::DataError;
use crate::data::formats::image_names::ImageNames;
use crate::data::formats::listing_cache::{Contents, ListedImage, ListingCache, Stamp};
use crate::data::formats::passed_over::{self, PassedOver, of_no_use};
use crate::data::formats::split::Split;
use crate::recipe::DataPlan;

/// Maximum depth of nested folders, in case symbolic links form a cycle.
pub(super) const MAX_DEPTH: usize = 32;

/// The class folders and images of a split.
#[derive(Default)]
pub(in crate::data) struct Listing {
    root: PathBuf,
    /// Sorted names of the class folders. A class folder is a direct subfolder of the root.
    pub(in crate::data) classes: Vec<String>,
    /// All images: first the images in the root folder, then the images of each class, in the order of `classes`.
    files: Vec<Listed>,
    /// Number of ignored files and folders, by description such as `hidden files`.
    pub(in crate::data) passed_over: PassedOver,
    /// Errors about unreadable folders and links. Images in these folders are missing in `files`.
    pub(in crate::data) problems: Vec<DataError>,
}

struct Listed {
    /// Path relative to the root of the split.
    path: PathBuf,
    size: u64,
    /// Index of the class folder; `None` for an image directly in the root folder.
    class: Option<u32>,
}

impl Listing {
    /// Lists all images below `root`. Reads and updates the user's cache.
    ///
    /// Fails if any folder cannot be read.
    pub(in crate::data) fn of(root: &Path, plan: &DataPlan) -> Result<Self, DataError> {
        let mut cache = ListingCache::of(&DataPlan { path: root.to_owned(), ..plan.clone() });
        let mut listing = Self::read(root, &mut cache)?;
        cache.keep();
        if listing.problems.is_empty() { Ok(listing) } else { Err(listing.problems.swap_remove(0)) }
    }

    /// Lists all images below `root`. Uses the cached listing of each unchanged folder.
    ///
    /// Fails if `root` itself cannot be read. Errors about other folders go to the field `problems`.
    pub(in crate::data) fn read(root: &Path, cache: &mut ListingCache) -> Result<Self, DataError> {
        let mut listing = Self { root: root.to_owned(), ..Self::default() };
        let (folders, loose) = listing.entries(Path::new(""), cache)?;
        listing.add(Path::new(""), loose, None);
        for folder in folders {
            let Some(name) = folder.to_str() else {
                let problem = "the name of this class folder is not valid UTF-8";
                let error = DataError::layout(&root.join(&folder), problem, "rename the folder");
                listing.problems.push(error);
                continue;
            };
            let class = listing.classes.len() as u32;
            listing.classes.push(name.to_owned());
            listing.add_below(&folder, class, 1, cache);
        }
        Ok(listing)
    }

    fn add_below(&mut self, folder: &Path, class: u32, depth: usize, cache: &mut ListingCache) {
        if depth > MAX_DEPTH {
            let problem = format!("the folder has more than {MAX_DEPTH} levels of subfolders");
            let hint = "remove the symbolic link that leads back to a parent folder";
            self.problems.push(DataError::layout(&self.root.join(folder), problem, hint));
            return;
        }
        match self.entries(folder, cache) {
            Ok((folders, files)) => {
                self.add(folder, files, Some(class));
                for name in folders {
                    self.add_below(&folder.join(name), class, depth + 1, cache);
                }
            }
            Err(error) => self.problems.push(error),
        }
    }

    /// Returns (names of the subfolders, names and sizes in bytes of the images), both sorted by name.
    ///
    /// `folder` is a path relative to the root.
    fn entries(&mut self, folder: &Path, cache: &mut ListingCache) -> Result<Entries, DataError> {
        let folder = &self.root.join(folder);
        let stamp = Stamp::now(folder);
        if let Some(Contents { folders, images, passed_over }) = cache.get(folder, stamp) {
            passed_over::merge(&mut self.passed_over, passed_over);
            let images = images.iter().map(|image| (image.name.as_str().into(), image.size));
            return Ok((folders.iter().map(PathBuf::from).collect(), images.collect()));
        }
        let mut passed_over = PassedOver::new();
        let known_problems = self.problems.len();
        let entries = read_entries(folder, cache.images, &mut passed_over, &mut self.problems)?;
        passed_over::merge(&mut self.passed_over, &passed_over);
        if let Some(contents) = contents(&entries, passed_over) {
            // A folder with problems is not cached, so every start reads the folder again and reports the problems.
            cache.add(folder, stamp.filter(|_| self.problems.len() == known_problems), contents);
        }
        Ok(entries)
    }

    fn add(&mut self, folder: &Path, files: Vec<(PathBuf, u64)>, class: Option<u32>) {
        let files = files.into_iter();
        self.files.extend(files.map(|(name, size)| Listed {
            path: folder.join(name),
            size,
            class,
        }));
    }

    pub(in crate::data) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the number of images directly in the root folder, outside of the class folders.
    pub(in crate::data) fn loose(&self) -> usize {
        self.files.iter().filter(|file| file.class.is_none()).count()
    }

    /// Removes the images directly in the root folder, as torchvision's `ImageFolder` does.
    pub(in crate::data) fn drop_loose(&mut self) {
        self.files.retain(|file| file.class.is_some());
    }

    /// Returns whether the split has images, and all of them are in class folders.
    pub(in crate::data) fn is_labelled(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.class.is_some())
    }

    /// Returns the names of the classes without images.
    pub(in crate::data) fn empty_classes(&self) -> Vec<&str> {
        let mut counts = vec![0; self.classes.len()];
        self.files.iter().filter_map(|file| file.class).for_each(|c| counts[c as usize] += 1);
        let empty = self.classes.iter().zip(counts).filter(|(_, count)| *count == 0);
        empty.map(|(name, _)| name.as_str()).collect()
    }

    /// Adds the names and sizes of all images to a hash.
    pub(in crate::data) fn hash_into(&self, hash: &mut Sha256) {
        for file in &self.files {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(file.size.to_le_bytes());
        }
    }

    /// Converts the listing to a split. `label` maps the index of a class folder to its label.
    ///
    /// Images outside of class folders get the label 0.
    pub(in crate::data) fn into_split(
        self,
        reading: Reading,
        label: impl Fn(u32) -> u32,
    ) -> ImageFolder {
        let labelled = |file: Listed| (file.path, file.class.map_or(0, &label));
        let files = self.files.into_iter().map(labelled).collect();
        ImageFolder { root: self.root, files, reading }
    }
}

type Entries = (Vec<PathBuf>, Vec<(PathBuf, u64)>);

/// Converts a folder listing for the cache. Returns `None` if a name is not UTF-8.
fn contents((folders, images): &Entries, passed_over: PassedOver) -> Option<Contents> {
    let text = |path: &PathBuf| path.to_str().map(str::to_owned);
    let image = |(path, size): &(PathBuf, u64)| {
        Some(ListedImage { name: text(path)?, size: *size, ..ListedImage::default() })
    };
    Some(Contents {
        folders: folders.iter().map(text).collect::<Option<_>>()?,
        images: images.iter().map(image).collect::<Option<_>>()?,
        passed_over,
    })
}

fn read_entries(
    folder: &Path,
    images: ImageNames,
    passed_over: &mut PassedOver,
    problems: &mut Vec<DataError>,
) -> Result<Entries, DataError> {
    let unreadable = |e| DataError::unreadable(folder, e);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        if let Some(what) = of_no_use(&name.to_string_lossy()) {
            passed_over::count(passed_over, what, what, 1);
            continue;
        }
        let path = folder.join(&name);
        // Follows links. A broken link with an image extension counts as an unusable file. Any other broken link is an
        // error, because the link could be a class folder.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && leads_back(&path) => {
                let problem = "the symbolic link leads back to a parent folder";
                let hint = "remove the symbolic link that leads back to a parent folder";
                problems.push(DataError::layout(&path, problem, hint));
            }
            Ok(metadata) if metadata.is_dir() => folders.push(name),
            Ok(metadata) if images.contain(&name) => files.push((name, metadata.len())),
            Ok(_) => {}
            Err(_) if images.contain(&name) => files.push((name, 0)),
            Err(e) => problems.push(DataError::unreadable(&path, e)),
        }
    }
    folders.sort_by(|a, b| bytes(a).cmp(bytes(b)));
    files.sort_by(|(a, _), (b, _)| bytes(a).cmp(bytes(b)));
    Ok((folders, files))
}

/// Returns whether `folder` is a symbolic link to one of its own parent folders (an endless loop).
pub(super) fn leads_back(folder: &Path) -> bool {
    let above = || Some((folder.canonicalize().ok()?, folder.parent()?.canonicalize().ok()?));
    folder.is_symlink() && above().is_some_and(|(target, parent)| parent.starts_with(target))
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// A split of image files. Reads a file each time its image is used.
pub(in crate::data) struct ImageFolder {
    root: PathBuf,
    /// Path (relative to the root folder) and label of each image.
    files: Vec<(PathBuf, u32)>,
    reading: Reading,
}

impl Split for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let path = self.name(index);
        buffer.clear();
        let unreadable = |e| DataError::unreadable(&path, e);
        // Do not read pipes, because this would block.
        if !fs::metadata(&path).map_err(unreadable)?.is_file() {
            return Err(DataError::bad_image(&path, "not a regular file"));
        }
        let read = File::open(&path).and_then(|mut file| file.read_to_end(buffer));
        read.map_err(unreadable)?;
        Ok(Stored::File { bytes: buffer, reading: self.reading })
    }

    fn name(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index].0)
    }

    fn holds_levels(&self) -> bool {
        self.reading.gives_levels()
    }
}
