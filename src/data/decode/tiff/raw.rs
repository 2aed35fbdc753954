//! Reads the samples of a TIFF file without conversion to grey or RGB.

use super::assemble;
use super::compression::decompressed;
use super::directory::{ByteOrder, Directory};
use super::layout::{JPEG_TABLES, Layout, NEW_JPEG, YCBCR};
use crate::data::decode::bitmap::{keep, turned, turned_size};
use crate::data::decode::error::ImageError;
use crate::data::decode::raw::RawPicture;
use crate::data::decode::raw::samples::{SampleKind, SampleType};

/// The value of the tag `PhotometricInterpretation` for palette images.
const PALETTE: u32 = 3;

/// Returns the number of bits per sample of the first page.
pub(in crate::data::decode) fn bits(bytes: &[u8]) -> Result<usize, ImageError> {
    Ok(Layout::of_all_samples(&Directory::read(bytes)?)?.bits)
}

/// Returns whether the file has more than one page.
pub(in crate::data::decode) fn has_more_pages(bytes: &[u8]) -> Result<bool, ImageError> {
    Ok(Directory::read(bytes)?.has_next)
}

/// Decodes the samples of the first page without conversion.
///
/// Keeps alpha only if the page has exactly `channels` channels including alpha.
pub(in crate::data::decode) fn raw(
    bytes: &[u8],
    channels: usize,
) -> Result<RawPicture, ImageError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::of_all_samples(&directory)?;
    let (width, height, samples) = (layout.width, layout.height, layout.samples);
    let subsampled = layout.photometric == YCBCR && layout.compression != NEW_JPEG;
    if layout.photometric == PALETTE || subsampled || !layout.bits.is_multiple_of(8) {
        return Err(layout.unsupported());
    }
    RawPicture::check_size(width, height, samples)?;
    let kind = match layout.format {
        1 | 4 => SampleKind::Unsigned,
        2 => SampleKind::Signed,
        3 => SampleKind::Float,
        _ => return Err(layout.unsupported()),
    };
    let big_endian = layout.order == ByteOrder::Big;
    let tables = directory.bytes(JPEG_TABLES)?;
    let all = assemble(bytes, &layout, tables, |coded| decompressed(&layout, &coded))?;
    let values = SampleType { kind, bits: layout.bits, big_endian }.to_floats(&all)?;
    let alpha = layout.extra.iter().filter(|kind| matches!(kind, 1 | 2)).count();
    let kept = if channels == samples { samples } else { samples - alpha.min(samples - 1) };
    let values = if kept == samples { values } else { keep(&values, samples, kept) };
    let size = [width, height];
    let [width, height] = turned_size(size, layout.orientation);
    let values = turned(values, kept, size, layout.orientation);
    Ok(RawPicture { width, height, channels: kept, values })
}
