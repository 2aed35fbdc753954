//! Decodes Truevision TGA files, with the same pixels as Pillow.

use super::bitmap::{Bitmap, Levels, Palette, checked_size, keep, unpacked};
use super::bmp::from_555;
use super::byte_reader::ByteReader;
use super::error::ImageError;

/// The first 18 bytes of a TGA file.
struct Header {
    id_length: u8,
    has_map: bool,
    /// Image type without the compression bit: 1 for a palette, 2 for RGB, 3 for grey.
    kind: u8,
    compressed: bool,
    map_start: u16,
    map_length: u16,
    map_bits: u8,
    width: u16,
    height: u16,
    depth: u8,
    flags: u8,
}

impl Header {
    fn read(file: &mut ByteReader<'_>) -> Result<Self, ImageError> {
        let (id_length, has_map, kind) = (file.u8()?, file.u8()?, file.u8()?);
        let (map_start, map_length, map_bits) = (file.u16_le()?, file.u16_le()?, file.u8()?);
        // The origin of the image on the screen.
        file.take(4)?;
        let (width, height) = (file.u16_le()?, file.u16_le()?);
        Ok(Self {
            id_length,
            has_map: has_map == 1,
            kind: kind & 7,
            compressed: kind & 8 != 0,
            map_start,
            map_length,
            map_bits,
            width,
            height,
            depth: file.u8()?,
            flags: file.u8()?,
        })
    }
}

/// Returns whether the header fields look like a TGA file. TGA has no signature.
pub(super) fn is_tga(bytes: &[u8]) -> bool {
    let Some([_, map, kind, ..]) = bytes.first_chunk::<18>() else { return false };
    let Ok(header) = Header::read(&mut ByteReader::new(bytes)) else { return false };
    *map <= 1
        && matches!(kind, 1..=3 | 9..=11)
        && header.width > 0
        && header.height > 0
        && matches!((header.kind, header.depth), (1, 8) | (2, 16 | 24 | 32) | (3, 1 | 8 | 16))
        && header.has_map == (header.map_length > 0)
        && (!header.has_map || matches!(header.map_bits, 15 | 16 | 24 | 32))
        && (header.kind != 1 || header.has_map)
        && header.flags & 0xc0 == 0
}

/// Decodes a TGA file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let mut file = ByteReader::new(bytes);
    let header = Header::read(&mut file)?;
    let (width, height) = checked_size(header.width.into(), header.height.into())?;
    file.take(header.id_length.into())?;
    let palette = if header.has_map { palette(&header, &mut file)? } else { [[0; 3]; 256] };
    let row = (width * usize::from(header.depth)).div_ceil(8);
    let data = if header.compressed {
        expanded(&mut file, usize::from(header.depth), row * height)?
    } else {
        file.take(row * height)?.to_vec()
    };
    // Bit 5: the top row comes first. Bit 4: the rightmost pixel of a row comes first.
    let rows = data.chunks_exact(row);
    let rows: Vec<_> = if header.flags & 0x20 != 0 { rows.collect() } else { rows.rev().collect() };
    let flipped = header.flags & 0x10 != 0;
    let pixels = |row: &[u8], bytes: usize, kept: usize| -> Vec<u8> {
        let row = keep(row, bytes, kept);
        if flipped { row.chunks_exact(kept).rev().flatten().copied().collect() } else { row }
    };
    let all =
        |bytes, kept| rows.iter().flat_map(|row| pixels(row, bytes, kept)).collect::<Vec<_>>();
    let swap =
        |levels: Vec<u8>| levels.as_chunks().0.iter().flat_map(|[b, g, r]| [*r, *g, *b]).collect();
    let levels = match (header.kind, header.depth) {
        (1, _) => Levels::of_palette(&all(1, 1), &palette),
        (2, 16) => Levels::Rgb(all(2, 2).chunks_exact(2).flat_map(from_555).collect()),
        (2, depth) => Levels::Rgb(swap(all(usize::from(depth / 8), 3))),
        (_, 1) => {
            let bits = |row: &&[u8]| {
                let bits: Vec<u8> = unpacked(row, 1, width).map(|bit| bit * 255).collect();
                pixels(&bits, 1, 1)
            };
            Levels::Grey(rows.iter().flat_map(bits).collect())
        }
        (_, depth) => Levels::Grey(all(usize::from(depth / 8), 1)),
    };
    Ok(Bitmap { width, height, levels })
}

/// Reads the palette. Colours with an index below `map_start` are black.
fn palette(header: &Header, file: &mut ByteReader<'_>) -> Result<Palette, ImageError> {
    let entry = usize::from(header.map_bits).div_ceil(8);
    let entries = file.take(entry * usize::from(header.map_length))?.chunks_exact(entry);
    let mut palette = [[0; 3]; 256];
    for (place, bytes) in palette.iter_mut().skip(header.map_start.into()).zip(entries) {
        *place = if entry == 2 { from_555(bytes) } else { [bytes[2], bytes[1], bytes[0]] };
    }
    Ok(palette)
}

/// Decodes run-length coded pixels to `length` bytes. A run may continue in the next row.
///
/// `depth` is the number of bits per pixel.
fn expanded(file: &mut ByteReader<'_>, depth: usize, length: usize) -> Result<Vec<u8>, ImageError> {
    if depth < 8 {
        return Err(ImageError::Unsupported(
            "mae does not support run-length coded TGA files with 1 bit per pixel".to_owned(),
        ));
    }
    let bytes = depth / 8;
    let mut out = Vec::with_capacity(length.min(1 << 24));
    while out.len() < length {
        let head = file.u8()?;
        let count = usize::from(head & 0x7f) + 1;
        if head & 0x80 == 0 {
            let wanted = (count * bytes).min(length - out.len());
            out.extend_from_slice(file.take(wanted)?);
        } else {
            let pixel = file.take(bytes)?;
            (0..count).for_each(|_| out.extend_from_slice(pixel));
        }
    }
    out.truncate(length);
    Ok(out)
}
