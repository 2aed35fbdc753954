//! The canvas of a figure: draws pictures and text.

use super::Tile;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::io;

pub(super) use noto_sans_mono_bitmap::FontWeight as Weight;

const SIZE: RasterHeight = RasterHeight::Size16;
/// Height of a line of text, in pixels.
pub(super) const LINE: usize = SIZE.val() + 2;
/// Grey value of text.
const INK: u8 = 34;

pub(super) fn text_width(line: &str) -> usize {
    line.chars().count() * get_raster_width(FontWeight::Regular, SIZE)
}

pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// RGB values, `[height, width, 3]`.
    rgb: Vec<u8>,
}

impl Canvas {
    pub(super) fn white(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![255; width * height * 3] }
    }

    /// Draws a picture with its upper left corner at (`left`, `top`), in pixels.
    ///
    /// Enlarges the picture by the factor `scale`.
    pub(super) fn tile(&mut self, left: usize, top: usize, tile: &Tile, scale: usize) {
        for (y, row) in tile.rgb.chunks_exact(tile.width * 3).enumerate() {
            let line: Vec<u8> = row.chunks_exact(3).flat_map(|rgb| rgb.repeat(scale)).collect();
            for y in top + y * scale..top + (y + 1) * scale {
                let from = (y * self.width + left) * 3;
                self.rgb[from..from + line.len()].copy_from_slice(&line);
            }
        }
    }

    /// Draws a line of text with its upper left corner at (`left`, `top`), in pixels.
    pub(super) fn text(&mut self, left: usize, top: usize, line: &str, weight: Weight) {
        for (i, letter) in line.chars().enumerate() {
            let raster = get_raster(letter, weight, SIZE).or(get_raster('?', weight, SIZE));
            let Some(raster) = raster else { continue };
            for (y, row) in raster.rows().enumerate() {
                let from = ((top + y) * self.width + left + i * raster.width()) * 3;
                let pixels = self.rgb[from..from + row.len() * 3].chunks_exact_mut(3);
                for (pixel, strength) in pixels.zip(row) {
                    for channel in pixel {
                        *channel = blend(*channel, INK, *strength);
                    }
                }
            }
        }
    }

    pub(super) fn png(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (compression, filter) = (CompressionType::Default, FilterType::Adaptive);
        PngEncoder::new_with_quality(&mut bytes, compression, filter)
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(bytes)
    }
}

/// Blends the grey value `over` onto `under`. `strength` is the opacity of `over`, from 0 to 255.
fn blend(under: u8, over: u8, strength: u8) -> u8 {
    let strength = u32::from(strength);
    let sum = u32::from(under) * (255 - strength) + u32::from(over) * strength;
    (sum / 255) as u8
}
