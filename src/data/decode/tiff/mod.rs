//! Decodes TIFF and `BigTIFF` files, with the same pixels as Pillow.
//!
//! Pillow supports a fixed list of combinations of colours, bits and extra samples. This module supports the same
//! combinations, and rejects others with an error that names them. Like Pillow, it rotates the image by the tag
//! `Orientation`.
//!
//! Pillow decompresses with libtiff, which needs `CMake` to build. Here, `directory` reads the tags, `compression`
//! decompresses strips and tiles with a crate for each compression, and `colour` converts the samples.

mod colour;
mod compression;
mod directory;
mod fax;
mod layout;
mod raw;
mod ycbcr;

use super::bitmap::{Bitmap, Levels};
use super::error::ImageError;
use compression::{Coded, decompressed};
use directory::Directory;
use layout::{JPEG_TABLES, Layout, NEW_JPEG, UNCOMPRESSED, YCBCR};
use ycbcr::{Converter, coded_length};

pub(super) use directory::is_tiff;
pub(super) use raw::{bits, has_more_pages, raw};

/// Decodes the first page of a TIFF file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::of(&directory)?;
    let tables = directory.bytes(JPEG_TABLES)?;
    // Pillow reads uncompressed YCbCr without subsampling, and libtiff turns YCbCr in JPEG data into RGB.
    let subsampled = layout.photometric == YCBCR
        && layout.samples == 3
        && !layout.planar
        && !matches!(layout.compression, UNCOMPRESSED | NEW_JPEG);
    let colours = colour::Colours::of(&layout, &directory)?;
    let levels = if subsampled {
        let converter = Converter::of(&directory)?;
        let assembled = assemble(bytes, &layout, tables, |coded| {
            let length = coded_length(&layout, coded.width, coded.height);
            let data = decompressed(&layout, &Coded { length, ..coded })?;
            Ok(converter.to_rgb(&layout, &data, coded.width, coded.height))
        })?;
        Levels::Rgb(assembled)
    } else {
        let samples = assemble(bytes, &layout, tables, |coded| decompressed(&layout, &coded))?;
        colours.convert(&layout, samples)
    };
    let bitmap = Bitmap { width: layout.width, height: layout.height, levels };
    Ok(bitmap.oriented(layout.orientation))
}

/// Decodes all strips or tiles with `decode`, and joins them into one image.
///
/// The image has interleaved channels.
fn assemble<'a>(
    bytes: &'a [u8],
    layout: &Layout,
    tables: Option<&'a [u8]>,
    decode: impl Fn(Coded<'a>) -> Result<Vec<u8>, ImageError>,
) -> Result<Vec<u8>, ImageError> {
    let (width, height, chunks) = (layout.width, layout.height, &layout.chunks);
    let plane = layout.checked_bytes(width, height)?;
    layout.checked_bytes(chunks.width, chunks.height)?;
    layout.checked_bytes(width, height.saturating_mul(layout.planes()))?;
    let (row, chunk_row) = (layout.row_bytes(width), layout.row_bytes(chunks.width));
    let mut planes = Vec::with_capacity(layout.planes());
    for number in 0..layout.planes() {
        let mut all = vec![0; plane];
        for index in 0..chunks.across * chunks.down {
            let (left, top) =
                (index % chunks.across * chunks.width, index / chunks.across * chunks.height);
            let rows = chunks.height.min(height - top);
            // Only tiles may extend beyond the image.
            let coded_height = if chunks.tiled { chunks.height } else { rows };
            let coded = Coded {
                data: chunks.data(bytes, number * chunks.across * chunks.down + index)?,
                width: chunks.width,
                height: coded_height,
                length: chunk_row * coded_height,
                tables,
            };
            let decoded = decode(coded)?;
            let start = layout.row_bytes(left);
            let length = chunk_row.min(row - start);
            let targets = all.chunks_exact_mut(row).skip(top).take(rows);
            for (to, from) in targets.zip(decoded.chunks_exact(chunk_row)) {
                to[start..start + length].copy_from_slice(&from[..length]);
            }
        }
        planes.push(all);
    }
    Ok(interleaved(planes, layout.bits))
}

/// Interleaves channels that are stored separately.
///
/// If there are several channels, `bits` is a multiple of 8.
fn interleaved(mut planes: Vec<Vec<u8>>, bits: usize) -> Vec<u8> {
    if planes.len() == 1 {
        return planes.swap_remove(0);
    }
    let bytes = bits / 8;
    let count = planes[0].len() / bytes;
    let sample = |i: usize| planes.iter().flat_map(move |plane| &plane[i * bytes..(i + 1) * bytes]);
    (0..count).flat_map(sample).copied().collect()
}
