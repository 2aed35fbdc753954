//! Decodes AVIF files: the primary image, or the first frame of a sequence.
//!
//! The pixels equal those of Pillow, which uses libavif with libyuv. Rotation and mirroring are ignored, as Pillow does
//! when it decodes. `container` finds the AV1 data, `av1` decodes it, and `yuv` converts it to RGB.

mod av1;
mod boxes;
mod container;
mod yuv;

use super::bitmap::{Bitmap, checked_size};
use super::error::ImageError;
use av1::{Yuv, samples};
use container::{Coded, Grid};

/// Decodes an AVIF file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let Coded { mut tiles, grid, colours, has_alpha } = container::coded(bytes)?;
    let mut picture = match grid {
        None => av1::decode(tiles.pop().unwrap_or_default())?,
        Some(grid) => joined(&grid, tiles)?,
    };
    picture.colours = colours.unwrap_or(picture.colours);
    let (width, height) = (picture.width, picture.height);
    Ok(Bitmap { width, height, levels: yuv::levels(picture, has_alpha)? })
}

/// Decodes the tiles of a grid, and joins the tiles into one picture.
fn joined(grid: &Grid, tiles: Vec<Vec<u8>>) -> Result<Yuv, ImageError> {
    let wrong =
        || ImageError::damaged("the number or the sizes of the tiles do not match the AVIF image");
    let (width, height) = checked_size(grid.width, grid.height)?;
    if tiles.len() != grid.columns * grid.rows {
        return Err(wrong());
    }
    let mut tiles = tiles.into_iter().map(av1::decode);
    let first = tiles.next().ok_or_else(wrong)??;
    let Yuv { width: wide, height: high, bits, halved, colours, .. } = first;
    // All tiles lie inside the image, except for the right and lower edges of the last ones.
    if wide * grid.columns < width
        || high * grid.rows < height
        || wide * (grid.columns - 1) >= width
        || high * (grid.rows - 1) >= height
    {
        return Err(wrong());
    }
    let half = |side: usize, axis: usize, plane: usize| samples(side, plane > 0 && halved[axis]);
    let mut planes = [0, 1, 2].map(|plane| {
        let size = half(width, 0, plane) * half(height, 1, plane);
        vec![0; if first.planes[plane].is_empty() { 0 } else { size }]
    });
    for (i, tile) in std::iter::once(Ok(first)).chain(tiles).enumerate() {
        let tile = tile?;
        if (tile.width, tile.height, tile.bits, tile.halved) != (wide, high, bits, halved) {
            return Err(wrong());
        }
        let (left, top) = (i % grid.columns * wide, i / grid.columns * high);
        for (plane, (from, to)) in tile.planes.iter().zip(&mut planes).enumerate() {
            let (row, width) = (half(wide, 0, plane), half(width, 0, plane));
            let (left, top) = (half(left, 0, plane), half(top, 1, plane));
            if from.is_empty() || to.is_empty() {
                continue;
            }
            let length = row.min(width - left);
            for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(width).skip(top)) {
                to[left..left + length].copy_from_slice(&from[..length]);
            }
        }
    }
    Ok(Yuv { width, height, bits, halved, planes, colours })
}
