//! Converts the samples of TIFF files to grey or RGB.

use super::directory::{ByteOrder, Directory};
use super::layout::{COLOR_MAP, Layout, NEW_JPEG, UNCOMPRESSED};
use crate::data::decode::bitmap::{
    Levels, Palette, cmyk_to_rgb, keep, unmultiplied, unpacked, ycc_to_rgb,
};
use crate::data::decode::error::ImageError;

/// How to convert the samples of a TIFF file to 8-bit levels, like Pillow.
pub(super) enum Colours {
    /// Grey levels of 1, 2, 4 or 8 bits.
    Grey {
        inverted: bool,
    },
    /// Unsigned 12-bit or 16-bit grey. Clamped to 255, like in Pillow.
    Unsigned,
    Signed16,
    /// 32-bit grey integers. Unsigned integers are read as signed, like in Pillow.
    Whole32,
    Float32,
    /// 8-bit grey with an alpha channel.
    GreyAlpha {
        premultiplied: bool,
    },
    Palette(Box<Palette>),
    /// RGB or RGBA of 8 or 16 bits per sample. Keeps the high byte of a 16-bit sample.
    Rgb {
        premultiplied: bool,
    },
    Cmyk,
    /// `YCbCr` with one sample of each channel per pixel. Ignores subsampling tags, like Pillow.
    YcbcrWhole,
    /// RGB that the JPEG decoder has converted from `YCbCr`.
    RgbFromJpeg,
}

impl Colours {
    /// Chooses the conversion for a TIFF file. Fails if Pillow does not support the file.
    pub(super) fn of(layout: &Layout, directory: &Directory<'_>) -> Result<Self, ImageError> {
        let little = layout.order == ByteOrder::Little;
        let Layout { photometric, bits, samples, format, reversed, .. } = *layout;
        let extra = &layout.extra[..];
        let kind = match (photometric, format, bits, samples, extra) {
            (0 | 1, 1, 1 | 2 | 4 | 8, 1, []) => Self::Grey { inverted: photometric == 0 },
            (1, 2, 8, 1, []) | (6, 1, 8, 1, []) => Self::Grey { inverted: false },
            (1, 1, 12, 1, []) | (0, 1, 16, 1, []) if little && !reversed => Self::Unsigned,
            (1, 1, 16, 1, []) if little || !reversed => Self::Unsigned,
            (1, 2, 16, 1, []) if !reversed => Self::Signed16,
            (1, 1, 32, 1, []) if little && !reversed => Self::Whole32,
            (1, 2, 32, 1, []) if !reversed => Self::Whole32,
            (0 | 1, 3, 32, 1, []) if !reversed => Self::Float32,
            (1, 1, 8, 2, [kind @ 0..=2]) => Self::GreyAlpha { premultiplied: *kind == 1 },
            (2, 1, 8 | 16, 3, []) | (2, 1, 8 | 16, 4, [] | [0 | 2]) | (2, 1, 8, 4, [999]) => {
                Self::Rgb { premultiplied: false }
            }
            (2, 1, 8, 5 | 6, [0 | 2, others @ ..]) if zeros(others, samples - 4) => {
                Self::Rgb { premultiplied: false }
            }
            (2, 1, 8 | 16, 4, [1]) => Self::Rgb { premultiplied: true },
            (2, 1, 8, 5 | 6, [1, others @ ..]) if zeros(others, samples - 4) => {
                Self::Rgb { premultiplied: true }
            }
            (3, 1, 1 | 2 | 4 | 8, 1, []) | (3, 1, 8, 2, [0 | 2]) => {
                Self::Palette(palette(layout, directory)?)
            }
            (5, 1, 8 | 16, 4, []) => Self::Cmyk,
            (5, 1, 8, 5 | 6, others) if zeros(others, samples - 4) => Self::Cmyk,
            (6, 1, 8, 3, []) if layout.compression == NEW_JPEG && !layout.planar => {
                Self::RgbFromJpeg
            }
            (6, 1, 8, 3, []) => Self::YcbcrWhole,
            _ => return Err(layout.unsupported()),
        };
        // Pillow reads these files wrongly: in the wrong byte order, or 16-bit planes as 8-bit planes.
        let compressed = layout.compression != UNCOMPRESSED;
        let is_number = matches!(kind, Self::Signed16 | Self::Whole32 | Self::Float32);
        if is_number && !little && compressed || layout.planar && bits == 16 && !compressed {
            return Err(layout.unsupported());
        }
        if samples > 1 && reversed && (bits != 8 || samples != 3 || photometric != 2) {
            return Err(layout.unsupported());
        }
        Ok(kind)
    }

    /// Converts samples, `[H, W, samples]`, to levels. Each row starts at a whole byte.
    pub(super) fn convert(self, layout: &Layout, samples: Vec<u8>) -> Levels {
        let order = layout.order;
        let (count, bytes) = (layout.samples, layout.bits / 8);
        match self {
            Self::Grey { inverted } => {
                // Levels of fewer bits are spread to 0..=255.
                let step = 255 / ((1u16 << layout.bits) - 1) as u8;
                let flip = if inverted { 255 } else { 0 };
                Levels::Grey(indices(layout, &samples).map(|value| (value * step) ^ flip).collect())
            }
            Self::Unsigned if layout.bits == 12 => {
                Levels::of_numbers(twelve_bits(layout, &samples))
            }
            Self::Unsigned => {
                let pairs = samples.as_chunks().0.iter();
                Levels::of_numbers(pairs.map(|pair| order.u16(*pair).into()))
            }
            Self::Signed16 => {
                let pairs = samples.as_chunks().0.iter();
                Levels::of_numbers(pairs.map(|pair| (order.u16(*pair) as i16).into()))
            }
            Self::Whole32 => {
                let words = samples.as_chunks().0.iter();
                Levels::of_numbers(words.map(|word| (order.u32(*word) as i32).into()))
            }
            Self::Float32 => {
                // Numbers below 0 become 0, those above 255 become 255, and fractions are cut off.
                let words = samples.as_chunks().0.iter();
                Levels::Grey(words.map(|word| f32::from_bits(order.u32(*word)) as u8).collect())
            }
            Self::GreyAlpha { premultiplied: false } => Levels::Grey(keep(&samples, 2, 1)),
            Self::GreyAlpha { premultiplied: true } => {
                let pairs = samples.as_chunks().0.iter();
                Levels::Grey(
                    pairs.map(|[grey, alpha]| unmultiplied(*grey, *alpha, *grey)).collect(),
                )
            }
            Self::Palette(palette) if count == 2 => {
                Levels::of_palette(&keep(&samples, 2, 1), &palette)
            }
            Self::Palette(palette) => {
                let indices: Vec<u8> = indices(layout, &samples).collect();
                Levels::of_palette(&indices, &palette)
            }
            Self::Rgb { premultiplied } => {
                let levels = high_bytes(samples, bytes, order);
                if !premultiplied {
                    return Levels::Rgb(if count == 3 { levels } else { keep(&levels, count, 3) });
                }
                let pixel = |pixel: &[u8]| [0, 1, 2].map(|c| unmultiplied(pixel[c], pixel[3], 0));
                Levels::Rgb(levels.chunks_exact(count).flat_map(pixel).collect())
            }
            Self::Cmyk => {
                let levels = high_bytes(samples, bytes, order);
                let pixel = |inks: &[u8]| cmyk_to_rgb([inks[0], inks[1], inks[2], inks[3]]);
                Levels::Rgb(levels.chunks_exact(count).flat_map(pixel).collect())
            }
            Self::YcbcrWhole => {
                Levels::Rgb(samples.as_chunks().0.iter().copied().flat_map(ycc_to_rgb).collect())
            }
            Self::RgbFromJpeg => Levels::Rgb(samples),
        }
    }
}

fn zeros(extra: &[u64], count: usize) -> bool {
    extra.len() == count && extra.iter().all(|kind| *kind == 0)
}

/// Reads all samples of 1, 2, 4 or 8 bits.
fn indices<'a>(layout: &Layout, samples: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    let (bits, width) = (layout.bits, layout.width);
    samples.chunks_exact(layout.row_bytes(width)).flat_map(move |row| unpacked(row, bits, width))
}

/// Reads all 12-bit samples. Three bytes hold two samples.
fn twelve_bits(layout: &Layout, samples: &[u8]) -> impl Iterator<Item = i64> {
    let width = layout.width;
    samples.chunks_exact(layout.row_bytes(width)).flat_map(move |row| {
        (0..width).map(move |x| {
            let at = x * 3 / 2;
            let (first, second) = (i64::from(row[at]), i64::from(row[at + 1]));
            if x % 2 == 0 { first << 4 | second >> 4 } else { (first & 15) << 8 | second }
        })
    })
}

/// Keeps only the high byte of each sample. A sample has `bytes` bytes.
fn high_bytes(samples: Vec<u8>, bytes: usize, order: ByteOrder) -> Vec<u8> {
    if bytes == 1 {
        return samples;
    }
    let high = if order == ByteOrder::Big { 0 } else { bytes - 1 };
    samples.into_iter().skip(high).step_by(bytes).collect()
}

/// Reads the palette of 16-bit levels. The file stores all red levels, then green, then blue.
fn palette(layout: &Layout, directory: &Directory<'_>) -> Result<Box<Palette>, ImageError> {
    let map = directory.numbers(COLOR_MAP)?;
    let count = map.len() / 3;
    if count == 0 {
        return Err(ImageError::damaged("the TIFF file has no palette"));
    }
    let mut palette = Box::new([[0; 3]; 256]);
    for (i, place) in palette.iter_mut().enumerate().take(count.min(1 << layout.bits)) {
        *place = [0, 1, 2].map(|colour| (map[colour * count + i] / 256) as u8);
    }
    Ok(palette)
}
