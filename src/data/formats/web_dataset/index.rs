//! Indexes shards: where each image is, and its class.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::data::decode::image_name::is_image_name;
use crate::data::error::DataError;
use crate::data::formats::listing_cache::{Contents, ListedImage, ListingCache, Stamp};

use super::label;

type Images = Result<Vec<ListedImage>, DataError>;

/// The size of the blocks of a tar file, in bytes.
const BLOCK: u64 = 512;
const ONE_PICTURE: &str = "rename them: members belong to one sample if their names are the same up to the first dot; or pack an image \
                           folder with `mae data pack`";
const HINT: &str = "download or pack the shard again, or delete it";

/// The members of one sample that were read so far.
#[derive(Default)]
struct SampleGroup {
    key: String,
    image: Option<ListedImage>,
    label: Option<u32>,
}

/// Returns the images of each shard. Shards in the cache are not read again unless they changed.
pub(super) fn read_all(shards: &[PathBuf], cache: &mut ListingCache) -> Vec<Images> {
    let mut all: Vec<Option<Images>> = Vec::new();
    let mut unknown = Vec::new();
    for shard in shards {
        let stamp = Stamp::now(shard);
        let images = cache.get(shard, stamp).map(|contents| Ok(contents.images.clone()));
        if images.is_none() {
            unknown.push((all.len(), shard.as_path(), stamp));
        }
        all.push(images);
    }
    let paths: Vec<&Path> = unknown.iter().map(|(_, path, _)| *path).collect();
    for ((place, shard, stamp), images) in unknown.into_iter().zip(read_on_all_cores(&paths)) {
        if let Ok(images) = &images {
            cache.add(shard, stamp, Contents { folders: Vec::new(), images: images.clone() });
        }
        all[place] = Some(images);
    }
    all.into_iter().flatten().collect()
}

fn read_on_all_cores(shards: &[&Path]) -> Vec<Images> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(shards.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| {
            let place = next.fetch_add(1, Ordering::Relaxed);
            shards.get(place).map(|path| (place, read(path)))
        });
        mine.collect::<Vec<_>>()
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("reading headers does not panic"))
            .collect()
    });
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, images)| images).collect()
}

/// Reads the headers of one shard, and the small members that hold classes.
fn read(path: &Path) -> Images {
    let damaged = |e: std::io::Error| damaged(path, &e);
    let file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
    let length = file.metadata().map_err(|e| DataError::unreadable(path, e))?.len();
    let mut archive = tar::Archive::new(file);
    let (mut images, mut group, mut end) = (Vec::new(), SampleGroup::default(), 0);
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            let problem = format!("the shard is truncated: it ends inside {name}");
            return Err(DataError::layout(path, problem, HINT));
        }
        end = (offset + size).next_multiple_of(BLOCK);
        let (key, ending) = split_name(&name);
        if key != group.key {
            images.extend(std::mem::take(&mut group).image());
            group.key = key;
        }
        if is_image_name(Path::new(&name)) {
            let extension = |name: &str| Path::new(name).extension().map(OsStr::to_ascii_lowercase);
            let same = |other: &&ListedImage| extension(&other.name) == extension(&name);
            if let Some(other) = group.image.as_ref().filter(same) {
                let problem =
                    format!("sample {} has two images: {} and {name}", group.key, other.name);
                return Err(DataError::layout(path, problem, ONE_PICTURE));
            }
            // If a sample has an image and a mask, as `a.jpg` and `a.png`, the first counts.
            group.image.get_or_insert(ListedImage { offset, size, label: None, name });
        } else if label::is_label(&ending) && size <= label::MAX_BYTES {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            let label = label::parse(&ending, &bytes)
                .map_err(|error| DataError::layout(&path.join(&name), error.to_string(), HINT))?;
            group.label = group.label.or(label);
        }
    }
    if length < end + BLOCK {
        let problem = "the shard is truncated: the end marker of a tar file is missing";
        return Err(DataError::layout(path, problem, HINT));
    }
    images.extend(group.image());
    Ok(images)
}

impl SampleGroup {
    /// Returns the image with its class, or `None` if the sample has no image.
    fn image(self) -> Option<ListedImage> {
        self.image.map(|image| ListedImage { label: self.label, ..image })
    }
}

fn damaged(path: &Path, error: &std::io::Error) -> DataError {
    DataError::layout(path, format!("the tar file is damaged: {error}"), HINT)
}

/// Splits a member's name at the first dot after its folders. The second part is in lower case.
fn split_name(name: &str) -> (String, String) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].find('.') {
        Some(dot) => (name[..start + dot].to_owned(), name[start + dot + 1..].to_lowercase()),
        None => (name.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sample_is_what_comes_before_the_first_dot_of_the_file_name() {
        let split = |name| super::split_name(name);
        assert_eq!(split("a.b/c.d.JPG"), ("a.b/c".to_owned(), "d.jpg".to_owned()));
        assert_eq!(split("0001.cls"), ("0001".to_owned(), "cls".to_owned()));
        assert_eq!(split("README"), ("README".to_owned(), String::new()));
    }
}
