//! Indexes shards: the position and the class of each image.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tar::EntryType;

use crate::data::decode::image_name::is_image_name;
use crate::data::error::DataError;
use crate::data::formats::listing_cache::{Contents, ListedImage, ListingCache, Stamp};

use super::checksums::{self, Checksums};
use super::{AGAIN, label};

/// Block size of a tar file in bytes.
const BLOCK: u64 = 512;
/// Maximum number of zero bytes after the end marker of an undamaged tar file.
const NORMAL_ZEROS: u64 = 1 << 20;
const ONE_PICTURE: &str = "rename the images: tar members with the same name up to the first dot belong to one sample. \
                           Or pack an image folder with `mae data pack`";

#[derive(Default)]
pub(super) struct ShardIndex {
    pub(super) images: Vec<ListedImage>,
    /// Warnings about samples that may be missing.
    pub(super) lost: Vec<String>,
}

type Indexed = Result<ShardIndex, DataError>;

#[derive(Default)]
struct SampleGroup {
    key: String,
    image: Option<ListedImage>,
    label: Option<u32>,
}

/// Indexes all shards. Uses the cache for unchanged shards.
///
/// `checksummed` says whether every shard should have a checksum file.
pub(super) fn read_all(
    shards: &[PathBuf],
    checksummed: bool,
    cache: &mut ListingCache,
) -> Vec<Indexed> {
    let mut all: Vec<Option<Indexed>> = Vec::new();
    let mut unknown = Vec::new();
    for shard in shards {
        let stamp = Stamp::now(shard);
        let hashed =
            |contents: &&Contents| !checksummed || contents.images.iter().all(|i| i.hash.is_some());
        let images = cache.get(shard, stamp).filter(hashed).map(|contents| contents.images.clone());
        if images.is_none() {
            unknown.push((all.len(), shard.as_path(), stamp));
        }
        all.push(images.map(|images| Ok(ShardIndex { images, lost: Vec::new() })));
    }
    let paths: Vec<&Path> = unknown.iter().map(|(_, path, _)| *path).collect();
    for ((place, shard, stamp), index) in
        unknown.into_iter().zip(read_on_all_cores(&paths, checksummed))
    {
        // A shard with findings is not cached, so every start reads it again and reports them.
        if let Ok(ShardIndex { images, lost }) = &index {
            let contents = Contents { folders: Vec::new(), images: images.clone() };
            cache.add(shard, stamp.filter(|_| lost.is_empty()), contents);
        }
        all[place] = Some(index);
    }
    all.into_iter().flatten().collect()
}

fn read_on_all_cores(shards: &[&Path], checksummed: bool) -> Vec<Indexed> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(shards.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| {
            let place = next.fetch_add(1, Ordering::Relaxed);
            shards.get(place).map(|path| (place, read(path, checksummed)))
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
    all.into_iter().map(|(_, index)| index).collect()
}

/// Indexes one shard from tar headers, then compares the index with the checksum file.
fn read(path: &Path, checksummed: bool) -> Indexed {
    let mut index = read_members(path)?;
    if index.images.is_empty() {
        index.lost.push("the shard contains no images".to_owned());
    }
    match Checksums::read(path) {
        Ok(Some(checksums)) => checksums
            .compare(&mut index)
            .map_err(|(image, problem)| DataError::layout(&path.join(image), problem, AGAIN))?,
        Ok(None) if checksummed => {
            let file = checksums::path_of(path);
            let text = format!("mae cannot verify the images: {} is missing", file.display());
            index.lost.push(text);
        }
        Ok(None) => {}
        Err(error) => {
            let file = checksums::path_of(path);
            let text =
                format!("mae cannot verify the images: cannot read {}: {error}", file.display());
            index.lost.push(text);
        }
    }
    Ok(index)
}

fn read_members(path: &Path) -> Indexed {
    let damaged = |e: io::Error| damaged(path, &e);
    let file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
    let length = file.metadata().map_err(|e| DataError::unreadable(path, e))?.len();
    let mut archive = tar::Archive::new(file);
    let (mut index, mut group, mut end) = (ShardIndex::default(), SampleGroup::default(), 0);
    let mut passed_over = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !kind.is_file() {
            if !kind.is_dir() && !kind.is_pax_global_extensions() {
                passed_over.push(format!("{name} ({})", kind_name(kind)));
            }
            continue;
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            let problem = format!("the shard is truncated inside `{name}`");
            return Err(DataError::layout(path, problem, AGAIN));
        }
        end = (offset + size).next_multiple_of(BLOCK);
        let (key, ending) = split_name(&name);
        if key != group.key {
            index.images.extend(std::mem::take(&mut group).image());
            group.key = key;
        }
        if is_image_name(Path::new(&name)) {
            group.add_image(path, ListedImage { offset, size, label: None, hash: None, name })?;
        } else if label::is_label(&ending) && size <= label::MAX_BYTES {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            let label = label::parse(&ending, &bytes).map_err(|error| {
                DataError::layout(&path.join(&name), error.to_string(), error.hint())
            })?;
            group.label = group.label.or(label);
        }
    }
    if length < end + BLOCK {
        let problem = "the shard is truncated: the tar end marker is missing";
        return Err(DataError::layout(path, problem, AGAIN));
    }
    index.images.extend(group.image());
    if !passed_over.is_empty() {
        let names = checksums::list(&passed_over);
        index.lost.push(format!(
            "mae ignores tar members that are not files ({}): {names}",
            passed_over.len()
        ));
    }
    index.lost.extend(after_end(archive.into_inner()).map_err(damaged)?);
    Ok(index)
}

/// Returns a warning if data, or too many zeros, follow the end marker of a tar file.
///
/// The end marker is two blocks of zeros. The caller has already read the first block.
fn after_end(mut file: File) -> io::Result<Option<String>> {
    let start = file.stream_position()?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = start;
    loop {
        let read = file.read(&mut buffer)?;
        if let Some(place) = buffer[..read].iter().position(|byte| *byte != 0) {
            let place = at + place as u64;
            return Ok(Some(format!(
                "samples may be missing: data follows the tar end marker (marker at byte {}, data from byte {place})",
                start.saturating_sub(BLOCK)
            )));
        }
        at += read as u64;
        if read == 0 {
            break;
        }
    }
    let zeros = at - start;
    Ok((zeros > NORMAL_ZEROS).then(|| {
        let mib = zeros as f64 / f64::from(1 << 20);
        format!("samples may be missing: the shard ends with {mib:.1} MiB of zeros")
    }))
}

fn kind_name(kind: EntryType) -> String {
    match kind {
        EntryType::Link => "hard link".to_owned(),
        EntryType::Symlink => "symbolic link".to_owned(),
        EntryType::Char | EntryType::Block => "device".to_owned(),
        EntryType::Fifo => "named pipe".to_owned(),
        EntryType::GNUSparse => "sparse file".to_owned(),
        other => format!("unknown type {}", char::from(other.as_byte()).escape_default()),
    }
}

impl SampleGroup {
    /// Adds an image to the sample. Fails if the sample has two images with the same extension.
    ///
    /// If the extensions differ, only the first image is used.
    fn add_image(&mut self, shard: &Path, image: ListedImage) -> Result<(), DataError> {
        let extension = |name: &str| Path::new(name).extension().map(OsStr::to_ascii_lowercase);
        let same = |other: &&ListedImage| extension(&other.name) == extension(&image.name);
        if let Some(other) = self.image.as_ref().filter(same) {
            let problem = format!(
                "sample `{}` has two images: `{}` and `{}`",
                self.key, other.name, image.name
            );
            return Err(DataError::layout(shard, problem, ONE_PICTURE));
        }
        self.image.get_or_insert(image);
        Ok(())
    }

    /// Returns the image and the class; `None` for a sample without image.
    fn image(self) -> Option<ListedImage> {
        self.image.map(|image| ListedImage { label: self.label, ..image })
    }
}

fn damaged(path: &Path, error: &io::Error) -> DataError {
    DataError::layout(path, format!("the tar file is damaged: {error}"), AGAIN)
}

/// Splits the path of a tar member at the first dot of the file name.
///
/// The second part is in lower case.
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
