//! Decodes JPEG data inside TIFF files.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use mozjpeg_sys::{J_COLOR_SPACE, jpeg_read_scanlines, jpeg_start_decompress};

use super::library::caught;
use super::{ImageError, Jpeg};
use crate::data::decode::bitmap::checked_size;

/// The decoded samples of JPEG data, `[H, W, channels]`.
pub(in crate::data::decode) struct Components {
    pub(in crate::data::decode) width: usize,
    pub(in crate::data::decode) channels: usize,
    pub(in crate::data::decode) samples: Vec<u8>,
}

/// Decodes JPEG data. If `to_rgb` is true, converts the samples from `YCbCr` to RGB.
pub(in crate::data::decode) fn decode(
    bytes: &[u8],
    to_rgb: bool,
) -> Result<Components, ImageError> {
    let mut jpeg = Jpeg::open(bytes)?;
    let decompress = &mut jpeg.state.decompress;
    let (width, height) = checked_size(decompress.image_width, decompress.image_height)?;
    let channels = decompress.num_components as usize;
    if to_rgb && channels != 3 {
        return Err(ImageError::damaged("the JPEG data has no colour components"));
    }
    let spaces = if to_rgb {
        (J_COLOR_SPACE::JCS_YCbCr, J_COLOR_SPACE::JCS_RGB)
    } else {
        (J_COLOR_SPACE::JCS_UNKNOWN, J_COLOR_SPACE::JCS_UNKNOWN)
    };
    (decompress.jpeg_color_space, decompress.out_color_space) = spaces;
    let mut samples = vec![0; width * height * channels];
    // SAFETY: the header is read, and a row of the output has `width` pixels of `channels` bytes.
    let read = caught(|| unsafe {
        jpeg_start_decompress(decompress);
        for row in samples.chunks_exact_mut(width * channels) {
            jpeg_read_scanlines(decompress, [row.as_mut_ptr().cast()].as_mut_ptr(), 1);
        }
    });
    read.map_err(ImageError::Undecodable)?;
    Ok(Components { width, channels, samples })
}
