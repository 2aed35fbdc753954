//! Decompresses the strips and tiles of TIFF files.

use std::io::Read;

use flate2::read::ZlibDecoder;
use image::ImageFormat;
use lzma_rust2::XzReader;
use weezl::BitOrder;
use weezl::decode::Decoder;

use super::directory::ByteOrder;
use super::fax;
use super::layout::{Layout, NEW_JPEG, UNCOMPRESSED};
use crate::data::decode::bitmap::keep;
use crate::data::decode::error::ImageError;
use crate::data::decode::jpeg::components;

/// A compressed strip or tile of a TIFF image.
pub(super) struct Coded<'a> {
    pub(super) data: &'a [u8],
    pub(super) width: usize,
    pub(super) height: usize,
    /// Length in bytes after decompression.
    pub(super) length: usize,
    /// JPEG tables that all strips or tiles share; `None` if the file has none.
    pub(super) tables: Option<&'a [u8]>,
}

/// Decompresses a strip or tile. Returns exactly [`Coded::length`] bytes, in the byte order of the file.
pub(super) fn decompressed(layout: &Layout, coded: &Coded<'_>) -> Result<Vec<u8>, ImageError> {
    let reversed: Vec<u8>;
    let mut data = coded.data;
    if layout.reversed {
        reversed = data.iter().map(|byte| byte.reverse_bits()).collect();
        data = &reversed;
    }
    let mut out = match layout.compression {
        UNCOMPRESSED | 32_771 => data.get(..coded.length).ok_or(ImageError::Truncated)?.to_vec(),
        2..=4 => fax::decode(data, layout, coded.width, coded.height)?,
        5 => lzw(data, coded.length)?,
        NEW_JPEG => jpeg(layout, coded, data)?,
        8 | 32_946 => read_from(ZlibDecoder::new(data), coded.length)?,
        32_773 => pack_bits(data, coded.length)?,
        34_925 => read_from(XzReader::new(data, true), coded.length)?,
        50_000 => {
            let decoder = zstd::stream::read::Decoder::with_buffer(data);
            read_from(decoder.map_err(ImageError::damaged)?, coded.length)?
        }
        50_001 => webp(layout, data)?,
        other => {
            return Err(ImageError::Unsupported(format!(
                "mae does not support TIFF files with {}",
                name(other)
            )));
        }
    };
    if out.len() < coded.length {
        return Err(ImageError::Truncated);
    }
    out.truncate(coded.length);
    if matches!(layout.compression, 5 | 8 | 32_946 | 34_925 | 50_000) {
        undo_prediction(layout, coded.width, &mut out)?;
    }
    Ok(out)
}

/// Returns the name of an unsupported compression, for messages.
fn name(compression: u32) -> String {
    match compression {
        6 => "old-style JPEG compression".to_owned(),
        32_809 => "ThunderScan compression".to_owned(),
        34_661 => "JBIG compression".to_owned(),
        34_676 | 34_677 => "SGILog compression".to_owned(),
        34_712 => "JPEG 2000 compression".to_owned(),
        34_887 => "LERC compression".to_owned(),
        50_002 => "JPEG XL compression".to_owned(),
        other => format!("compression {other}"),
    }
}

fn read_from(reader: impl Read, length: usize) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::new();
    reader.take(length as u64).read_to_end(&mut out).map_err(ImageError::damaged)?;
    Ok(out)
}

/// Decompresses LZW data to at most `length` bytes.
///
/// Also supports old TIFF files with reversed bit order.
fn lzw(data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    let old = matches!(data, [0, second, ..] if second & 1 == 1);
    let mut decoder = if old {
        Decoder::new(BitOrder::Lsb, 8)
    } else {
        Decoder::with_tiff_size_switch(BitOrder::Msb, 8)
    };
    let mut out = vec![0; length];
    let (mut read, mut written) = (0, 0);
    while written < length {
        let step = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(weezl::LzwStatus::Ok) => {}
            Ok(_) => break,
            Err(error) => return Err(ImageError::damaged(error)),
        }
    }
    out.truncate(written);
    Ok(out)
}

/// Decompresses run-length coded `PackBits` data to at least `length` bytes.
fn pack_bits(data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::with_capacity(length.min(data.len().saturating_mul(64)));
    let mut rest = data;
    while out.len() < length {
        let (&head, after) = rest.split_first().ok_or(ImageError::Truncated)?;
        let count = match head {
            128 => 0,
            0..=127 => usize::from(head) + 1,
            _ => 257 - usize::from(head),
        };
        let taken = if head < 128 { count } else { count.min(1) };
        let (bytes, after) = after.split_at_checked(taken).ok_or(ImageError::Truncated)?;
        if head < 128 {
            out.extend_from_slice(bytes);
        } else if let [byte] = bytes {
            out.resize(out.len() + count, *byte);
        }
        rest = after;
    }
    Ok(out)
}

/// Decompresses a JPEG stream inside a TIFF file.
///
/// Converts interleaved `YCbCr` to RGB. Keeps other colours unchanged.
fn jpeg(layout: &Layout, coded: &Coded<'_>, data: &[u8]) -> Result<Vec<u8>, ImageError> {
    let joined: Vec<u8>;
    let mut stream = data;
    if let Some(tables) = coded.tables {
        // Tables and data both start with a marker of 2 bytes. The tables also end with such a marker.
        let tables = tables.get(2..tables.len().saturating_sub(2)).unwrap_or_default();
        let rest = data.get(2..).ok_or(ImageError::Truncated)?;
        joined = [&[0xff, 0xd8], tables, rest].concat();
        stream = &joined;
    }
    let to_rgb = layout.photometric == super::layout::YCBCR && !layout.planar;
    let decoded = components::decode(stream, to_rgb)?;
    if decoded.channels != layout.samples_in_chunk() || layout.bits != 8 {
        return Err(ImageError::damaged("the JPEG data does not match the TIFF tags"));
    }
    if decoded.width < coded.width {
        return Err(ImageError::damaged("the JPEG data is narrower than the TIFF image"));
    }
    let (row, wanted) = (decoded.width * decoded.channels, coded.width * decoded.channels);
    let mut out = keep(&decoded.samples, row, wanted);
    // A strip may end early, as Pillow allows.
    out.resize(out.len().max(coded.length), 0);
    Ok(out)
}

fn webp(layout: &Layout, data: &[u8]) -> Result<Vec<u8>, ImageError> {
    let image = image::load_from_memory_with_format(data, ImageFormat::WebP);
    let image = image.map_err(ImageError::damaged)?;
    match layout.samples_in_chunk() {
        3 => Ok(image.into_rgb8().into_raw()),
        4 => Ok(image.into_rgba8().into_raw()),
        _ => Err(layout.unsupported()),
    }
}

/// Undoes the TIFF predictor: converts differences between neighbours to samples.
fn undo_prediction(layout: &Layout, width: usize, data: &mut [u8]) -> Result<(), ImageError> {
    let samples = layout.samples_in_chunk();
    let row = layout.row_bytes(width);
    match (layout.predictor, layout.bits) {
        (1, _) => {}
        (2, bits @ (8 | 16 | 32)) => {
            let bytes = bits / 8;
            data.chunks_exact_mut(row).for_each(|row| add_left(row, bytes, samples, layout.order));
        }
        (3, bits @ (16 | 24 | 32)) => {
            let bytes = bits / 8;
            data.chunks_exact_mut(row)
                .for_each(|row| join_bytes(row, bytes, samples, layout.order));
        }
        (predictor, bits) => {
            let problem = format!(
                "mae does not support TIFF files with predictor {predictor} for {bits}-bit samples"
            );
            return Err(ImageError::Unsupported(problem));
        }
    }
    Ok(())
}

/// Adds the left neighbour of the same channel to each sample of a row. A sample has `bytes` bytes.
fn add_left(row: &mut [u8], bytes: usize, samples: usize, order: ByteOrder) {
    let step = bytes * samples;
    for at in (step..row.len()).step_by(bytes) {
        // The lowest byte of a number is added first; its carry goes to the next byte.
        let mut carry = 0;
        for place in 0..bytes {
            let place = if order == ByteOrder::Little { place } else { bytes - 1 - place };
            let sum = u16::from(row[at + place]) + u16::from(row[at + place - step]) + carry;
            row[at + place] = sum as u8;
            carry = sum >> 8;
        }
    }
}

/// Undoes the TIFF predictor for a row of floats.
///
/// The file stores the highest bytes of all floats, then the second bytes, and so on.
fn join_bytes(row: &mut [u8], bytes: usize, samples: usize, order: ByteOrder) {
    for at in samples..row.len() {
        row[at] = row[at].wrapping_add(row[at - samples]);
    }
    let separate = row.to_vec();
    let count = row.len() / bytes;
    for (i, value) in row.chunks_exact_mut(bytes).enumerate() {
        for (place, byte) in value.iter_mut().enumerate() {
            let plane = if order == ByteOrder::Big { place } else { bytes - 1 - place };
            *byte = separate[plane * count + i];
        }
    }
}
