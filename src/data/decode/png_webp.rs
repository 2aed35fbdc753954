//! Decodes PNG and WebP files.

use std::error::Error;
use std::io::{Cursor, ErrorKind};

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::bitmap::{Bitmap, Levels, MAX_BYTES, MAX_SIDE, keep};
use super::error::ImageError;
use super::raw::RawPicture;

/// Returns whether a file starts like a PNG file.
pub(super) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// Decodes a PNG file.
pub(super) fn png(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    // Bit depth and colour type are at a fixed place in the header. Pillow clamps 16-bit grey to 255, also with a
    // transparent level, but keeps the high bytes of 16-bit grey with alpha.
    let is_grey16 = bytes.get(24..26) == Some(&[16, 0]);
    decode(bytes, ImageFormat::Png, is_grey16)
}

/// Reads the numbers of a PNG file without scaling.
///
/// Keeps alpha only if the file has exactly `channels` channels including alpha.
pub(super) fn raw_png(bytes: &[u8], channels: usize) -> Result<RawPicture, ImageError> {
    let image = image(bytes, ImageFormat::Png)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (count, colours, values) = match image {
        DynamicImage::ImageLuma8(pixels) => (1, 1, floats(pixels.as_raw())),
        DynamicImage::ImageLumaA8(pixels) => (2, 1, floats(pixels.as_raw())),
        DynamicImage::ImageLuma16(pixels) => (1, 1, floats(pixels.as_raw())),
        DynamicImage::ImageLumaA16(pixels) => (2, 1, floats(pixels.as_raw())),
        DynamicImage::ImageRgba8(pixels) => (4, 3, floats(pixels.as_raw())),
        DynamicImage::ImageRgb16(pixels) => (3, 3, floats(pixels.as_raw())),
        DynamicImage::ImageRgba16(pixels) => (4, 3, floats(pixels.as_raw())),
        other => (3, 3, floats(other.into_rgb8().as_raw())),
    };
    let kept = if channels == count { count } else { colours };
    Ok(RawPicture { width, height, channels: kept, values: keep(&values, count, kept) })
}

fn floats<T: Copy + Into<f32>>(values: &[T]) -> Vec<f32> {
    values.iter().map(|value| (*value).into()).collect()
}

/// Decodes a WebP file.
pub(super) fn webp(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    decode(bytes, ImageFormat::WebP, false)
}

fn decode(bytes: &[u8], format: ImageFormat, is_grey16: bool) -> Result<Bitmap, ImageError> {
    let image = image(bytes, format)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    Ok(Bitmap { width, height, levels: levels(image, is_grey16) })
}

fn image(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.decode().map_err(|error| reason(&error))
}

/// Converts a decoder error to a readable message.
fn reason(error: &image::ImageError) -> ImageError {
    match error {
        image::ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated
        }
        image::ImageError::Limits(_) => ImageError::damaged("the image has too many pixels"),
        image::ImageError::Decoding(e) => match e.source().map(ToString::to_string) {
            Some(text) if text.starts_with("CRC error") => {
                ImageError::damaged("the checksum of a PNG chunk is wrong")
            }
            Some(text) => ImageError::damaged(text.trim_end_matches('.')),
            None => ImageError::damaged(e),
        },
        _ => ImageError::damaged(error),
    }
}

/// Converts an image to 8-bit levels, like Pillow. Drops alpha without blending.
///
/// Clamps 16-bit grey to 255; with an alpha channel, only if `is_grey16` is true. Other 16-bit samples keep the high
/// byte.
fn levels(image: DynamicImage, is_grey16: bool) -> Levels {
    match image {
        DynamicImage::ImageRgb8(pixels) => Levels::Rgb(pixels.into_raw()),
        DynamicImage::ImageRgba8(pixels) => Levels::Rgb(keep(pixels.as_raw(), 4, 3)),
        DynamicImage::ImageRgb16(pixels) => Levels::Rgb(high_bytes(pixels.as_raw())),
        DynamicImage::ImageRgba16(pixels) => Levels::Rgb(keep(&high_bytes(pixels.as_raw()), 4, 3)),
        DynamicImage::ImageLuma8(pixels) => Levels::Grey(pixels.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => Levels::Grey(keep(pixels.as_raw(), 2, 1)),
        DynamicImage::ImageLuma16(pixels) => {
            Levels::of_numbers(pixels.as_raw().iter().map(|v| i64::from(*v)))
        }
        DynamicImage::ImageLumaA16(pixels) if is_grey16 => {
            Levels::of_numbers(pixels.as_raw().iter().step_by(2).map(|v| i64::from(*v)))
        }
        DynamicImage::ImageLumaA16(pixels) => {
            Levels::Grey(keep(&high_bytes(pixels.as_raw()), 2, 1))
        }
        other => Levels::Rgb(other.into_rgb8().into_raw()),
    }
}

fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::{is_png, png};

    #[test]
    fn errors_of_damaged_files_are_in_words() {
        let mut file = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(30, 30).write_to(&mut file, image::ImageFormat::Png).unwrap();
        let whole = file.into_inner();
        assert!(is_png(&whole) && png(&whole).is_ok());
        let error = |bytes: &[u8]| png(bytes).err().unwrap().to_string();
        assert_eq!(error(&whole[..60]), "the file is truncated");
        let mut changed = whole;
        changed[17] ^= 1;
        let text = "corrupt or unsupported image: the checksum of a PNG chunk is wrong";
        assert_eq!(error(&changed), text);
    }
}
