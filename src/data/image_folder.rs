//! A folder of image files: `<class>/<name>.jpg`, or images anywhere where no labels are needed.
//!
//! Classes are in the byte order of their names, the files of a folder too and before those of its folders. Hidden
//! files and files that are no images are passed over, links are followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::decode::Colour;
use super::error::DataError;
use super::listing_cache::{Contents, ListedImage, ListingCache, Stamp};
use super::split::{Split, Stored};

/// As torchvision's `ImageFolder` has them.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];
/// Folders inside folders; more is a link that leads back.
const MAX_DEPTH: usize = 32;

/// What a split's folder holds.
pub(super) struct Listing {
    root: PathBuf,
    /// Names of the first-level folders, sorted.
    pub(super) classes: Vec<String>,
    /// Folder after folder; those directly in the root come first.
    files: Vec<Listed>,
}

struct Listed {
    /// Relative to the root.
    path: PathBuf,
    size: u64,
    /// Index of its first-level folder, if it is in one.
    class: Option<u32>,
}

impl Listing {
    /// Lists all images below `root`; folders that are known and did not change are not read.
    pub(super) fn read(root: &Path, known: &mut ListingCache) -> Result<Self, DataError> {
        let mut listing = Self { root: root.to_owned(), classes: Vec::new(), files: Vec::new() };
        let (folders, loose) = entries(root, known)?;
        listing.add(Path::new(""), loose, None);
        for folder in folders {
            let name = folder.to_str().ok_or_else(|| {
                let problem = "the folder's name is not valid UTF-8";
                DataError::layout(&root.join(&folder), problem, "rename it: it names a class")
            })?;
            let class = listing.classes.len() as u32;
            listing.classes.push(name.to_owned());
            listing.add_below(&folder, class, 1, known)?;
        }
        Ok(listing)
    }

    fn add_below(
        &mut self,
        folder: &Path,
        class: u32,
        depth: usize,
        known: &mut ListingCache,
    ) -> Result<(), DataError> {
        if depth > MAX_DEPTH {
            let problem = format!("more than {MAX_DEPTH} folders inside each other");
            let hint = "look for a symbolic link that leads back to a folder above it";
            return Err(DataError::layout(&self.root.join(folder), problem, hint));
        }
        let (folders, files) = entries(&self.root.join(folder), known)?;
        self.add(folder, files, Some(class));
        let mut below = folders.iter().map(|name| folder.join(name));
        below.try_for_each(|folder| self.add_below(&folder, class, depth + 1, known))
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

    /// Tells whether every image is in some class's folder.
    pub(super) fn is_labelled(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.class.is_some())
    }

    /// Classes without a single image.
    pub(super) fn empty_classes(&self) -> Vec<&str> {
        let mut counts = vec![0; self.classes.len()];
        self.files.iter().filter_map(|file| file.class).for_each(|c| counts[c as usize] += 1);
        let empty = self.classes.iter().zip(counts).filter(|(_, count)| *count == 0);
        empty.map(|(name, _)| name.as_str()).collect()
    }

    /// Adds what identifies the files, names and sizes, to a hash.
    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        for file in &self.files {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(file.size.to_le_bytes());
        }
    }

    /// Makes a split of the files; without `labelled` every label is 0.
    pub(super) fn into_split(self, labelled: bool, colour: Colour) -> ImageFolder {
        let label = |file: Listed| (file.path, file.class.filter(|_| labelled).unwrap_or(0));
        ImageFolder { root: self.root, files: self.files.into_iter().map(label).collect(), colour }
    }
}

type Entries = (Vec<PathBuf>, Vec<(PathBuf, u64)>);

/// The folders and the images directly in `folder`, with the images' sizes, each in the byte order of their names.
fn entries(folder: &Path, known: &mut ListingCache) -> Result<Entries, DataError> {
    let stamp = Stamp::now(folder);
    if let Some(Contents { folders, images }) = known.get(folder, stamp) {
        let images = images.iter().map(|image| (image.name.as_str().into(), image.size));
        return Ok((folders.iter().map(PathBuf::from).collect(), images.collect()));
    }
    let entries = read_entries(folder)?;
    if let Some(contents) = contents(&entries) {
        known.add(folder, stamp, contents);
    }
    Ok(entries)
}

/// What is kept of a folder; `None` where a name is no UTF-8.
fn contents((folders, images): &Entries) -> Option<Contents> {
    let text = |path: &PathBuf| path.to_str().map(str::to_owned);
    let image = |(path, size): &(PathBuf, u64)| {
        Some(ListedImage { name: text(path)?, size: *size, offset: 0, label: None })
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
        if name.as_os_str().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = folder.join(&name);
        // Follows links. A broken one that is called like an image is a bad file; another may stand for a class.
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

/// Tells whether a file is called like an image that can be decoded.
pub(super) fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Counts the files below `folders` that are not called like images, by their endings, the most frequent first; hidden ones are
/// left aside.
pub(super) fn left_out(folders: &[PathBuf]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for folder in folders {
        count_others(folder, 0, &mut counts);
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn count_others(folder: &Path, depth: usize, counts: &mut BTreeMap<String, usize>) {
    // What cannot be listed is an error elsewhere.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        if bytes(&name).starts_with(b".") || is_image_name(&name) {
            continue;
        }
        if path.is_dir() {
            if depth < MAX_DEPTH {
                count_others(&path, depth + 1, counts);
            }
            continue;
        }
        let ending = name.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        *counts.entry(ending.unwrap_or_default()).or_default() += 1;
    }
}

/// A split of image files, decoded at every reading.
pub(super) struct ImageFolder {
    root: PathBuf,
    /// Relative to the root, with their labels.
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
        // A pipe would keep its reader waiting.
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
