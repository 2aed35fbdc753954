//! Finds the coded image in an AVIF file: the primary item, or the first frame of a sequence.

use super::boxes::{Name, boxes, find, find_path, id, sized};
use crate::data::decode::byte_reader::ByteReader;
use crate::data::decode::error::ImageError;

/// The compressed image of an AVIF file, as AV1 data.
pub(super) struct Coded {
    /// AV1 data of each tile, row by row. An image without a grid has a single tile.
    pub(super) tiles: Vec<Vec<u8>>,
    pub(super) grid: Option<Grid>,
    pub(super) colours: Option<Colours>,
    pub(super) has_alpha: bool,
}

/// A grid of tiles: number of tiles, and size of the whole image in pixels.
pub(super) struct Grid {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Codes of ITU-T H.273 that select the conversion from `YUV` to RGB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colours {
    pub(super) primaries: u16,
    pub(super) matrix: u16,
    pub(super) is_full_range: bool,
}

/// Returns the compressed image of an AVIF file.
pub(super) fn coded(bytes: &[u8]) -> Result<Coded, ImageError> {
    let is_sequence = bytes.get(8..12) == Some(b"avis");
    if is_sequence && let Some(frame) = first_frame(bytes)? {
        return Ok(frame);
    }
    let meta = find(bytes, *b"meta").and_then(|meta| meta.get(4..));
    Items { file: bytes, meta: meta.ok_or_else(missing)? }.primary()
}

fn missing() -> ImageError {
    ImageError::damaged("the AVIF file has no primary image")
}

/// Maximum size of the data of all tiles, as a multiple of the file size.
///
/// Tiles may share bytes of the file. Without a limit, a small file could need much memory.
const MAX_REPEATS: usize = 16;

/// Reads the items of an AVIF file, such as images and tiles.
struct Items<'a> {
    file: &'a [u8],
    meta: &'a [u8],
}

impl Items<'_> {
    fn primary(&self) -> Result<Coded, ImageError> {
        let mut pitm = ByteReader::new(find(self.meta, *b"pitm").ok_or_else(missing)?);
        let version = pitm.take(4)?[0];
        let primary = id(&mut pitm, version > 0)?;
        let kind = self.kind(primary)?.ok_or_else(missing)?;
        let (tiles, grid) = match &kind {
            b"av01" => (vec![self.data(primary)?], None),
            b"grid" => {
                let parts = self.references(*b"dimg")?;
                let parts = parts.into_iter().filter(|(from, _)| *from == primary);
                (self.tiles(parts.map(|(_, to)| to))?, Some(Grid::read(&self.data(primary)?)?))
            }
            b"hvc1" | b"hev1" => {
                return Err(ImageError::Unsupported(
                    "mae does not support HEIC (HEIF with HEVC) files".to_owned(),
                ));
            }
            other => {
                let kind = other.escape_ascii();
                return Err(ImageError::Unsupported(format!(
                    "mae does not support HEIF files with items of the type \"{kind}\""
                )));
            }
        };
        if self.references(*b"prem")?.iter().any(|(from, _)| *from == primary) {
            let problem = "mae does not support AVIF files with premultiplied alpha".to_owned();
            return Err(ImageError::Unsupported(problem));
        }
        let aux = self.references(*b"auxl")?.into_iter().filter(|(_, to)| *to == primary);
        let mut has_alpha = false;
        for (from, _) in aux {
            let properties = self.properties(from)?;
            has_alpha |= properties.iter().any(|(name, content)| {
                name == b"auxC"
                    && [&b"auxid:1"[..], &b"auxiliary:alpha"[..]]
                        .iter()
                        .any(|urn| memchr::memmem::find(content, urn).is_some())
            });
        }
        let colours = self.properties(primary)?;
        let colours = colours.iter().find_map(|(name, content)| {
            (name == b"colr").then(|| Colours::read(content)).flatten()
        });
        Ok(Coded { tiles, grid, colours, has_alpha })
    }

    /// Returns the AV1 data of each tile. `items` are the item IDs of the tiles.
    fn tiles(&self, items: impl Iterator<Item = u32>) -> Result<Vec<Vec<u8>>, ImageError> {
        let (mut tiles, mut bytes) = (Vec::new(), 0);
        for item in items {
            tiles.push(self.data(item)?);
            bytes += tiles[tiles.len() - 1].len();
            if bytes > MAX_REPEATS * self.file.len() {
                return Err(ImageError::damaged(
                    "too many tiles of the AVIF file use the same data",
                ));
            }
        }
        Ok(tiles)
    }

    /// Returns the type of an item, such as `av01` or `grid`; `None` if the item is missing.
    fn kind(&self, item: u32) -> Result<Option<Name>, ImageError> {
        let infos = find(self.meta, *b"iinf").ok_or_else(missing)?;
        let skip = if infos.first() == Some(&0) { 6 } else { 8 };
        for (name, content) in boxes(infos.get(skip..).unwrap_or_default()) {
            let mut info = ByteReader::new(content);
            let version = info.take(4)?[0];
            if name == *b"infe" && version >= 2 && id(&mut info, version > 2)? == item {
                info.take(2)?;
                return Ok(info.take(4)?.as_array().copied());
            }
        }
        Ok(None)
    }

    /// Returns the references of type `kind` as pairs of item IDs, (from, to).
    fn references(&self, kind: Name) -> Result<Vec<(u32, u32)>, ImageError> {
        let Some(iref) = find(self.meta, *b"iref") else { return Ok(Vec::new()) };
        let wide = iref.first().is_some_and(|version| *version > 0);
        let mut pairs = Vec::new();
        for (name, content) in boxes(iref.get(4..).unwrap_or_default()) {
            if name == kind {
                let mut list = ByteReader::new(content);
                let (from, count) = (id(&mut list, wide)?, list.u16_be()?);
                for _ in 0..count {
                    pairs.push((from, id(&mut list, wide)?));
                }
            }
        }
        Ok(pairs)
    }

    fn properties(&self, item: u32) -> Result<Vec<(Name, &[u8])>, ImageError> {
        let Some(all) = find_path(self.meta, &[*b"iprp", *b"ipco"]) else { return Ok(Vec::new()) };
        let all: Vec<_> = boxes(all).collect();
        let mut found = Vec::new();
        for (name, content) in boxes(find(self.meta, *b"iprp").unwrap_or_default()) {
            if name != *b"ipma" {
                continue;
            }
            let mut list = ByteReader::new(content);
            let head = list.take(4)?;
            let (version, wide) = (head[0], head[3] & 1 == 1);
            for _ in 0..list.u32_be()? {
                let owner = id(&mut list, version > 0)?;
                for _ in 0..list.u8()? {
                    let index =
                        if wide { list.u16_be()? & 0x7fff } else { (list.u8()? & 0x7f).into() };
                    let property = usize::from(index).checked_sub(1).and_then(|i| all.get(i));
                    found.extend(property.filter(|_| owner == item));
                }
            }
        }
        Ok(found)
    }

    /// Returns the data of an item. Joins all parts that the file stores separately.
    fn data(&self, item: u32) -> Result<Vec<u8>, ImageError> {
        let mut list = ByteReader::new(find(self.meta, *b"iloc").ok_or_else(missing)?);
        let version = list.take(4)?[0];
        let (sizes, more) = (list.u8()?, list.u8()?);
        let index_size = if version > 0 { more & 15 } else { 0 };
        for _ in 0..id(&mut list, version > 1)? {
            let found = id(&mut list, version > 1)? == item;
            let method = if version > 0 { list.u16_be()? & 15 } else { 0 };
            list.take(2)?;
            let base = sized(&mut list, more >> 4)?;
            let source = match method {
                0 => self.file,
                1 => find(self.meta, *b"idat").unwrap_or_default(),
                _ => {
                    return Err(ImageError::Unsupported(
                        "mae does not support AVIF files that store the image data in other items"
                            .to_owned(),
                    ));
                }
            };
            let mut data = Vec::new();
            for _ in 0..list.u16_be()? {
                sized(&mut list, index_size)?;
                let (offset, length) =
                    (sized(&mut list, sizes >> 4)?, sized(&mut list, sizes & 15)?);
                if found {
                    let start = usize::try_from(base.saturating_add(offset)).unwrap_or(usize::MAX);
                    let rest = source.get(start..).ok_or(ImageError::Truncated)?;
                    let length = if length == 0 { rest.len() as u64 } else { length };
                    let part = usize::try_from(length).ok().and_then(|length| rest.get(..length));
                    // Each byte of the file is in the image at most once. So a small file needs little memory.
                    data.extend_from_slice(part.ok_or(ImageError::Truncated)?);
                    if data.len() > self.file.len() {
                        return Err(ImageError::damaged("the AVIF file uses the same data twice"));
                    }
                }
            }
            if found {
                return Ok(data);
            }
        }
        Err(missing())
    }
}

impl Grid {
    fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let mut grid = ByteReader::new(bytes);
        grid.u8()?;
        let wide = grid.u8()? & 1 == 1;
        let (rows, columns) = (usize::from(grid.u8()?) + 1, usize::from(grid.u8()?) + 1);
        Ok(Self { columns, rows, width: id(&mut grid, wide)?, height: id(&mut grid, wide)? })
    }
}

impl Colours {
    /// Reads the content of a `colr` box. Returns `None` for an ICC profile.
    fn read(content: &[u8]) -> Option<Self> {
        let mut colours = ByteReader::new(content.strip_prefix(b"nclx")?);
        let primaries = colours.u16_be().ok()?;
        colours.u16_be().ok()?;
        let matrix = colours.u16_be().ok()?;
        let is_full_range = colours.u8().ok()? & 0x80 != 0;
        Some(Self { primaries, matrix, is_full_range })
    }
}

/// Returns the first frame of an image sequence, from the first track that is not alpha.
///
/// Returns `None` if the file has no such track.
fn first_frame(bytes: &[u8]) -> Result<Option<Coded>, ImageError> {
    let Some(movie) = find(bytes, *b"moov") else { return Ok(None) };
    let tracks = || boxes(movie).filter(|(name, _)| name == b"trak").map(|(_, track)| track);
    let is_alpha = |track: &&[u8]| find_path(track, &[*b"tref", *b"auxl"]).is_some();
    let has_alpha = tracks().any(|track| is_alpha(&track));
    let Some(track) = tracks().find(|track| !is_alpha(track)) else { return Ok(None) };
    let Some(table) = find_path(track, &[*b"mdia", *b"minf", *b"stbl"]) else { return Ok(None) };
    let mut sizes = ByteReader::new(find(table, *b"stsz").ok_or_else(missing)?);
    sizes.take(4)?;
    let size = match sizes.u32_be()? {
        0 => {
            sizes.u32_be()?;
            sizes.u32_be()?
        }
        size => size,
    };
    let offset = match (find(table, *b"stco"), find(table, *b"co64")) {
        (Some(offsets), _) => ByteReader::at(offsets, 8).u32_be()?.into(),
        (None, Some(offsets)) => ByteReader::at(offsets, 8).u64_be()?,
        (None, None) => return Err(missing()),
    };
    let start = usize::try_from(offset).map_err(|_| ImageError::Truncated)?;
    let sample = ByteReader::at(bytes, start).take(size as usize)?.to_vec();
    // `stsd` has 8 bytes, then the entry `av01`: 78 bytes of fields, then boxes such as `colr`.
    let entry = find(table, *b"stsd").and_then(|list| find(list.get(8..)?, *b"av01"));
    let colours = entry.and_then(|entry| find(entry.get(78..)?, *b"colr")).and_then(Colours::read);
    Ok(Some(Coded { tiles: vec![sample], grid: None, colours, has_alpha }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_may_share_data_but_not_without_end() {
        let file = [7; 100];
        // Item 1 is the whole file: offset 0, length 100.
        let mut meta = 30_u32.to_be_bytes().to_vec();
        meta.extend(b"iloc\0\0\0\0\x44\0");
        meta.extend([0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 100]);
        let items = Items { file: &file, meta: &meta };
        let tiles = items.tiles([1; MAX_REPEATS].into_iter()).unwrap();
        assert!(tiles.iter().all(|tile| tile == &file));
        let error = items.tiles([1; MAX_REPEATS + 1].into_iter()).unwrap_err().to_string();
        assert!(error.contains("use the same data"), "{error}");
    }
}
