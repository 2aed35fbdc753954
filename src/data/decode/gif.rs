//! Decodes the first frame of GIF files, with the same pixels as Pillow.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::bitmap::{Bitmap, Levels, MAX_BYTES, checked_size};
use super::error::ImageError;

/// Decodes the first frame of a GIF file to a picture of the canvas size.
///
/// A frame that extends beyond the canvas enlarges the picture. Pixels outside the frame have the transparent colour,
/// or colour 0 if the frame has no transparent colour.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    options.check_frame_consistency(false);
    options.set_memory_limit(MemoryLimit::Bytes(
        MAX_BYTES.try_into().unwrap_or(std::num::NonZero::<u64>::MAX),
    ));
    let painted;
    let bytes = if has_no_palette(bytes) {
        painted = with_grey_palette(bytes);
        &painted
    } else {
        bytes
    };
    let mut file = options.read_info(bytes).map_err(error)?;
    let canvas = [file.width(), file.height()];
    let global = file.global_palette().map(<[u8]>::to_vec);
    let frame = file.next_frame_info().map_err(error)?;
    let frame = frame.ok_or_else(|| ImageError::damaged("the GIF file has no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (wide, high) = (usize::from(frame.width), usize::from(frame.height));
    let transparent = frame.transparent;
    let palette = frame.palette.clone().or(global);
    let side = |canvas: u16, end: usize| usize::from(canvas).max(end) as u32;
    let (width, height) = checked_size(side(canvas[0], left + wide), side(canvas[1], top + high))?;
    let mut pixels = vec![0; wide * high];
    file.read_into_buffer(&mut pixels).map_err(error)?;

    let mut indices = vec![transparent.unwrap_or(0); width * height];
    if wide > 0 {
        let rows = indices.chunks_exact_mut(width).skip(top);
        for (row, frame) in rows.zip(pixels.chunks_exact(wide)) {
            row[left..left + wide].copy_from_slice(frame);
        }
    }
    let levels = match palette {
        None => Levels::Grey(indices),
        Some(colours) => {
            let mut palette = [[0; 3]; 256];
            palette
                .iter_mut()
                .zip(colours.as_chunks().0)
                .for_each(|(place, colour)| *place = *colour);
            Levels::of_palette(&indices, &palette)
        }
    };
    Ok(Bitmap { width, height, levels })
}

/// Returns whether the GIF file has no global palette.
fn has_no_palette(bytes: &[u8]) -> bool {
    bytes.get(10).is_some_and(|flags| flags & 0x80 == 0)
}

/// Adds a global palette of 256 grey levels to the bytes of a GIF file.
///
/// Pillow uses this palette for a frame without a palette. The GIF decoder would reject such a frame.
fn with_grey_palette(bytes: &[u8]) -> Vec<u8> {
    let (head, frames) = bytes.split_at(bytes.len().min(13));
    let greys = (0..=255u8).flat_map(|level| [level; 3]);
    let mut painted: Vec<u8> = head.iter().copied().chain(greys).collect();
    painted[10] |= 0x87;
    painted.extend_from_slice(frames);
    painted
}

fn error(error: gif::DecodingError) -> ImageError {
    match error {
        gif::DecodingError::Io(_) => ImageError::Truncated,
        other => ImageError::damaged(other),
    }
}
