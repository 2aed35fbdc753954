//! `mae data pack`: packs a data set into `WebDataset` shards, and optionally makes large images smaller.
//!
//! Samples keep their order. Without re-encoding, training on the shards gives the same results as training on the
//! original files. Shards are written atomically. A restart skips the complete shards.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::augment::evaluation::resized;
use crate::data::dataset;
use crate::data::decode::error::ImageError;
use crate::data::decode::format::Format as PictureFormat;
use crate::data::decode::jpeg;
use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{Colour, Picture, Pixels, Reading, Stored};
use crate::data::decode::raw::npy::is_npy;
use crate::data::decode::resize::bicubic;
use crate::data::error::DataError;
use crate::data::formats::found::{Found, Labels, hex};
use crate::data::formats::split::Split;
use crate::data::formats::web_dataset::checksums::{self, ChecksumsWriter};
use crate::data::formats::web_dataset::packed::{CLASSES, PACK, Packed, Reencoded, ShardCounts};
use crate::data::loader::workers::{self, Workers};
use crate::data::table::{self, Problems};
use crate::durable;
use crate::recipe::{DataPlan, Format, Threads};

/// Name of the CSV file that lists the unusable images.
const LEFT_OUT: &str = "left_out.csv";

/// Options of `mae data pack`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackOptions {
    pub samples_per_shard: usize,
    /// How to re-encode large images; `None` keeps all images unchanged.
    pub reencode: Option<Reencoded>,
}

/// The result of `mae data pack`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Packing {
    pub images: usize,
    pub shards: usize,
    /// Number of shards that already existed when packing started.
    pub shards_there: usize,
    pub bytes: u64,
    /// Unusable files that are not in the shards, as (file, problem).
    pub left_out: Vec<(String, String)>,
}

struct Member {
    /// Sample name without an extension.
    key: String,
    extension: &'static str,
    bytes: Vec<u8>,
    label: Option<u32>,
}

/// The contents of a shard and its checksum file.
struct ShardBytes {
    tar: Vec<u8>,
    checksums: Vec<u8>,
}

enum Made {
    Member(Member),
    /// An unusable file, which is not in the shard.
    LeftOut(PathBuf, ImageError),
}

/// Packs the data set that `plan` describes into tar shards in the folder `out`.
///
/// Continues an interrupted packing. Calls `progress(packed images, all images)`. If `progress` returns false, stops
/// and returns `None`.
pub fn pack(
    plan: &DataPlan,
    out: &Path,
    options: PackOptions,
    progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Packing>, DataError> {
    let (found, labelled) = find(plan)?;
    refuse_inside(plan, out)?;
    let unwritable = |e| DataError::unwritable(out, e);
    fs::create_dir_all(out).map_err(unwritable)?;
    let lock = durable::Lock::take(out).map_err(unwritable)?;
    if lock.is_none() {
        let hint = "wait for the other process, or choose another folder";
        return Err(DataError::layout(out, "another process is packing into this folder", hint));
    }
    let mut packed = Packed::new(options.samples_per_shard, hex(found.hash), options.reencode);
    begin(out, &packed, &found.classes)?;
    durable::remove_temporaries(out, &is_packs).map_err(unwritable)?;
    let total = found.train.len() + found.val.as_ref().map_or(0, |val| val.len());
    let left_out = table::problems(&out.join(LEFT_OUT));
    let packing = Packing::default();
    let mut packer = Packer {
        out,
        options,
        workers: plan.workers,
        labelled,
        left_out,
        packing,
        done: 0,
        total,
        progress,
    };
    let mut shards = ShardCounts::default();
    for (name, split, count) in [
        ("train", Some(&found.train), &mut shards.train),
        ("val", found.val.as_ref(), &mut shards.val),
    ] {
        let Some(split) = split else { continue };
        *count = split.len().div_ceil(options.samples_per_shard);
        for shard in 0..*count {
            if !packer.add(name, split, shard)? {
                return Ok(None);
            }
        }
    }
    let classes = fs::read(out.join(CLASSES)).ok();
    packed.classes = classes.map(|bytes| blake3::hash(&bytes).to_hex().to_string());
    (packed.shards, packed.checksums) = (Some(shards), true);
    write_packed(out, &packed)?;
    let Packer { left_out, mut packing, .. } = packer;
    packing.images = total - left_out.len();
    packing.left_out = left_out.into_iter().collect();
    Ok(Some(packing))
}

/// Finds the data set that `plan` describes. Also returns whether the images have classes.
///
/// Fails if packing would lose classes. In tar or parquet data with a validation split, either all images or no images
/// must have a class. An image folder with classes needs a validation split.
fn find(plan: &DataPlan) -> Result<(Found, bool), DataError> {
    if matches!(plan.format, Format::WebDataset | Format::Parquet) {
        let found = dataset::find(plan, Labels::IfAny)?;
        let labelled = !found.classes.is_empty();
        return Ok((found, labelled));
    }
    match dataset::find(plan, Labels::Needed) {
        Ok(found) => Ok((found, true)),
        Err(error) => match dataset::find(plan, Labels::Unneeded) {
            Ok(found) if found.classes.is_empty() => Ok((found, false)),
            _ => Err(error),
        },
    }
}

struct Packer<'a, F> {
    out: &'a Path,
    options: PackOptions,
    workers: Threads,
    labelled: bool,
    left_out: Problems,
    packing: Packing,
    done: usize,
    total: usize,
    progress: F,
}

impl<F: FnMut(usize, usize) -> bool> Packer<'_, F> {
    /// Writes a shard and its checksum file, unless both exist. Returns false if `progress` returned false.
    fn add(&mut self, name: &str, split: &Arc<dyn Split>, shard: usize) -> Result<bool, DataError> {
        let first = shard * self.options.samples_per_shard;
        let samples = first..(first + self.options.samples_per_shard).min(split.len());
        let path = self.out.join(name).join(format!("{name}-{shard:06}.tar"));
        self.packing.shards += 1;
        let checksums = checksums::path_of(&path);
        if is_whole_tar(&path) && checksums.exists() {
            self.packing.shards_there += 1;
            self.done += samples.len();
        } else {
            let known = self.left_out.len();
            let Some(shard) = self.tar(split, samples)? else { return Ok(false) };
            // Write the table before the shard. A restart skips finished shards, so it would not find their unusable
            // files.
            if self.left_out.len() > known {
                table::write_problems(&self.out.join(LEFT_OUT), &self.left_out)?;
            }
            for (path, bytes) in [(&checksums, &shard.checksums), (&path, &shard.tar)] {
                durable::write(path, bytes).map_err(|e| DataError::unwritable(path, e))?;
            }
        }
        let size = fs::metadata(&path).map_err(|e| DataError::unreadable(&path, e))?.len();
        self.packing.bytes += size;
        Ok(true)
    }

    /// Returns the content of a shard and its checksum file; `None` if `progress` returned false.
    fn tar(
        &mut self,
        split: &Arc<dyn Split>,
        samples: Range<usize>,
    ) -> Result<Option<ShardBytes>, DataError> {
        let unwritable = |e| DataError::unwritable(self.out, e);
        let mut sums = ChecksumsWriter::default();
        let mut workers = make(split, self.workers, samples.clone(), self.labelled, self.options);
        let mut tar = tar::Builder::new(Vec::new());
        for _ in samples {
            match workers.take()? {
                Made::Member(member) => {
                    append(&mut tar, &member).map_err(unwritable)?;
                    sums.add(member.image_name(), member.label, &member.bytes);
                }
                Made::LeftOut(file, error) => {
                    self.left_out.insert(file.display().to_string(), error.to_string());
                }
            }
            self.done += 1;
            if !(self.progress)(self.done, self.total) {
                return Ok(None);
            }
        }
        let tar = tar.into_inner().map_err(unwritable)?;
        Ok(Some(ShardBytes { tar, checksums: sums.finish() }))
    }
}

/// Returns whether `path`, relative to the output folder, is a file that `mae data pack` writes.
fn is_packs(path: &str) -> bool {
    let is_shards = |end: &OsStr| end == "tar" || end == checksums::EXTENSION;
    let shard = |path: &str| {
        let name = path.strip_prefix("train/train-").or_else(|| path.strip_prefix("val/val-"));
        name.is_some_and(|name| Path::new(name).extension().is_some_and(is_shards))
    };
    [PACK, CLASSES, LEFT_OUT].contains(&path) || shard(path)
}

/// Fails if the output folder `out` is inside the data set.
fn refuse_inside(plan: &DataPlan, out: &Path) -> Result<(), DataError> {
    let (Ok(data), Ok(mut place)) = (fs::canonicalize(&plan.path), std::path::absolute(out)) else {
        return Ok(());
    };
    // `out` may not exist yet, so check its nearest existing parent.
    while !place.exists() && place.pop() {}
    match fs::canonicalize(&place) {
        Ok(place) if place.starts_with(&data) => {
            let problem = "the output folder must not be inside the data set";
            Err(DataError::layout(out, problem, "choose a folder outside the data set"))
        }
        _ => Ok(()),
    }
}

/// Returns whether `path` is a complete tar file, which ends with two blocks of zeros.
fn is_whole_tar(path: &Path) -> bool {
    let mut end = [1; 1024];
    let read = fs::File::open(path).and_then(|mut file| {
        file.seek(io::SeekFrom::End(-1024))?;
        file.read_exact(&mut end)
    });
    read.is_ok() && end == [0; 1024]
}

fn write_packed(out: &Path, packed: &Packed) -> Result<(), DataError> {
    let path = out.join(PACK);
    durable::write(&path, &packed.to_json()).map_err(|e| DataError::unreadable(&path, e))
}

/// Writes `pack.json` and the class names.
///
/// Fails if `out` has shards of a different data set or with different options.
fn begin(out: &Path, packed: &Packed, classes: &[String]) -> Result<(), DataError> {
    let path = out.join(PACK);
    if let Ok(bytes) = fs::read(&path) {
        let there = serde_json::from_slice::<Packed>(&bytes);
        if there.is_ok_and(|there| there.is_of_the_same_images(packed)) {
            return Ok(());
        }
        let problem =
            "the folder contains shards from a different data set or with different options";
        return Err(DataError::layout(
            &path,
            problem,
            "choose another folder, or remove this folder",
        ));
    }
    let others = ["train", "val"].into_iter().any(|name| out.join(name).exists());
    if others {
        let problem =
            "the folder contains a folder `train/` or `val/` that `mae data pack` did not write";
        return Err(DataError::layout(out, problem, "choose an empty folder"));
    }
    if let Some(class) = classes.iter().find(|class| class.contains(['\n', '\r'])) {
        return Err(DataError::setting(
            format!(
                "cannot pack class {class:?}: the name contains a line break, but `classes.txt` needs one class per line"
            ),
            "rename the class folder",
        ));
    }
    if !classes.is_empty() {
        let path = out.join(CLASSES);
        durable::write(&path, format!("{}\n", classes.join("\n")).as_bytes())
            .map_err(|e| DataError::unreadable(&path, e))?;
    }
    write_packed(out, packed)
}

/// Starts threads that read the images `samples` of `split`, and re-encode large images.
fn make(
    split: &Arc<dyn Split>,
    workers: Threads,
    samples: Range<usize>,
    labelled: bool,
    options: PackOptions,
) -> Workers<Made> {
    let threads = workers::count(workers);
    let split = Arc::clone(split);
    Workers::start(threads, 8 * threads, samples, move |index| {
        let mut buffer = Vec::new();
        let name = split.name(index);
        let stored = match split.read(index, &mut buffer) {
            Err(DataError::BadImage { problem, .. }) => {
                return Ok(Made::LeftOut(name, ImageError::Undecodable(problem)));
            }
            stored => stored?,
        };
        let Stored::File { bytes, reading } = stored else {
            return Err(DataError::setting(
                "cannot pack the data set: `mae data pack` needs image files, but this `data.format` has none",
                "set `data.format` to \"imagefolder\", \"webdataset\" or \"parquet\"",
            ));
        };
        let small = match options.reencode {
            Some(how) => smaller(bytes, how),
            None => OpenedImage::stored(Stored::File { bytes, reading }).map(|_| None),
        };
        let (extension, bytes) = match small {
            Ok(Some(small)) => ("jpg", small),
            Ok(None) => (extension(bytes, &name), bytes.to_vec()),
            Err(error) => return Ok(Made::LeftOut(name, error)),
        };
        let label = labelled.then(|| split.label(index));
        Ok(Made::Member(Member { key: key(index, &name), extension, bytes, label }))
    })
}

/// Re-encodes an image as a smaller JPEG; `None` if the image is small enough.
fn smaller(bytes: &[u8], how: Reencoded) -> Result<Option<Vec<u8>>, ImageError> {
    let picture =
        OpenedImage::stored(Stored::File { bytes, reading: Reading::Levels(Colour::Rgb) })?
            .whole()?;
    if picture.width.min(picture.height) <= how.short_side {
        return Ok(None);
    }
    let (width, height) = resized(picture.width, picture.height, how.short_side.into());
    let small = bicubic(&picture, picture.whole(), width, height);
    let Picture { width, height, pixels: Pixels::U8(levels), .. } = small else {
        unreachable!("image files have levels")
    };
    jpeg::encode(&levels, width, height, how.quality).map(Some)
}

/// Returns a unique sample name: the index, then the file name without its extension.
fn key(index: usize, name: &Path) -> String {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    format!("{index:08}_{}", stem.replace(['.', '/'], "_"))
}

/// Returns the file extension for an image's content, such as `webp`.
///
/// For an unknown format, returns `png` if `name` ends with `.png`, otherwise `jpg`.
fn extension(bytes: &[u8], name: &Path) -> &'static str {
    match PictureFormat::of(bytes) {
        Ok(PictureFormat::Jpeg) => "jpg",
        Ok(PictureFormat::Png) => "png",
        Ok(PictureFormat::Webp) => "webp",
        Ok(PictureFormat::Bmp) => "bmp",
        Ok(PictureFormat::Tiff) => "tiff",
        Ok(PictureFormat::Pnm) => "ppm",
        _ if is_npy(bytes) => "npy",
        _ if name.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) => "png",
        _ => "jpg",
    }
}

impl Member {
    fn image_name(&self) -> String {
        format!("{}.{}", self.key, self.extension)
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, member: &Member) -> io::Result<()> {
    let mut add = |extension: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{}.{extension}", member.key), bytes)
    };
    add(member.extension, &member.bytes)?;
    match member.label {
        Some(label) => add("cls", label.to_string().as_bytes()),
        None => Ok(()),
    }
}
