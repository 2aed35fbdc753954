//! Decodes the Netpbm formats (PBM, PGM, PPM) and PFM, with the same pixels as Pillow.

use std::str::FromStr;

use super::bitmap::{Bitmap, Levels, checked_size, unpacked};
use super::byte_reader::ByteReader;
use super::error::ImageError;

/// Maximum number of characters in a number, as in Pillow.
const LONGEST: usize = 10;

/// Returns whether a file starts like a Netpbm or PFM file.
pub(super) fn is_pnm(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'1'..=b'6' | b'f', space, ..] if space.is_ascii_whitespace() || *space == b'#')
}

/// Decodes a Netpbm or PFM file.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let kind = bytes.get(1).copied().unwrap_or_default();
    let mut file = ByteReader::at(bytes, if bytes.get(2) == Some(&b'#') { 2 } else { 3 });
    let width = number(&token(&mut file)?)?;
    let height = number(&token(&mut file)?)?;
    let (width, height) = checked_size(width, height)?;
    let count = width * height;
    let levels = match kind {
        b'1' => Levels::Grey(plain_bits(&mut file, count)?),
        b'4' => Levels::Grey(bits(&mut file, width, height)?),
        b'2' | b'5' => {
            let most = maximum(&mut file)?;
            let values = values(&mut file, most, count, kind == b'2')?;
            // Pillow keeps 16 bits of grey, and clamps them to 255 when it converts the picture to RGB.
            let scale = if most > 255 { 65_535 } else { 255 };
            Levels::of_numbers(values.map(|value| scaled(value, most, scale)))
        }
        b'3' | b'6' => {
            let most = maximum(&mut file)?;
            let values = values(&mut file, most, 3 * count, kind == b'3')?;
            Levels::Rgb(values.map(|value| scaled(value, most, 255) as u8).collect())
        }
        _ => Levels::Grey(floats(&mut file, width, height)?),
    };
    Ok(Bitmap { width, height, levels })
}

/// Scales `value` from the range 0..=`most` to 0..=`scale`. Rounds ties to even, as Python does.
fn scaled(value: u32, most: u32, scale: u32) -> i64 {
    if most == scale {
        return value.into();
    }
    let exact = f64::from(value) / f64::from(most) * f64::from(scale);
    exact.round_ties_even().min(scale.into()) as i64
}

/// Reads the next word of the header. Skips white space and comments.
fn token(file: &mut ByteReader<'_>) -> Result<Vec<u8>, ImageError> {
    let mut token = Vec::new();
    loop {
        match file.u8() {
            Err(error) if token.is_empty() => return Err(error),
            Err(_) => return Ok(token),
            Ok(b'#') => while !matches!(file.u8()?, b'\r' | b'\n') {},
            Ok(byte) if is_space(byte) && token.is_empty() => {}
            Ok(byte) if is_space(byte) => return Ok(token),
            Ok(_) if token.len() == LONGEST => {
                return Err(ImageError::damaged(
                    "a number in the PNM file has more than 10 characters",
                ));
            }
            Ok(byte) => token.push(byte),
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn parsed<T: FromStr>(token: &[u8]) -> Option<T> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn number(token: &[u8]) -> Result<u32, ImageError> {
    parsed(token).ok_or_else(|| {
        ImageError::damaged(format!(
            "the PNM file contains \"{}\", expected a whole number",
            token.escape_ascii()
        ))
    })
}

/// Reads the maximum sample value from the header.
fn maximum(file: &mut ByteReader<'_>) -> Result<u32, ImageError> {
    let most = number(&token(file)?)?;
    if !(1..=65_535).contains(&most) {
        return Err(ImageError::damaged(format!(
            "the maximum value of the PNM file is {most}, expected 1 to 65535"
        )));
    }
    Ok(most)
}

/// Reads `count` samples with values up to `most`.
///
/// If `plain` is true, samples are decimal text. Otherwise, a sample has one or two bytes.
fn values<'a>(
    file: &mut ByteReader<'a>,
    most: u32,
    count: usize,
    plain: bool,
) -> Result<Box<dyn Iterator<Item = u32> + 'a>, ImageError> {
    if plain {
        // A sample has at least two characters, so a short file cannot ask for much memory.
        let mut values = Vec::with_capacity(count.min(1 << 20));
        for _ in 0..count {
            let value = number(&token(file)?)?;
            if value > most {
                let problem = format!(
                    "the pixel value {value} is above the maximum value {most} of the PNM file"
                );
                return Err(ImageError::damaged(problem));
            }
            values.push(value);
        }
        return Ok(Box::new(values.into_iter()));
    }
    if most < 256 {
        return Ok(Box::new(file.take(count)?.iter().map(|byte| u32::from(*byte))));
    }
    let pairs = file.take(2 * count)?.as_chunks().0.iter();
    Ok(Box::new(pairs.map(|pair| u16::from_be_bytes(*pair).into())))
}

/// Reads a black-and-white image in text form, with 0 for white and 1 for black.
fn plain_bits(file: &mut ByteReader<'_>, count: usize) -> Result<Vec<u8>, ImageError> {
    let mut levels = Vec::with_capacity(count.min(1 << 20));
    while levels.len() < count {
        match file.u8()? {
            b'0' => levels.push(255),
            b'1' => levels.push(0),
            b'#' => while !matches!(file.u8()?, b'\r' | b'\n') {},
            byte if is_space(byte) => {}
            _ => {
                return Err(ImageError::damaged(
                    "a pixel value of the PBM file is neither 0 nor 1",
                ));
            }
        }
    }
    Ok(levels)
}

/// Reads a black-and-white image with 8 pixels per byte. A bit of 1 is black.
fn bits(file: &mut ByteReader<'_>, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    let row = width.div_ceil(8);
    let data = file.take(row * height)?;
    let levels = |row| unpacked(row, 1, width).map(|bit| 255 - 255 * bit);
    Ok(data.chunks_exact(row).flat_map(levels).collect())
}

/// Reads the 32-bit floats of a PFM file, from the bottom row to the top row.
///
/// The floats are little-endian if the scale in the header is negative.
fn floats(file: &mut ByteReader<'_>, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    let scale = parsed(&token(file)?).filter(|scale: &f64| scale.is_finite() && *scale != 0.0);
    let scale = scale.ok_or_else(|| ImageError::damaged("the PFM scale is 0 or not a number"))?;
    let data = file.take(4 * width * height)?;
    let level = |bytes: &[u8; 4]| {
        if scale < 0.0 {
            f32::from_le_bytes(*bytes) as u8
        } else {
            f32::from_be_bytes(*bytes) as u8
        }
    };
    let rows = data.chunks_exact(4 * width).rev();
    Ok(rows.flat_map(|row| row.as_chunks().0.iter().map(level)).collect())
}
