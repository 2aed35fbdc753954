//! The checksum files that `mae data pack` writes beside the shards: `train-000000.checksums` for `train-000000.tar`.
//!
//! The first line has the number of images and the BLAKE3 hash of the other lines. The other lines are CSV with the
//! columns `image,class,blake3`, one row for each image of the shard.
//!
//! This module and the module `index` use each other. An index stores [`ImageHash`] values, and [`Checksums::compare`]
//! adds these values to an index.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::index::ShardIndex;
use crate::data::formats::listing_cache::ListedClass;

pub(in crate::data) const EXTENSION: &str = "checksums";
/// Number of hash bytes per image to keep in memory: half of a BLAKE3 hash.
const KEPT_BYTES: usize = 16;
/// Maximum number of names that a message lists.
const SHOWN: usize = 3;

/// The first half of an image's BLAKE3 hash.
pub(super) type ImageHash = [u8; KEPT_BYTES];

pub(super) fn image_hash(bytes: &[u8]) -> ImageHash {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

pub(in crate::data) fn path_of(shard: &Path) -> PathBuf {
    shard.with_extension(EXTENSION)
}

#[derive(Default)]
pub(in crate::data) struct ChecksumsWriter {
    rows: Vec<[String; 3]>,
}

impl ChecksumsWriter {
    pub(in crate::data) fn add(&mut self, name: String, label: Option<u32>, bytes: &[u8]) {
        let class = label.map_or_else(String::new, |label| label.to_string());
        self.rows.push([name, class, blake3::hash(bytes).to_hex().to_string()]);
    }

    pub(in crate::data) fn finish(self) -> Vec<u8> {
        let images = self.rows.len();
        let header = ["image", "class", "blake3"].map(str::to_owned);
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in std::iter::once(header).chain(self.rows) {
            writer.write_record(row).expect("a vector takes every row");
        }
        let rows = writer.into_inner().expect("a vector takes every byte");
        [first_line(images, &rows).as_bytes(), &rows].concat()
    }
}

fn first_line(images: usize, rows: &[u8]) -> String {
    format!("mae-checksums 1 images={images} blake3={}\n", blake3::hash(rows).to_hex())
}

/// The content of a shard's checksum file: class and hash of each image, by image name.
pub(super) struct Checksums {
    images: HashMap<String, (Option<u32>, ImageHash)>,
}

impl Checksums {
    /// Reads the checksum file of `shard`. Returns `None` if the file does not exist.
    pub(super) fn read(shard: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(path_of(shard)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
        Self::parse(&bytes).map(Some).ok_or_else(damaged)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rows) = bytes.split_at(memchr::memchr(b'\n', bytes)? + 1);
        let mut images = HashMap::new();
        let mut read = 0;
        for row in csv::Reader::from_reader(rows).into_records() {
            let row = row.ok()?;
            let class = row.get(1)?;
            let class = if class.is_empty() { None } else { Some(class.parse().ok()?) };
            let hash = blake3::Hash::from_hex(row.get(2)?).ok()?;
            images.insert(row.get(0)?.to_owned(), (class, *hash.as_bytes().first_chunk()?));
            read += 1;
        }
        (first == first_line(read, rows).as_bytes()).then_some(Self { images })
    }

    /// Compares the images of `shard` with the checksum file.
    ///
    /// Adds hashes to `shard.images` and warnings to `shard.lost`. If an image has a wrong class, fails with (image
    /// name, reason).
    pub(super) fn compare(mut self, shard: &mut ShardIndex) -> Result<(), (String, String)> {
        let (packed, found) = (self.images.len(), shard.images.len());
        let mut others = Vec::new();
        for image in &mut shard.images {
            let Some((class, hash)) = self.images.remove(&image.name) else {
                others.push(image.name.as_str());
                continue;
            };
            let label = match image.class {
                Some(ListedClass::Number(number) | ListedClass::TextNumber(number)) => Some(number),
                _ => None,
            };
            if class != label {
                let shown = |class: Option<u32>| {
                    class.map_or_else(|| "no class".to_owned(), |class| format!("class {class}"))
                };
                let (class, label) = (shown(class), shown(label));
                let problem = format!(
                    "the image has {label}, but `mae data pack` stored {class} for this image"
                );
                return Err((image.name.clone(), problem));
            }
            image.hash = Some(hash.to_vec());
        }
        let mut missing: Vec<&str> = self.images.keys().map(String::as_str).collect();
        missing.sort_unstable();
        if !missing.is_empty() {
            shard.lost.push(format!(
                "{} of the {packed} images that `mae data pack` wrote are missing: {}",
                missing.len(),
                list(&missing)
            ));
        }
        if !others.is_empty() {
            let text = format!(
                "{} of the {found} images are not from `mae data pack`: {}",
                others.len(),
                list(&others)
            );
            shard.lost.push(text);
        }
        Ok(())
    }
}

/// Joins the first names for a message: `a, b, c and 5 more`.
pub(super) fn list(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<String> =
        names.iter().take(SHOWN).map(|name| name.as_ref().replace(char::is_control, "?")).collect();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{Checksums, ChecksumsWriter};

    #[test]
    fn a_checksum_file_with_a_flipped_bit_is_rejected() {
        let mut writer = ChecksumsWriter::default();
        writer.add("a, \"b\"\n.jpg".to_owned(), Some(3), b"x");
        writer.add("c.jpg".to_owned(), None, b"");
        let bytes = writer.finish();
        let read = Checksums::parse(&bytes).unwrap().images;
        assert_eq!(read["a, \"b\"\n.jpg"], (Some(3), super::image_hash(b"x")));
        assert_eq!(read["c.jpg"].0, None);
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Checksums::parse(&damaged).is_none(), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|end| Checksums::parse(&bytes[..end]).is_none()));
    }
}
