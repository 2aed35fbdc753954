//! Packs a data set into `WebDataset` shards, perhaps with smaller images.
//!
//! Samples keep their order, so that a run on shards of unchanged files is, number for number, the run on the files
//! themselves. A shard appears when it is whole; what is there already is not made again.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::ImageFormat;

use crate::durable;
use crate::recipe::{DataPlan, Threads};

use super::dataset::{self, Labels};
use super::decode::{Colour, OpenedImage};
use super::error::DataError;
use super::evaluation::resized;
use super::picture::{Picture, Pixels};
use super::resize::bicubic;
use super::split::{Split, Stored};
use super::web_dataset::{CLASSES, PACK, Packed, Reencoded, ShardCounts};
use super::workers::{self, Workers};
use super::{jpeg, table};

/// The table of files that are in no shard, beside the shards.
const LEFT_OUT: &str = "left_out.csv";

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackOptions {
    pub samples_per_shard: usize,
    /// Images above a size are made smaller; without it every file stays as it is.
    pub reencode: Option<Reencoded>,
}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Packing {
    pub images: usize,
    pub shards: usize,
    /// Shards that an earlier start had made.
    pub shards_there: usize,
    pub bytes: u64,
    /// Files that are no whole images, and why; they are in no shard, and those of earlier starts are among them.
    pub left_out: Vec<(String, String)>,
}

/// One sample, ready to be written.
struct Member {
    /// Name without an ending.
    key: String,
    ending: &'static str,
    bytes: Vec<u8>,
    label: Option<u32>,
}

type Made = Result<Member, (PathBuf, String)>;

/// Packs the data of `plan` into `out`. `progress` is told how many of how many images are done, and ends it early by saying
/// no: then there is no result, and the next start goes on.
pub fn pack(
    plan: &DataPlan,
    out: &Path,
    options: PackOptions,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Packing>, DataError> {
    let (found, labelled) = find(plan)?;
    let io = |e| DataError::unreadable(out, e);
    let _lock = lock(plan, out)?;
    let packed = Packed {
        samples_per_shard: options.samples_per_shard,
        source: dataset::hex(found.hash),
        reencoded: options.reencode,
        shards: None,
    };
    begin(out, &packed, &found.classes)?;
    durable::remove_temporaries(out, &is_packs).map_err(io)?;
    let total = found.train.len() + found.val.as_ref().map_or(0, |val| val.len());
    let left_out_table = out.join(LEFT_OUT);
    let mut left_out = table::problems(&left_out_table);
    let (mut packing, mut done) = (Packing::default(), 0);
    for (name, split) in [("train", Some(&found.train)), ("val", found.val.as_ref())] {
        let Some(split) = split else { continue };
        for shard in 0..split.len().div_ceil(options.samples_per_shard) {
            let first = shard * options.samples_per_shard;
            let samples = first..(first + options.samples_per_shard).min(split.len());
            let path = out.join(name).join(format!("{name}-{shard:06}.tar"));
            packing.shards += 1;
            if is_whole_tar(&path) {
                packing.shards_there += 1;
                done += samples.len();
            } else {
                let mut workers = make(split, plan.workers, samples.clone(), labelled, options);
                let mut tar = tar::Builder::new(Vec::new());
                let known = left_out.len();
                for _ in samples {
                    match workers.take()? {
                        Ok(member) => append(&mut tar, &member).map_err(io)?,
                        Err((file, problem)) => {
                            left_out.insert(file.display().to_string(), problem);
                        }
                    }
                    done += 1;
                    if !progress(done, total) {
                        return Ok(None);
                    }
                }
                // Before the shard: a later start does not look at the files of a shard that is there.
                if left_out.len() > known {
                    table::write_problems(&left_out_table, &left_out)?;
                }
                let bytes = tar.into_inner().map_err(io)?;
                durable::write(&path, &bytes).map_err(|e| DataError::unreadable(&path, e))?;
            }
            packing.bytes += fs::metadata(&path).map_err(io)?.len();
        }
    }
    let count = |split: &Arc<dyn Split>| split.len().div_ceil(options.samples_per_shard);
    let shards =
        ShardCounts { train: count(&found.train), val: found.val.as_ref().map_or(0, count) };
    write_packed(out, &Packed { shards: Some(shards), ..packed })?;
    packing.images = total - left_out.len();
    packing.left_out = left_out.into_iter().collect();
    Ok(Some(packing))
}

/// Whether packing writes a file of this path, relative to the folder, with `/` between parts.
fn is_packs(path: &str) -> bool {
    let shard = |path: &str| {
        let name = path.strip_prefix("train/train-").or_else(|| path.strip_prefix("val/val-"));
        name.is_some_and(|name| Path::new(name).extension().is_some_and(|end| end == "tar"))
    };
    [PACK, CLASSES, LEFT_OUT].contains(&path) || shard(path)
}

/// Finds the images, and whether they have labels.
fn find(plan: &DataPlan) -> Result<(dataset::Found, bool), DataError> {
    match dataset::find(plan, Labels::Needed) {
        Ok(found) => Ok((found, true)),
        Err(error) => match dataset::find(plan, Labels::Unneeded) {
            Ok(found) if found.classes.is_empty() => Ok((found, false)),
            _ => Err(error),
        },
    }
}

/// Makes the folder `out` and locks it.
fn lock(plan: &DataPlan, out: &Path) -> Result<durable::Lock, DataError> {
    let io = |e| DataError::unreadable(out, e);
    refuse_inside(plan, out)?;
    fs::create_dir_all(out).map_err(io)?;
    let Some(lock) = durable::Lock::take(out).map_err(io)? else {
        let hint = "wait for it, or choose another folder";
        return Err(DataError::layout(out, "another process is packing into it", hint));
    };
    Ok(lock)
}

/// Fails where the shards would be among the files that are packed.
fn refuse_inside(plan: &DataPlan, out: &Path) -> Result<(), DataError> {
    let (Ok(data), Ok(mut place)) = (fs::canonicalize(&plan.path), std::path::absolute(out)) else {
        return Ok(());
    };
    // What is not there yet will be in the nearest folder that is.
    while !place.exists() && place.pop() {}
    match fs::canonicalize(&place) {
        Ok(place) if place.starts_with(&data) => {
            let problem = "the shards would be inside the data that is packed";
            Err(DataError::layout(out, problem, "choose a folder beside it"))
        }
        _ => Ok(()),
    }
}

/// Whether a shard is there and has its end: two blocks of zeros.
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
    let json = serde_json::to_vec_pretty(packed).expect("numbers and text always fit JSON");
    durable::write(&path, &json).map_err(|e| DataError::unreadable(&path, e))
}

/// Writes what a reader needs beside the shards. A folder that holds another packing is refused.
fn begin(out: &Path, packed: &Packed, classes: &[String]) -> Result<(), DataError> {
    let path = out.join(PACK);
    if let Ok(bytes) = fs::read(&path) {
        if serde_json::from_slice::<Packed>(&bytes)
            .is_ok_and(|there| Packed { shards: None, ..there } == *packed)
        {
            return Ok(());
        }
        let problem = "the folder holds shards of other files, or packed in another way";
        return Err(DataError::layout(&path, problem, "choose another folder, or remove this one"));
    }
    let others = ["train", "val"].into_iter().any(|name| out.join(name).exists());
    if others {
        let problem = "the folder has a train/ or val/ that was not packed by this program";
        return Err(DataError::layout(out, problem, "choose an empty folder"));
    }
    if !classes.is_empty() {
        let path = out.join(CLASSES);
        durable::write(&path, format!("{}\n", classes.join("\n")).as_bytes())
            .map_err(|e| DataError::unreadable(&path, e))?;
    }
    write_packed(out, packed)
}

/// Threads that make members ready, in order.
fn make(
    split: &Arc<dyn Split>,
    workers: Threads,
    samples: std::ops::Range<usize>,
    labelled: bool,
    options: PackOptions,
) -> Workers<Made> {
    let threads = workers::count(workers);
    let split = Arc::clone(split);
    Workers::start(threads, 8 * threads, samples, move |index| {
        let mut buffer = Vec::new();
        let stored = split.read(index, &mut buffer)?;
        let name = split.name(index);
        let Stored::File { bytes, colour } = stored else {
            return Err(DataError::setting(
                "this data has no image files to pack",
                "pack an imagefolder, a webdataset or parquet files; the other formats are small",
            ));
        };
        let small = match options.reencode {
            Some(how) => smaller(bytes, how),
            None => OpenedImage::stored(Stored::File { bytes, colour }).map(|_| None),
        };
        Ok(small.map_err(|problem| (name.clone(), problem)).map(|small| {
            let (ending, bytes) = match small {
                Some(small) => ("jpg", small),
                None => (ending(bytes, &name), bytes.to_vec()),
            };
            let label = labelled.then(|| split.label(index));
            Member { key: key(index, &name), ending, bytes, label }
        }))
    })
}

/// Gives an image as a smaller JPEG; `None` where it is small enough.
fn smaller(bytes: &[u8], how: Reencoded) -> Result<Option<Vec<u8>>, String> {
    let picture = OpenedImage::stored(Stored::File { bytes, colour: Colour::Rgb })?.whole()?;
    if picture.width.min(picture.height) <= how.short_side {
        return Ok(None);
    }
    let (width, height) = resized(picture.width, picture.height, how.short_side);
    let small = bicubic(&picture, picture.whole(), width, height);
    let Picture { width, height, pixels: Pixels::U8(levels), .. } = small else {
        unreachable!("files hold levels")
    };
    jpeg::encode(&levels, width, height, how.quality).map(Some)
}

/// A name that is in its shard once and says which file it was: its place, and its own name without dots.
fn key(index: usize, name: &Path) -> String {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    format!("{index:08}_{}", stem.replace(['.', '/'], "_"))
}

/// What an image is by its content; by its name where that is not known.
fn ending(bytes: &[u8], name: &Path) -> &'static str {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => "jpg",
        Ok(ImageFormat::Png) => "png",
        Ok(ImageFormat::WebP) => "webp",
        Ok(ImageFormat::Bmp) => "bmp",
        Ok(ImageFormat::Tiff) => "tiff",
        Ok(ImageFormat::Pnm) => "ppm",
        _ if name.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) => "png",
        _ => "jpg",
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, member: &Member) -> io::Result<()> {
    let mut add = |ending: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{}.{ending}", member.key), bytes)
    };
    add(member.ending, &member.bytes)?;
    match member.label {
        Some(label) => add("cls", label.to_string().as_bytes()),
        None => Ok(()),
    }
}
