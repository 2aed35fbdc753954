//! The zip archive of `torch.save`: `<name>/data.pkl`, and one uncompressed storage per `<name>/data/<key>`.
//!
//! `torch.save` does not compress, so the zip directory is a table of byte ranges. This reader checks each range
//! against the size of the file. A zip library would need several times the memory of the zip directory. In a malicious
//! file, the zip directory can be almost as large as the file.

use super::budget::Budget;
use super::source::{ByteSource, Range, Reader, cut_short, shown};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const LOCATOR64_LEN: usize = 20;
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;

/// Memory per archive entry in bytes, in addition to the name.
const ROOM: usize = 128;
/// Number of bytes to read at a time for a CRC-32.
const CHUNK: usize = 64 * 1024;

pub(super) struct Archive {
    pub(super) pickle: Range,
    storages: BTreeMap<Box<str>, Entry>,
    /// Offsets of the storages whose CRC-32 has been checked.
    compared: RefCell<BTreeSet<u64>>,
    /// Prefix of all names in the archive, such as `archive/`.
    prefix: String,
    /// Offset of the zip directory in bytes. All content is before this offset.
    end: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Offset of the entry's local header in the file, in bytes.
    at: u64,
    len: u64,
    crc32: u32,
    is_plain: bool,
}

impl Archive {
    pub(super) fn open(source: &ByteSource, budget: &mut Budget) -> Result<Self, String> {
        let directory = directory(source)?;
        let end = directory.at;
        let (prefix, pickle) = find_pickle(source, directory)?;
        let mut storages = BTreeMap::new();
        let mut byteorder = None;
        each_entry(source, directory, |name, entry| {
            let Some(name) = name.strip_prefix(prefix.as_str()) else { return Ok(()) };
            if name == "byteorder" {
                byteorder = Some(entry);
            } else if let Some(key) = name.strip_prefix("data/") {
                budget.object(ROOM + key.len())?;
                if storages.insert(key.into(), entry).is_some() {
                    return Err(format!("the zip archive contains `{}` twice", shown(name)));
                }
            }
            Ok(())
        })?;
        if let Some(entry) = byteorder {
            let content = entry.content(source, end)?;
            entry.compare_crc32(&format!("{prefix}byteorder"), content, source, budget)?;
            check_byteorder(source, content)?;
        }
        let content = pickle.content(source, end)?;
        pickle.compare_crc32(&format!("{prefix}data.pkl"), content, source, budget)?;
        Ok(Self { pickle: content, storages, compared: RefCell::default(), prefix, end })
    }

    /// Returns the byte range of the storage `key`; `None` if the storage does not exist.
    ///
    /// Fails if the storage has a wrong CRC-32.
    pub(super) fn storage(
        &self,
        key: &str,
        source: &ByteSource,
        budget: &mut Budget,
    ) -> Result<Option<Range>, String> {
        let Some(entry) = self.storages.get(key) else { return Ok(None) };
        let content = entry.content(source, self.end)?;
        if self.compared.borrow_mut().insert(entry.at) {
            let name = format!("{}data/{key}", self.prefix);
            entry.compare_crc32(&name, content, source, budget)?;
        }
        Ok(Some(content))
    }
}

impl Entry {
    /// Returns the byte range of an entry's content. `end` is the offset of the zip directory.
    fn content(self, source: &ByteSource, end: u64) -> Result<Range, String> {
        if !self.is_plain {
            return Err("the zip archive has a compressed or encrypted entry, so `torch.save` did not write this file"
                .to_owned());
        }
        let mut header = [0; LOCAL_LEN];
        source.read_at(self.at, &mut header)?;
        if !header.starts_with(LOCAL) {
            return Err(
                "the zip directory is corrupt: no entry begins at an offset in the directory"
                    .to_owned(),
            );
        }
        let at = self.at
            + LOCAL_LEN as u64
            + u64::from(u16_at(&header, 26))
            + u64::from(u16_at(&header, 28));
        let fits = at.checked_add(self.len).is_some_and(|after| after <= end);
        if fits { Ok(Range { at, len: self.len }) } else { Err(cut_short()) }
    }

    /// Fails if `content` has the wrong CRC-32.
    ///
    /// Accepts a CRC-32 of 0, which means that the file has no checksum.
    fn compare_crc32(
        self,
        name: &str,
        content: Range,
        source: &ByteSource,
        budget: &mut Budget,
    ) -> Result<(), String> {
        if self.crc32 == 0 {
            return Ok(());
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; CHUNK.min(content.len as usize)];
        let mut at = content.at;
        let end = content.at + content.len;
        while at < end {
            let chunk = &mut buffer[..CHUNK.min((end - at) as usize)];
            budget.read(chunk.len())?;
            source.read_at(at, chunk)?;
            hasher.update(chunk);
            at += chunk.len() as u64;
        }
        let found = hasher.finalize();
        if found == self.crc32 {
            return Ok(());
        }
        Err(format!(
            "the file is corrupt: `{}` has the CRC-32 {found:08x}, but the zip directory expects {:08x}",
            shown(name),
            self.crc32
        ))
    }
}

/// Finds the entry `<name>/data.pkl`. Returns (prefix `<name>/`, entry).
fn find_pickle(source: &ByteSource, directory: Range) -> Result<(String, Entry), String> {
    let mut found: Option<(String, Entry)> = None;
    let mut has_code = false;
    each_entry(source, directory, |name, entry| {
        let Some((prefix, inner)) = name.split_once('/') else { return Ok(()) };
        has_code |= inner.starts_with("code/") || inner == "constants.pkl";
        if inner == "data.pkl" {
            if found.is_some() {
                return Err("the zip archive contains `data.pkl` twice".to_owned());
            }
            found = Some((format!("{prefix}/"), entry));
        }
        Ok(())
    })?;
    if has_code {
        return Err(
            "mae does not support TorchScript archives. Save the `state_dict` instead".to_owned()
        );
    }
    found.ok_or_else(|| {
        "`data.pkl` is missing, so `torch.save` did not write this zip archive".to_owned()
    })
}

fn check_byteorder(source: &ByteSource, range: Range) -> Result<(), String> {
    let mut order = vec![0; range.len.min(8) as usize];
    source.read_at(range.at, &mut order)?;
    match order.trim_ascii() {
        b"little" => Ok(()),
        _ => Err("the file stores big-endian numbers, but mae supports only little-endian numbers"
            .to_owned()),
    }
}

fn directory(source: &ByteSource) -> Result<Range, String> {
    let len = source.len.min((END_LEN + LOCATOR64_LEN + usize::from(u16::MAX)) as u64);
    let before = source.len - len;
    let mut tail = vec![0; len as usize];
    source.read_at(before, &mut tail)?;
    let is_end = |at: &usize| {
        tail[*at..].starts_with(END)
            && at + END_LEN + usize::from(u16_at(&tail, at + 20)) == tail.len()
    };
    let last = tail.len().checked_sub(END_LEN);
    let Some(end) = last.and_then(|last| (0..=last).rev().find(is_end)) else {
        return Err("the zip archive is truncated: its end is missing".to_owned());
    };
    let locator = end.checked_sub(LOCATOR64_LEN).map(|at| &tail[at..end]);
    let (at, len, limit) = match locator.filter(|bytes| bytes.starts_with(LOCATOR64)) {
        Some(locator) => {
            let at = u64_at(locator, 8);
            let mut end64 = [0; 56];
            source.read_at(at, &mut end64)?;
            if !end64.starts_with(END64) {
                return Err("the zip directory is not at the offset stored at the end of the file"
                    .to_owned());
            }
            (u64_at(&end64, 48), u64_at(&end64, 40), at)
        }
        None => {
            (u32_at(&tail, end + 16).into(), u32_at(&tail, end + 12).into(), before + end as u64)
        }
    };
    let fits = at.checked_add(len).is_some_and(|after| after <= limit);
    if fits { Ok(Range { at, len }) } else { Err(cut_short()) }
}

fn each_entry(
    source: &ByteSource,
    directory: Range,
    mut f: impl FnMut(&str, Entry) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = source.reader(directory)?;
    let mut name = Vec::new();
    while reader.at() < directory.at + directory.len {
        let header: [u8; 46] = reader.array()?;
        if !header.starts_with(ENTRY) {
            return Err("the zip directory is corrupt".to_owned());
        }
        name.resize(usize::from(u16_at(&header, 28)), 0);
        reader.fill(&mut name)?;
        let mut sizes = [20, 24, 42].map(|at| u64::from(u32_at(&header, at)));
        sizes64(&mut reader, u16_at(&header, 30), &mut sizes)?;
        reader.skip(u16_at(&header, 32).into())?;
        let [packed, len, at] = sizes;
        let crc32 = u32_at(&header, 16);
        let is_plain = u16_at(&header, 10) == 0 && u16_at(&header, 8) & 1 == 0 && packed == len;
        // PyTorch writes names in UTF-8. So an entry whose name is not UTF-8 is not a storage.
        if let Ok(name) = str::from_utf8(&name) {
            f(name, Entry { at, len, crc32, is_plain })?;
        }
    }
    Ok(())
}

/// Reads the 64-bit sizes of a zip entry from its Zip64 extra field.
fn sizes64(reader: &mut Reader<'_>, len: u16, sizes: &mut [u64; 3]) -> Result<(), String> {
    let mut extra = vec![0; len.into()];
    reader.fill(&mut extra)?;
    let mut rest = &extra[..];
    while let [a, b, c, d, after @ ..] = rest {
        let field = after.split_at_checked(u16::from_le_bytes([*c, *d]).into());
        let Some((mut field, after)) = field else { return Ok(()) };
        rest = after;
        for i in [1, 0, 2].into_iter().filter(|_| [*a, *b] == [1, 0]) {
            if sizes[i] == u64::from(u32::MAX) {
                let (size, after) = field.split_first_chunk().ok_or_else(cut_short)?;
                sizes[i] = u64::from_le_bytes(*size);
                field = after;
            }
        }
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
