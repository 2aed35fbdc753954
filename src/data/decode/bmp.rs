//! Decodes BMP files, and the device-independent bitmaps (DIB) inside icons.
//!
//! Follows Pillow's unusual choices too: scales 16-bit colours with `v * 255 / 31`, and rejects a run-length code that
//! ends early.

use super::bitmap::{Bitmap, Levels, Palette, checked_size, unpacked};
use super::byte_reader::ByteReader;
use super::error::ImageError;

/// Value of the header field `compression` for uncompressed pixels.
const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

/// Converts the bytes of one pixel to RGB.
type PixelReader = fn(&[u8]) -> [u8; 3];

/// Header, palette and pixel position of a device-independent bitmap (DIB).
pub(super) struct Dib<'a> {
    bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    bits: u16,
    compression: u32,
    /// Whether the top row comes first in the file.
    top_down: bool,
    /// Bit masks of red, green and blue; `None` unless the compression is [`BITFIELDS`].
    masks: Option<[u32; 3]>,
    palette: Box<Palette>,
    /// Byte position of the pixels in the file.
    pixels_at: usize,
}

/// Returns whether the file starts with a bitmap header instead of a BMP file header.
pub(super) fn is_dib(bytes: &[u8]) -> bool {
    let [size, 0, 0, 0, _, _, _, _, _, _, _, _, 1, 0, ..] = bytes else { return false };
    matches!(size, 40 | 108 | 124)
}

/// Decodes a BMP file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    if is_dib(bytes) {
        return Dib::read(bytes, 0, 0)?.decode();
    }
    let pixels_at = ByteReader::at(bytes, 10).u32_le()?;
    Dib::read(bytes, 14, pixels_at as usize)?.decode()
}

impl<'a> Dib<'a> {
    /// Reads the bitmap header at byte `at` of the file.
    ///
    /// `pixels_at` is the byte position of the pixels. If `pixels_at` is 0, the pixels follow the palette.
    pub(super) fn read(
        bytes: &'a [u8],
        at: usize,
        mut pixels_at: usize,
    ) -> Result<Self, ImageError> {
        let mut file = ByteReader::at(bytes, at);
        let size = file.u32_le()?;
        let mut header = ByteReader::new(file.take((size as usize).saturating_sub(4))?);
        let mut dib = match size {
            12 => Self::core(bytes, &mut header)?,
            40 | 52 | 56 | 64 | 108 | 124 => Self::info(bytes, &mut header)?,
            _ => {
                return Err(ImageError::Unsupported(format!(
                    "mae does not support BMP files with a header of {size} bytes"
                )));
            }
        };
        let entry = if size == 12 { 3 } else { 4 };
        let mut colours = if size == 12 { 0 } else { ByteReader::at(bytes, at + 32).u32_le()? };
        if colours == 0 && dib.bits < 32 {
            colours = 1 << dib.bits;
        }
        if dib.compression == BITFIELDS {
            dib.masks = Some(masks(&mut header, &mut file)?);
        }
        if pixels_at == at + size as usize && dib.bits <= 8 {
            pixels_at += entry * colours as usize;
        }
        if dib.bits <= 8 {
            if colours == 0 || colours > 65_536 {
                return Err(ImageError::damaged(format!(
                    "the BMP palette has {colours} colours, expected 1 to 65536"
                )));
            }
            let palette = file.take_up_to(entry * colours as usize);
            for (place, colour) in dib.palette.iter_mut().zip(palette.chunks_exact(entry)) {
                *place = [colour[2], colour[1], colour[0]];
            }
        }
        dib.pixels_at = if pixels_at == 0 { file.position() } else { pixels_at };
        Ok(dib)
    }

    /// Reads a bitmap header of 12 bytes (OS/2 1.x, Windows 2).
    fn core(bytes: &'a [u8], header: &mut ByteReader<'a>) -> Result<Self, ImageError> {
        let (width, height) = (header.u16_le()?.into(), header.u16_le()?.into());
        header.u16_le()?;
        let bits = header.u16_le()?;
        Ok(Self::new(bytes, [width, height], bits, RAW, false))
    }

    /// Reads a bitmap header of 40 bytes or more (Windows 3 and later, OS/2 2.x).
    fn info(bytes: &'a [u8], header: &mut ByteReader<'a>) -> Result<Self, ImageError> {
        let (width, height) = (header.u32_le()?, header.u32_le()?);
        header.u16_le()?;
        let (bits, compression) = (header.u16_le()?, header.u32_le()?);
        let top_down = height >> 24 == 0xff;
        let height = if top_down { height.wrapping_neg() } else { height };
        // Skips data size, resolution, number of colours, and number of important colours.
        header.take(20)?;
        Ok(Self::new(bytes, [width, height], bits, compression, top_down))
    }

    fn new(
        bytes: &'a [u8],
        [width, height]: [u32; 2],
        bits: u16,
        compression: u32,
        top_down: bool,
    ) -> Self {
        let (masks, palette) = (None, Box::new([[0; 3]; 256]));
        Self { bytes, width, height, bits, compression, top_down, masks, palette, pixels_at: 0 }
    }

    pub(super) fn decode(&self) -> Result<Bitmap, ImageError> {
        let (width, height) = checked_size(self.width, self.height)?;
        let levels = match (self.compression, self.bits) {
            (RAW, 1 | 4 | 8) => Levels::of_palette(&self.indices(width, height)?, &self.palette),
            (RLE8, 8) | (RLE4, 4) => {
                Levels::of_palette(&self.run_lengths(width, height)?, &self.palette)
            }
            (RAW | BITFIELDS, 16 | 24 | 32) => Levels::Rgb(self.colours(width, height)?),
            (RAW..=BITFIELDS, bits) => {
                return Err(ImageError::Unsupported(format!(
                    "mae does not support BMP files with {bits} bits per pixel"
                )));
            }
            (other, _) => {
                return Err(ImageError::Unsupported(format!(
                    "mae does not support BMP files with compression {other}"
                )));
            }
        };
        Ok(Bitmap { width, height, levels })
    }

    /// Returns the bytes of each row of an uncompressed bitmap, from top to bottom.
    fn rows(&self, width: usize, height: usize) -> Result<Vec<&'a [u8]>, ImageError> {
        let (stride, length) = self.row_lengths(width);
        let row =
            |y| ByteReader::at(self.bytes, self.pixels_at.saturating_add(y * stride)).take(length);
        let mut rows = (0..height).map(row).collect::<Result<Vec<_>, _>>()?;
        if !self.top_down {
            rows.reverse();
        }
        Ok(rows)
    }

    /// Returns the length of a row in bytes, with and without padding.
    fn row_lengths(&self, width: usize) -> (usize, usize) {
        let bits = width * usize::from(self.bits);
        (bits.div_ceil(32) * 4, bits.div_ceil(8))
    }

    fn indices(&self, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
        let rows = self.rows(width, height)?;
        let bits = usize::from(self.bits);
        Ok(rows.into_iter().flat_map(|row| unpacked(row, bits, width)).collect())
    }

    fn colours(&self, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
        let colour = self.colour_reader()?;
        let bytes = usize::from(self.bits / 8);
        let rows = self.rows(width, height)?;
        Ok(rows.into_iter().flat_map(|row| row.chunks_exact(bytes).flat_map(colour)).collect())
    }

    /// Returns the function that converts a pixel to RGB. Fails if Pillow does not support the colour masks.
    fn colour_reader(&self) -> Result<PixelReader, ImageError> {
        let Some([r, g, b]) = self.masks else {
            return Ok(match self.bits {
                16 => from_555,
                _ => |p| [p[2], p[1], p[0]],
            });
        };
        Ok(match (self.bits, [r, g, b]) {
            (16, [0xf800, 0x7e0, 0x1f]) => from_565,
            (16, [0x7c00, 0x3e0, 0x1f]) => from_555,
            (24, [0xff_0000, 0xff00, 0xff]) => |p| [p[2], p[1], p[0]],
            (32, [0xff_0000, 0xff00, 0xff] | [0, 0, 0]) => |p| [p[2], p[1], p[0]],
            (32, [0xff00_0000, 0xff_0000, 0xff00]) => |p| [p[3], p[2], p[1]],
            (32, [0xff00_0000, 0xff00, 0xff]) => |p| [p[3], p[1], p[0]],
            (32, [0xff, 0xff00, 0xff_0000]) => |p| [p[0], p[1], p[2]],
            _ => {
                let problem = format!(
                    "mae does not support BMP files with the colour masks {r:#x}, {g:#x}, {b:#x}"
                );
                return Err(ImageError::Unsupported(problem));
            }
        })
    }

    /// Decodes run-length coded pixels to palette indices, from the top row to the bottom row.
    fn run_lengths(&self, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
        let mut pixels = self.expanded(width, width * height);
        if pixels.len() < width * height {
            return Err(ImageError::Truncated);
        }
        pixels.truncate(width * height);
        if self.top_down {
            return Ok(pixels);
        }
        Ok(pixels.chunks_exact(width).rev().flatten().copied().collect())
    }

    /// Decodes run-length coded pixels to palette indices, in the order of the file.
    ///
    /// Returns at least `count` indices, or fewer if the data ends early.
    fn expanded(&self, width: usize, count: usize) -> Vec<u8> {
        let mut file = ByteReader::at(self.bytes, self.pixels_at);
        let mut pixels = Vec::with_capacity(count.min(1 << 24));
        let four = self.compression == RLE4;
        let mut x = 0;
        while pixels.len() < count {
            let &[run, value] = file.take_up_to(2) else { break };
            match (run, value) {
                (0, 0) => {
                    pixels.resize(pixels.len().next_multiple_of(width), 0);
                    x = 0;
                }
                (0, 1) => break,
                (0, 2) => {
                    let &[right, up] = file.take_up_to(2) else { break };
                    let skipped = usize::from(right) + usize::from(up) * width;
                    pixels.resize((pixels.len() + skipped).min(count), 0);
                    x = pixels.len() % width;
                }
                (0, literal) => {
                    let wanted = usize::from(literal).min(count - pixels.len());
                    let length = if four { wanted.div_ceil(2) } else { wanted };
                    let data = file.take_up_to(length);
                    let bits = if four { 4 } else { 8 };
                    pixels.extend(unpacked(data, bits, wanted.min(data.len() * 8 / bits)));
                    if data.len() < length || pixels.len() == count {
                        break;
                    }
                    x += usize::from(literal);
                    // Literal pixels are padded to an even position in the file.
                    file.take_up_to(file.position() % 2);
                }
                (run, value) => {
                    let run = usize::from(run).min(width.saturating_sub(x));
                    let pair = if four { [value >> 4, value & 15] } else { [value; 2] };
                    pixels.extend((0..run).map(|i| pair[i % 2]));
                    x += run;
                }
            }
        }
        pixels
    }
}

/// Reads the bit masks of red, green and blue from `header`, or from `file` if `header` has no more bytes.
fn masks(header: &mut ByteReader<'_>, file: &mut ByteReader<'_>) -> Result<[u32; 3], ImageError> {
    let mut masks = [0; 3];
    let inside = !header.is_at_end();
    for mask in &mut masks {
        *mask = if inside { header.u32_le()? } else { file.u32_le()? };
    }
    Ok(masks)
}

fn from_565(pixel: &[u8]) -> [u8; 3] {
    let value = u32::from(u16::from_le_bytes([pixel[0], pixel[1]]));
    let [r, g, b] = [value >> 11, value >> 5 & 63, value & 31];
    [(r * 255 / 31) as u8, (g * 255 / 63) as u8, (b * 255 / 31) as u8]
}

/// Converts a 16-bit pixel with 5 bits per colour to RGB. The highest bit is unused.
pub(super) fn from_555(pixel: &[u8]) -> [u8; 3] {
    let value = u32::from(u16::from_le_bytes([pixel[0], pixel[1]]));
    [value >> 10 & 31, value >> 5 & 31, value & 31].map(|level| (level * 255 / 31) as u8)
}
