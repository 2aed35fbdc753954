//! Caches the listings of the folders and shards of large data sets, in the user's cache folder.
//!
//! A folder is listed again if its modification time has changed. A shard is indexed again if its modification time or
//! size has changed. Overwriting an image in place does not change the modification time of the folder. So the cached
//! listing stays in use, with the old size of the image. But decoding reads the new image. `mae data check` deletes the
//! cache file first.
//!
//! The cache file contains labels and offsets, so damage would be harmful. Therefore, the cache file starts with the
//! BLAKE3 hash of its remaining bytes. A damaged cache file is ignored.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::{Message, Oneof};
use sha2::{Digest, Sha256};

use crate::durable;

use super::found::hex;
use super::image_names::ImageNames;
use super::passed_over::PassedOver;
use crate::recipe::DataPlan;

/// Minimum number of images of a data set. The listing of a smaller data set is not cached.
const WORTH_KEEPING: usize = 10_000;
/// Version of the cache file. A cache file of a different version is ignored.
///
/// Increase this number if the file format or the rules for images and classes change.
const VERSION: u32 = 3;
/// Length of the hash at the start of the cache file, in bytes.
const HASH_BYTES: usize = 32;
/// A folder or shard is cached only if its last modification is at least this long ago.
const SETTLED: Duration = Duration::from_secs(2);

pub(in crate::data) struct ListingCache {
    /// Which files count as images.
    pub(super) images: ImageNames,
    /// Path of the data set. Paths in the cache are relative to this path.
    data: PathBuf,
    /// Path of the cache file; `None` if the system has no cache folder.
    file: Option<PathBuf>,
    before: HashMap<String, CachedListing>,
    /// The listings of all folders and shards that this process has used.
    now: Vec<CachedListing>,
    /// Whether the cache file must be written again.
    changed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CacheFile {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    places: Vec<CachedListing>,
}

#[derive(Clone, PartialEq, Message)]
struct CachedListing {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    stamp: Option<Stamp>,
    #[prost(message, optional, tag = "3")]
    contents: Option<Contents>,
}

/// Modification time and size of a folder or shard. If they change, the cached listing is outdated.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Stamp {
    #[prost(uint64, tag = "1")]
    modified_s: u64,
    #[prost(uint32, tag = "2")]
    modified_ns: u32,
    #[prost(uint64, tag = "3")]
    size: u64,
}

/// The images and subfolders of a folder, or the images of a shard.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Contents {
    /// Names of subfolders; empty for a shard.
    #[prost(string, repeated, tag = "1")]
    pub(super) folders: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) images: Vec<ListedImage>,
    /// Number of ignored files, by description such as `hidden files`.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(super) passed_over: PassedOver,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListedImage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) size: u64,
    /// Byte offset of the image in its shard; 0 for an image file.
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    /// The class that the shard stores for the image; `None` for an image file, or without a class.
    #[prost(oneof = "ListedClass", tags = "4, 6, 7, 8")]
    pub(super) class: Option<ListedClass>,
    /// First 16 bytes of the image's BLAKE3 hash; `None` if the shard has no checksum file.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) hash: Option<Vec<u8>>,
    /// Whether the tar member with the class has two dots in its name, such as `a.output.cls`.
    ///
    /// Older versions of this program ignored such members.
    #[prost(bool, tag = "9")]
    pub(super) dotted: bool,
}

/// The class that a file stores for an image.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ListedClass {
    #[prost(uint32, tag = "4")]
    Number(u32),
    /// A number that is stored as text. If other images have class names, the text is also a class name.
    #[prost(uint32, tag = "6")]
    TextNumber(u32),
    #[prost(string, tag = "7")]
    Name(String),
    /// The reason why the class is unusable. In a shard, the name of the tar member and a line break come first.
    #[prost(string, tag = "8")]
    Invalid(String),
}

impl Stamp {
    /// Returns the modification time and size; `None` if the last modification is less than [`SETTLED`] ago.
    fn of(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?;
        SystemTime::now().duration_since(modified).ok().filter(|age| *age > SETTLED)?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        // The size of a folder says nothing about its content.
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        Some(Self { modified_s: since.as_secs(), modified_ns: since.subsec_nanos(), size })
    }

    /// Returns the modification time and size of `place`, a folder or shard.
    ///
    /// Call this function before reading `place`. Returns `None` if `place` has changed in the last 2 s. Do not cache
    /// its listing then, because another change may not change the modification time.
    pub(super) fn now(place: &Path) -> Option<Self> {
        Self::of(&fs::metadata(place).ok()?)
    }
}

impl ListingCache {
    /// Reads the cache file of a data set. Returns an empty cache if the file is missing or unusable.
    pub(super) fn of(plan: &DataPlan) -> Self {
        let file = file_of(plan);
        let kept = file.as_deref().and_then(|file| fs::read(file).ok());
        let kept = kept.and_then(|bytes| CacheFile::decode(intact(&bytes)?).ok());
        let places = kept.filter(|kept| kept.version == VERSION).map_or(Vec::new(), |k| k.places);
        let before = places.into_iter().map(|place| (place.path.clone(), place)).collect();
        Self {
            images: ImageNames::of(plan),
            data: plan.path.clone(),
            file,
            before,
            now: Vec::new(),
            changed: false,
        }
    }

    /// Removes the cache file of a data set, so that all folders and shards are read again.
    pub(in crate::data) fn forget(plan: &DataPlan) {
        if let Some(file) = file_of(plan)
            && let Err(error) = durable::remove(&file)
        {
            tracing::debug!(
                "cannot remove the listing cache {}, so mae may use outdated listings: {error}",
                file.display()
            );
        }
    }

    /// Returns the cached listing of `place`; `None` if the listing is missing or outdated.
    ///
    /// `stamp` is the current result of [`Stamp::now`].
    pub(super) fn get(&mut self, place: &Path, stamp: Option<Stamp>) -> Option<&Contents> {
        let stamp = stamp?;
        let known = self.before.remove(&self.path_in_data(place)?)?;
        if known.stamp != Some(stamp) {
            return None;
        }
        self.now.push(known);
        self.now.last()?.contents.as_ref()
    }

    /// Adds `contents`, the listing of `place`, to the cache. Does not add `contents` if `stamp` is `None`.
    ///
    /// Call [`Stamp::now`] to get `stamp` before reading `place`.
    pub(super) fn add(&mut self, place: &Path, stamp: Option<Stamp>, contents: Contents) {
        self.changed = true;
        if let (Some(path), Some(_)) = (self.path_in_data(place), stamp) {
            self.now.push(CachedListing { path, stamp, contents: Some(contents) });
        }
    }

    /// Returns the path of `place` relative to the data set; `None` if the path is not UTF-8.
    fn path_in_data(&self, place: &Path) -> Option<String> {
        Some(place.strip_prefix(&self.data).ok()?.to_str()?.to_owned())
    }

    /// Writes the cache file if a listing has changed and the data set has at least [`WORTH_KEEPING`] images.
    ///
    /// A write error is only logged.
    pub(super) fn keep(self) {
        let images: usize =
            self.now.iter().filter_map(|p| p.contents.as_ref()).map(|c| c.images.len()).sum();
        let Some(file) = self.file else { return };
        let same = !self.changed && self.before.is_empty();
        if same || images < WORTH_KEEPING {
            return;
        }
        let kept = CacheFile { version: VERSION, places: self.now };
        let mut bytes = vec![0; HASH_BYTES];
        kept.encode(&mut bytes).expect("a vector takes every byte");
        let hash = blake3::hash(&bytes[HASH_BYTES..]);
        bytes[..HASH_BYTES].copy_from_slice(hash.as_bytes());
        if let Err(error) = durable::write(&file, &bytes) {
            tracing::debug!(
                "cannot write the listing cache {}, so the next start lists the data again: {error}",
                file.display()
            );
        }
    }
}

/// Returns the content of a cache file without its hash; `None` if the hash is wrong.
fn intact(bytes: &[u8]) -> Option<&[u8]> {
    let (hash, content) = bytes.split_at_checked(HASH_BYTES)?;
    (blake3::hash(content).as_bytes() == hash).then_some(content)
}

/// Returns the path of a data set's cache file; `None` if the data set or the user's cache folder is missing.
///
/// The file name depends on the path of the data set and on the settings that select its images.
fn file_of(plan: &DataPlan) -> Option<PathBuf> {
    let data = fs::canonicalize(&plan.path).ok()?;
    let mut hash = Sha256::new_with_prefix(data.as_os_str().as_encoded_bytes());
    let mut choices = plan.image_key.clone();
    if ImageNames::of(plan) == ImageNames::ImagesAndArrays {
        choices.push(".npy".to_owned());
    }
    for choice in choices {
        hash.update([0]);
        hash.update(choice);
    }
    Some(dirs::cache_dir()?.join("mae/data").join(hex(hash)))
}
