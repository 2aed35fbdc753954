//! JPEG files, by libjpeg-turbo: the same pixels, to the bit, as Pillow and torchvision give.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

/// Whether a file is a JPEG, by its first bytes.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Decodes a JPEG of any colour space to RGB; `fits` is asked before the pixels are allocated.
pub(super) fn decode(
    bytes: &[u8],
    fits: impl Fn(usize, usize) -> bool,
) -> Result<RgbImage, String> {
    // The C library's errors arrive as an unwinding, which runs no panic hook.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let jpeg = Decompress::new_mem(bytes).map_err(|e| e.to_string())?;
        let (width, height) = jpeg.size();
        if !fits(width, height) {
            return Err(format!("{width}x{height} pixels are too many"));
        }
        let pixels = match jpeg.color_space() {
            ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => cmyk(jpeg)?,
            _ => {
                let mut rows = jpeg.rgb().map_err(|e| e.to_string())?;
                rows.read_scanlines::<u8>().map_err(|e| e.to_string())?
            }
        };
        RgbImage::from_raw(width as u32, height as u32, pixels)
            .ok_or_else(|| "not all rows are there".to_owned())
    }));
    decoded.unwrap_or_else(|panic| Err(message(panic.as_ref())))
}

/// CMYK as Adobe's programs write it, inverted; to RGB as Pillow converts.
fn cmyk(jpeg: Decompress<&[u8]>) -> Result<Vec<u8>, String> {
    let mut rows = jpeg.to_colorspace(ColorSpace::JCS_CMYK).map_err(|e| e.to_string())?;
    let values = rows.read_scanlines::<u8>().map_err(|e| e.to_string())?;
    let (pixels, _) = values.as_chunks::<4>();
    Ok(pixels
        .iter()
        .flat_map(|[c, m, y, k]| {
            [c, m, y].map(|ink| {
                let product = u32::from(255 - ink) * u32::from(*k) + 128;
                k - ((product + (product >> 8)) >> 8) as u8
            })
        })
        .collect())
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the decoder gave up".to_owned())
}
