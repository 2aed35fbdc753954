//! Reads from the tags of a TIFF file how and where the file stores the pixels.

use super::directory::{ByteOrder, Directory};
use crate::data::decode::bitmap::{MAX_BYTES, checked_size};
use crate::data::decode::error::ImageError;

/// Tag number of the palette.
pub(super) const COLOR_MAP: u16 = 320;
pub(super) const JPEG_TABLES: u16 = 347;
pub(super) const YCBCR_COEFFICIENTS: u16 = 529;
pub(super) const REFERENCE_BLACK_WHITE: u16 = 532;

/// Value of the tag `Compression` for uncompressed data.
pub(super) const UNCOMPRESSED: u32 = 1;
pub(super) const NEW_JPEG: u32 = 7;

/// Value of the tag `PhotometricInterpretation` for `YCbCr` images.
pub(super) const YCBCR: u32 = 6;

/// Which samples of a pixel to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    AsPillow,
    All,
}

/// How a TIFF file stores pixels, according to the tags.
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) order: ByteOrder,
    pub(super) photometric: u32,
    /// Number of bits per sample.
    pub(super) bits: usize,
    /// Number of samples per pixel.
    pub(super) samples: usize,
    /// Number format of the samples: 1 is unsigned, 2 is signed, 3 is floating-point.
    pub(super) format: u32,
    /// Meaning of each sample after the colours: 0 is unknown, 1 is premultiplied alpha, 2 is alpha.
    pub(super) extra: Vec<u64>,
    /// Whether the file stores each channel separately. Otherwise, the channels of a pixel are adjacent.
    pub(super) planar: bool,
    /// Whether the lowest bit of each byte comes first.
    pub(super) reversed: bool,
    pub(super) compression: u32,
    pub(super) predictor: u32,
    pub(super) orientation: u32,
    /// Options of CCITT group 3 compression. Bit 0 means two-dimensional coding.
    pub(super) fax_options: u32,
    /// Subsampling of `Cb` and `Cr`, as `[horizontal, vertical]`.
    pub(super) subsampling: [usize; 2],
    pub(super) chunks: Chunks,
}

/// Sizes and positions of the chunks (strips or tiles) of a TIFF image.
pub(super) struct Chunks {
    pub(super) tiled: bool,
    /// Width of a chunk in pixels.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of chunks side by side.
    pub(super) across: usize,
    pub(super) down: usize,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

impl Layout {
    /// Reads the layout with the samples that Pillow reads. Fails if a pixel has more than 6 samples.
    pub(super) fn of(directory: &Directory<'_>) -> Result<Self, ImageError> {
        Self::read(directory, Kept::AsPillow)
    }

    /// Reads the layout with all samples of each pixel.
    pub(super) fn of_all_samples(directory: &Directory<'_>) -> Result<Self, ImageError> {
        Self::read(directory, Kept::All)
    }

    fn read(directory: &Directory<'_>, kept: Kept) -> Result<Self, ImageError> {
        let size = [directory.number(256, 0)?, directory.number(257, 0)?];
        let (width, height) = checked_size(size[0], size[1])?;
        let photometric = directory.number(262, 0)?;
        let planar = directory.number(284, 1)? == 2;
        let mut extra = directory.numbers(338)?;
        let mut samples = directory.number(277, 1)? as usize;
        let mut bits = directory.numbers(258)?;
        if bits.is_empty() {
            bits.push(1);
        }
        let as_pillow = kept == Kept::AsPillow;
        if as_pillow && planar && extra.iter().all(|kind| *kind == 0) {
            // Ignores planes after the colours.
            samples = samples.saturating_sub(extra.len()).max(1);
            extra.clear();
        }
        bits.truncate(samples);
        if samples == 0 || as_pillow && samples > 6 || bits.iter().any(|of| *of != bits[0]) {
            return Err(ImageError::Unsupported(format!(
                "mae does not support TIFF files with {samples} samples per pixel of {bits:?} bits"
            )));
        }
        let formats = directory.numbers(339)?;
        if formats.iter().any(|of| *of != formats[0]) {
            return Err(ImageError::Unsupported(
                "mae does not support TIFF files with different sample formats in one pixel"
                    .to_owned(),
            ));
        }
        let subsampling = directory.numbers(530)?;
        let subsampling = match subsampling[..] {
            [across @ (1 | 2 | 4), down @ (1 | 2 | 4)] => [across as usize, down as usize],
            _ => [2, 2],
        };
        Ok(Self {
            width,
            height,
            order: directory.order,
            photometric,
            bits: bits[0] as usize,
            samples,
            format: formats.first().map_or(1, |format| *format as u32),
            extra,
            planar,
            reversed: directory.number(266, 1)? == 2,
            compression: directory.number(259, UNCOMPRESSED)?,
            predictor: directory.number(317, 1)?,
            orientation: directory.number(274, 1)?,
            fax_options: directory.number(292, 0)?,
            subsampling,
            chunks: Chunks::of(directory, width, height)?,
        })
    }

    /// Returns the number of separately stored channels; 1 if the channels are interleaved.
    pub(super) fn planes(&self) -> usize {
        if self.planar { self.samples } else { 1 }
    }

    /// Returns the number of samples per pixel in a strip or tile; 1 if channels are stored separately.
    pub(super) fn samples_in_chunk(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Returns the size in bytes of a row of `width` pixels.
    pub(super) fn row_bytes(&self, width: usize) -> usize {
        (width * self.samples_in_chunk() * self.bits).div_ceil(8)
    }

    /// Returns the size in bytes of `width` × `height` pixels. Fails if the size is above [`MAX_BYTES`].
    pub(super) fn checked_bytes(&self, width: usize, height: usize) -> Result<usize, ImageError> {
        let bits = self.samples_in_chunk() * self.bits;
        let row = width.checked_mul(bits).map(|bits| bits.div_ceil(8));
        let all = row.and_then(|row| row.checked_mul(height));
        let all = all.filter(|bytes| *bytes as u64 <= MAX_BYTES);
        all.ok_or_else(|| ImageError::too_large(width as u64, height as u64))
    }

    /// Returns the error for an image that Pillow does not read, or reads incorrectly.
    pub(super) fn unsupported(&self) -> ImageError {
        let colours = match self.photometric {
            0 | 1 => "grey",
            2 => "RGB",
            3 => "palette",
            5 => "CMYK",
            6 => "YCbCr",
            8..=10 => "Lab",
            _ => "other",
        };
        let format = match self.format {
            1 => "unsigned",
            2 => "signed",
            3 => "floating-point",
            _ => "other",
        };
        let order = if self.order == ByteOrder::Little { "little-endian" } else { "big-endian" };
        let planes = if self.planar { ", in planes" } else { "" };
        ImageError::Unsupported(format!(
            "mae does not support TIFF files with {colours} colours, {} samples per pixel of {} bits ({format}, {order}{planes})",
            self.samples, self.bits
        ))
    }
}

impl Chunks {
    fn of(directory: &Directory<'_>, width: usize, height: usize) -> Result<Self, ImageError> {
        let strips = directory.numbers(273)?;
        let tiled = strips.is_empty();
        let (offsets, lengths, wide, high) = if tiled {
            let sides = (directory.number(322, 0)? as usize, directory.number(323, 0)? as usize);
            (directory.numbers(324)?, directory.numbers(325)?, sides.0, sides.1)
        } else {
            let high = directory.number(278, u32::MAX)? as usize;
            (strips, directory.numbers(279)?, width, high.min(height))
        };
        if offsets.is_empty() || wide == 0 || high == 0 {
            return Err(ImageError::damaged("the TIFF file has no strips and no tiles"));
        }
        let (across, down) = (width.div_ceil(wide), height.div_ceil(high));
        Ok(Self { tiled, width: wide, height: high, across, down, offsets, lengths })
    }

    /// Returns the compressed bytes of the strip or tile `index`.
    ///
    /// Returns all bytes up to the end of the file if the length is missing.
    pub(super) fn data<'a>(&self, bytes: &'a [u8], index: usize) -> Result<&'a [u8], ImageError> {
        let offset = self.offsets.get(index).ok_or(ImageError::Truncated)?;
        let rest = usize::try_from(*offset).ok().and_then(|offset| bytes.get(offset..));
        let rest = rest.ok_or(ImageError::Truncated)?;
        let length = self.lengths.get(index).map_or(rest.len(), |length| *length as usize);
        Ok(&rest[..length.min(rest.len())])
    }
}
