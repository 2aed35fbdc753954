//! Lists the files of one split of an image folder.
//!
//! Classes are sorted by the bytes of their names. The files of a folder are sorted in the same way, and come before
//! the files of its subfolders. Hidden files and files without an image extension are skipped. Symbolic links are
//! followed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::decode::image_name::is_image_name;
use crate::data::decode::picture::{Colour, Stored};
use crate::data::error::DataError;
use crate::data::formats::listing_cache::{Contents, ListedImage, ListingCache, Stamp};
use crate::data::formats::split::Split;

/// Maximum depth of nested folders, to stop at cyclic symbolic links.
pub(super) const MAX_DEPTH: usize = 32;

pub(super) struct Listing {
    root: PathBuf,
    /// Names of the first-level folders, sorted.
    pub(super) classes: Vec<String>,
    /// Images directly in the root folder, then the images of each class.
    files: Vec<Listed>,
}

struct Listed {
    /// Path relative to the root of the split.
    path: PathBuf,
    size: u64,
    /// Index of the class folder; `None` for an image directly in the root folder.
    class: Option<u32>,
}

impl Listing {
    /// Lists all images below `root`. Reads unchanged folders from `cache`.
    pub(super) fn read(root: &Path, cache: &mut ListingCache) -> Result<Self, DataError> {
        let mut listing = Self { root: root.to_owned(), classes: Vec::new(), files: Vec::new() };
        let (folders, loose) = entries(root, cache)?;
        listing.add(Path::new(""), loose, None);
        for folder in folders {
            let name = folder.to_str().ok_or_else(|| {
                let problem = "the name of this class folder is not valid UTF-8";
                DataError::layout(&root.join(&folder), problem, "rename the folder")
            })?;
            let class = listing.classes.len() as u32;
            listing.classes.push(name.to_owned());
            listing.add_below(&folder, class, 1, cache)?;
        }
        Ok(listing)
    }

    fn add_below(
        &mut self,
        folder: &Path,
        class: u32,
        depth: usize,
        cache: &mut ListingCache,
    ) -> Result<(), DataError> {
        if depth > MAX_DEPTH {
            let problem = format!("the folder has more than {MAX_DEPTH} levels of subfolders");
            let hint = "remove the symbolic link that leads back to a parent folder";
            return Err(DataError::layout(&self.root.join(folder), problem, hint));
        }
        let (folders, files) = entries(&self.root.join(folder), cache)?;
        self.add(folder, files, Some(class));
        let mut below = folders.iter().map(|name| folder.join(name));
        below.try_for_each(|folder| self.add_below(&folder, class, depth + 1, cache))
    }

    fn add(&mut self, folder: &Path, files: Vec<(PathBuf, u64)>, class: Option<u32>) {
        let files = files.into_iter();
        self.files.extend(files.map(|(name, size)| Listed {
            path: folder.join(name),
            size,
            class,
        }));
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether the split has images, and every image is in a class folder.
    pub(super) fn is_labelled(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.class.is_some())
    }

    pub(super) fn empty_classes(&self) -> Vec<&str> {
        let mut counts = vec![0; self.classes.len()];
        self.files.iter().filter_map(|file| file.class).for_each(|c| counts[c as usize] += 1);
        let empty = self.classes.iter().zip(counts).filter(|(_, count)| *count == 0);
        empty.map(|(name, _)| name.as_str()).collect()
    }

    /// Adds file names and sizes to `hash`.
    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        for file in &self.files {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(file.size.to_le_bytes());
        }
    }

    /// Converts the listing to a split. If `labelled` is false, all labels are 0.
    pub(super) fn into_split(self, labelled: bool, colour: Colour) -> ImageFolder {
        let label = |file: Listed| (file.path, file.class.filter(|_| labelled).unwrap_or(0));
        ImageFolder { root: self.root, files: self.files.into_iter().map(label).collect(), colour }
    }
}

type Entries = (Vec<PathBuf>, Vec<(PathBuf, u64)>);

/// Returns the sorted subfolders and the sorted images of `folder`. Image sizes are in bytes.
fn entries(folder: &Path, cache: &mut ListingCache) -> Result<Entries, DataError> {
    let stamp = Stamp::now(folder);
    if let Some(Contents { folders, images }) = cache.get(folder, stamp) {
        let images = images.iter().map(|image| (image.name.as_str().into(), image.size));
        return Ok((folders.iter().map(PathBuf::from).collect(), images.collect()));
    }
    let entries = read_entries(folder)?;
    if let Some(contents) = contents(&entries) {
        cache.add(folder, stamp, contents);
    }
    Ok(entries)
}

/// Converts a folder listing for the cache. Returns `None` if a name is not UTF-8.
fn contents((folders, images): &Entries) -> Option<Contents> {
    let text = |path: &PathBuf| path.to_str().map(str::to_owned);
    let image = |(path, size): &(PathBuf, u64)| {
        Some(ListedImage { name: text(path)?, size: *size, offset: 0, label: None, hash: None })
    };
    Some(Contents {
        folders: folders.iter().map(text).collect::<Option<_>>()?,
        images: images.iter().map(image).collect::<Option<_>>()?,
    })
}

fn read_entries(folder: &Path) -> Result<Entries, DataError> {
    let unreadable = |e| DataError::unreadable(folder, e);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        if is_hidden(&name) {
            continue;
        }
        let path = folder.join(&name);
        // Follows links. A broken link with an image extension counts as an unusable file. Another broken link is an
        // error, because it could be a class folder.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => folders.push(name),
            Ok(metadata) if is_image_name(&name) => files.push((name, metadata.len())),
            Ok(_) => {}
            Err(_) if is_image_name(&name) => files.push((name, 0)),
            Err(e) => return Err(DataError::unreadable(&path, e)),
        }
    }
    folders.sort_by(|a, b| bytes(a).cmp(bytes(b)));
    files.sort_by(|(a, _), (b, _)| bytes(a).cmp(bytes(b)));
    Ok((folders, files))
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

pub(super) fn is_hidden(name: &Path) -> bool {
    bytes(name).starts_with(b".")
}

/// A split of image files. Each access to an image reads the file again.
pub(super) struct ImageFolder {
    root: PathBuf,
    /// Path (relative to the root folder) and label of each image.
    files: Vec<(PathBuf, u32)>,
    colour: Colour,
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
        Ok(Stored::File { bytes: buffer, colour: self.colour })
    }

    fn name(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index].0)
    }
}
