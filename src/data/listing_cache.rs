//! What was found in a large data set's folders and shards, kept in the user's cache folder from one start to the next.
//!
//! A folder or a shard is read again when its time of change or its size is another. A file that is overwritten in place
//! changes neither of its folder's: it is seen when it is decoded, and by `data check`, which finds everything anew.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use sha2::{Digest, Sha256};

use crate::durable;

use super::dataset::hex;

/// Fewer images than this are found faster than it is worth a file.
const WORTH_KEEPING: usize = 10_000;
/// Of the file's layout, and of what is taken for an image.
const VERSION: u32 = 1;
/// A place that changed this shortly before it was read may change again without another time of change.
const SETTLED: Duration = Duration::from_secs(2);

/// Caches the listings of a data set's folders and shards.
pub(super) struct ListingCache {
    /// The data set's path, which those of its places begin with.
    data: PathBuf,
    /// Where it is kept; `None` where the system has no cache folder.
    file: Option<PathBuf>,
    before: HashMap<String, CachedListing>,
    /// What this start found or took over.
    now: Vec<CachedListing>,
    /// Whether something was read anew.
    changed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CacheFile {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    places: Vec<CachedListing>,
}

/// A folder or a shard.
#[derive(Clone, PartialEq, Message)]
struct CachedListing {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    stamp: Option<Stamp>,
    #[prost(message, optional, tag = "3")]
    contents: Option<Contents>,
}

/// Another one tells of a change.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Stamp {
    #[prost(uint64, tag = "1")]
    modified_s: u64,
    #[prost(uint32, tag = "2")]
    modified_ns: u32,
    #[prost(uint64, tag = "3")]
    size: u64,
}

/// What is in a folder or a shard.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Contents {
    /// A folder's folders.
    #[prost(string, repeated, tag = "1")]
    pub(super) folders: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) images: Vec<ListedImage>,
}

/// An image in a folder or a shard.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListedImage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) size: u64,
    /// Of its bytes in a shard.
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(uint32, optional, tag = "4")]
    pub(super) label: Option<u32>,
}

impl Stamp {
    /// Gives the stamp of what can be trusted to change it with its next change.
    fn of(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?;
        SystemTime::now().duration_since(modified).ok().filter(|age| *age > SETTLED)?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        // A folder's size says nothing.
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        Some(Self { modified_s: since.as_secs(), modified_ns: since.subsec_nanos(), size })
    }

    /// Gives the stamp of `place` as it is now, before it is read.
    pub(super) fn now(place: &Path) -> Option<Self> {
        Self::of(&fs::metadata(place).ok()?)
    }
}

impl ListingCache {
    /// Reads the cache of the data set at `data`; empty if it cannot be read.
    pub(super) fn of(data: &Path) -> Self {
        let file = file_of(data);
        let kept = file.as_deref().and_then(|file| fs::read(file).ok());
        let kept = kept.and_then(|bytes| CacheFile::decode(bytes.as_slice()).ok());
        let places = kept.filter(|kept| kept.version == VERSION).map_or(Vec::new(), |k| k.places);
        let before = places.into_iter().map(|place| (place.path.clone(), place)).collect();
        Self { data: data.to_owned(), file, before, now: Vec::new(), changed: false }
    }

    /// Removes the cache of the data set at `data`, so that everything is listed again.
    pub(super) fn forget(data: &Path) {
        if let Some(file) = file_of(data)
            && let Err(error) = durable::remove(&file)
        {
            tracing::debug!("{}: {error}", file.display());
        }
    }

    /// Returns the cached listing of `place`, unless it changed.
    pub(super) fn get(&mut self, place: &Path, stamp: Option<Stamp>) -> Option<&Contents> {
        let stamp = stamp?;
        let known = self.before.remove(&self.path_in_data(place)?)?;
        if known.stamp != Some(stamp) {
            return None;
        }
        self.now.push(known);
        self.now.last()?.contents.as_ref()
    }

    /// Notes what was read in `place`, whose stamp was taken before.
    pub(super) fn add(&mut self, place: &Path, stamp: Option<Stamp>, contents: Contents) {
        self.changed = true;
        if let (Some(path), Some(_)) = (self.path_in_data(place), stamp) {
            self.now.push(CachedListing { path, stamp, contents: Some(contents) });
        }
    }

    /// `None` where it is no UTF-8: such a place is read at every start.
    fn path_in_data(&self, place: &Path) -> Option<String> {
        Some(place.strip_prefix(&self.data).ok()?.to_str()?.to_owned())
    }

    /// Keeps what was found, where it is much and not what was known before. That it cannot be kept is no failure.
    pub(super) fn keep(self) {
        let images: usize =
            self.now.iter().filter_map(|p| p.contents.as_ref()).map(|c| c.images.len()).sum();
        let Some(file) = self.file else { return };
        let same = !self.changed && self.before.is_empty();
        if same || images < WORTH_KEEPING {
            return;
        }
        let kept = CacheFile { version: VERSION, places: self.now };
        if let Err(error) = durable::write(&file, &kept.encode_to_vec()) {
            tracing::debug!("what is in the data set is not kept: {}: {error}", file.display());
        }
    }
}

/// Where it is kept what is in the data set at `data`.
fn file_of(data: &Path) -> Option<PathBuf> {
    let data = fs::canonicalize(data).ok()?;
    let name = hex(Sha256::new_with_prefix(data.as_os_str().as_encoded_bytes()));
    Some(dirs::cache_dir()?.join("mae/data").join(name))
}
