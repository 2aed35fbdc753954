//! Indexes shards: the position and the class of each image.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tar::EntryType;

use crate::data::error::DataError;
use crate::data::formats::image_names::ImageNames;
use crate::data::formats::listing_cache::{Contents, ListedImage, ListingCache, Stamp};
use crate::data::formats::passed_over::{self, PassedOver, of_no_use_in};
use crate::data::formats::signature::{self, is_compressed_tar};
use crate::text::one_line;

use super::checksums::{self, Checksums};
use super::sample::{SampleGroup, split_name};
use super::{AGAIN, label};

/// Block size of a tar file in bytes.
const BLOCK: u64 = 512;
/// Maximum number of zero bytes that may follow the end marker of an intact tar file.
const NORMAL_ZEROS: u64 = 1 << 20;

/// The description of archives inside a shard. They are ignored.
pub(super) const ARCHIVES: &str = "archives inside the shard";

#[derive(Default)]
pub(super) struct ShardIndex {
    pub(super) images: Vec<ListedImage>,
    /// Number of ignored tar members, by description such as `hidden files`.
    pub(super) passed_over: PassedOver,
    /// Warnings about samples that may be missing. These warnings do not stop a run.
    pub(super) lost: Vec<String>,
}

type Indexed = Result<ShardIndex, DataError>;

/// The settings for indexing shards.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The entries of `data.image_key`.
    pub(super) keys: &'a [String],
    pub(super) images: ImageNames,
    /// Whether `mae data pack` wrote checksum files for all shards.
    pub(super) checksummed: bool,
}

/// Returns the index of each shard. Uses the cached index of each unchanged shard.
pub(super) fn read_all(
    shards: &[PathBuf],
    rules: Rules<'_>,
    cache: &mut ListingCache,
) -> Vec<Indexed> {
    let mut all: Vec<Option<Indexed>> = Vec::new();
    let mut unknown = Vec::new();
    for shard in shards {
        let stamp = Stamp::now(shard);
        let hashed = |contents: &&Contents| {
            !rules.checksummed || contents.images.iter().all(|image| image.hash.is_some())
        };
        let known = cache.get(shard, stamp).filter(hashed).cloned();
        if known.is_none() {
            unknown.push((all.len(), shard.as_path(), stamp));
        }
        all.push(known.map(|Contents { images, passed_over, .. }| {
            Ok(ShardIndex { images, passed_over, lost: Vec::new() })
        }));
    }
    let paths: Vec<&Path> = unknown.iter().map(|(_, path, _)| *path).collect();
    for ((place, shard, stamp), index) in unknown.into_iter().zip(read_on_all_cores(&paths, rules))
    {
        // A shard with warnings is not cached, so every start reads the shard again and reports the warnings.
        if let Ok(ShardIndex { images, passed_over, lost }) = &index {
            let (images, passed_over) = (images.clone(), passed_over.clone());
            let contents = Contents { folders: Vec::new(), images, passed_over };
            cache.add(shard, stamp.filter(|_| lost.is_empty()), contents);
        }
        all[place] = Some(index);
    }
    all.into_iter().flatten().collect()
}

fn read_on_all_cores(shards: &[&Path], rules: Rules<'_>) -> Vec<Indexed> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(shards.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| {
            let place = next.fetch_add(1, Ordering::Relaxed);
            shards.get(place).map(|path| (place, read(path, rules)))
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

/// Indexes one shard: reads the tar headers, and the members that contain classes.
///
/// Then compares the images with the shard's checksum file.
fn read(path: &Path, rules: Rules<'_>) -> Indexed {
    let mut index = read_members(path, rules)?;
    if index.images.is_empty() {
        index.lost.push("the shard contains no images".to_owned());
    }
    match Checksums::read(path) {
        Ok(Some(checksums)) => checksums
            .compare(&mut index)
            .map_err(|(image, problem)| DataError::layout(&path.join(image), problem, AGAIN))?,
        Ok(None) if rules.checksummed => {
            let file = checksums::path_of(path);
            let text = format!(
                "mae cannot verify the images, because the checksum file {} is missing",
                file.display()
            );
            index.lost.push(text);
        }
        Ok(None) => {}
        Err(error) => {
            let file = checksums::path_of(path);
            let text = format!(
                "mae cannot verify the images, because it cannot read the checksum file {}: {error}",
                file.display()
            );
            index.lost.push(text);
        }
    }
    Ok(index)
}

fn read_members(path: &Path, rules: Rules<'_>) -> Indexed {
    let keys = rules.keys;
    let mut file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
    let length = file.metadata().map_err(|e| DataError::unreadable(path, e))?.len();
    refuse_other_kind(path, &mut file)?;
    let mut archive = tar::Archive::new(file);
    let (mut index, mut group, mut end) = (ShardIndex::default(), SampleGroup::default(), 0);
    let (mut no_files, mut archives) = (Vec::new(), Vec::new());
    for entry in archive.entries_with_seek().map_err(|e| damaged(path, &e))? {
        let mut entry =
            entry.map_err(|e| if end == 0 { no_tar(path) } else { damaged(path, &e) })?;
        let kind = entry.header().entry_type();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !kind.is_file() {
            if !kind.is_dir() && !kind.is_pax_global_extensions() {
                no_files.push(format!("{name} ({})", kind_name(kind)));
            }
            continue;
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            let problem = format!("the shard is truncated inside `{}`", one_line(&name));
            return Err(DataError::layout(path, problem, AGAIN));
        }
        end = (offset + size).next_multiple_of(BLOCK);
        if let Some(what) = of_no_use_in(&name) {
            passed_over::count(&mut index.passed_over, what, what, 1);
            continue;
        }
        if is_archive(&name) {
            archives.push(name);
            continue;
        }
        let Some((key, suffix)) = split_name(&name) else { continue };
        if key != group.key {
            let done = std::mem::replace(&mut group, SampleGroup::new(key));
            index.images.extend(done.finish(path, keys, &mut index.passed_over)?);
        }
        if SampleGroup::is_image(&suffix, rules) {
            group.add_image(suffix, ListedImage { name, size, offset, ..ListedImage::default() });
        } else if label::is_label(&suffix) && size <= label::MAX_BYTES {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|e| damaged(path, &e))?;
            group.add_class(suffix, &name, &bytes);
        }
    }
    if length < end + BLOCK {
        let problem = "the shard is truncated: the tar end marker is missing";
        return Err(DataError::layout(path, problem, AGAIN));
    }
    index.images.extend(group.finish(path, keys, &mut index.passed_over)?);
    let lost = [("tar members that are not files", no_files), (ARCHIVES, archives)];
    for (what, names) in lost.into_iter().filter(|(_, names)| !names.is_empty()) {
        index.lost.push(format!(
            "mae ignores {what} ({}): {}",
            names.len(),
            checksums::list(&names)
        ));
    }
    index.lost.extend(after_end(archive.into_inner()).map_err(|e| damaged(path, &e))?);
    Ok(index)
}

/// Fails if the file is of a known other kind, such as a zip archive. Sets the read position of `file` to 0.
fn refuse_other_kind(path: &Path, file: &mut File) -> Result<(), DataError> {
    let mut start = Vec::new();
    let read = file.take(signature::BYTES as u64).read_to_end(&mut start);
    read.and_then(|_| file.rewind()).map_err(|e| DataError::unreadable(path, e))?;
    match signature::of_other_kind(&start) {
        Some(kind) => Err(DataError::layout(
            path,
            format!("the file is {}, not a plain tar file", kind.is),
            kind.hint,
        )),
        None => Ok(()),
    }
}

/// Returns whether a tar member is itself an archive, judged by its name.
fn is_archive(name: &str) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    ["tar", "zip", "7z", "rar", "parquet"].iter().any(|known| extension == *known)
        || is_compressed_tar(name)
}

fn no_tar(path: &Path) -> DataError {
    DataError::layout(path, "the tar file is damaged: it does not begin with a tar header", AGAIN)
}

/// Returns a warning if unexpected bytes follow the end marker of a tar file.
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
                "samples may be missing: the tar end marker is at byte {}, but more data follows from byte {place}",
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

fn damaged(path: &Path, error: &io::Error) -> DataError {
    let problem = format!("the tar file is damaged: {}", one_line(&error.to_string()));
    DataError::layout(path, problem, AGAIN)
}
