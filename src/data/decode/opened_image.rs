//! Decodes image files of any format.

use std::fs;
use std::path::Path;

use crate::data::error::DataError;
use crate::shape::ImageSize;

use super::bitmap::{Bitmap, checked_size, luma};
use super::error::ImageError;
use super::format::Format;
use super::jpeg::{self, Decoded, Jpeg};
use super::picture::{Colour, CropBox, Picture, Pixels, Reading, Stored};
use super::raw::RawPicture;
use super::{bmp, gif, ico, png_webp, pnm, tga, tiff};

/// Reads and decodes the image file at `path` to RGB.
pub fn read_picture(path: &Path) -> Result<Picture, DataError> {
    decode_file(path, Reading::Levels(Colour::Rgb))
}

/// Reads and decodes the image file at `path`. Detects the format from the content, not from the file extension.
pub(in crate::data) fn decode_file(path: &Path, reading: Reading) -> Result<Picture, DataError> {
    if path.is_dir() {
        let hint = "pass the image files in this folder";
        return Err(DataError::layout(path, "this is a folder, not an image", hint));
    }
    let bytes = fs::read(path).map_err(|e| DataError::unreadable(path, e))?;
    let whole = OpenedImage::file(&bytes, reading).and_then(OpenedImage::whole);
    whole.map_err(|error| error.of(path))
}

/// An opened image: a JPEG file before decoding, or a decoded picture.
///
/// For a JPEG file, the methods decode only the needed part.
pub(in crate::data) enum OpenedImage<'a> {
    Jpeg(Jpeg<'a>, Colour),
    Picture(Picture),
}

impl<'a> OpenedImage<'a> {
    /// Opens a picture that a split returned: an image file or decoded pixels.
    pub(in crate::data) fn stored(stored: Stored<'a>) -> Result<Self, ImageError> {
        match stored {
            Stored::File { bytes, reading } => Self::file(bytes, reading),
            Stored::Picture(picture) => Ok(Self::Picture(picture)),
        }
    }

    fn file(bytes: &'a [u8], reading: Reading) -> Result<Self, ImageError> {
        match reading {
            Reading::Levels(colour) => Self::levels(bytes, colour),
            Reading::Values(scale) => {
                Ok(Self::Picture(RawPicture::decode(bytes, scale.channels)?.scaled(scale)))
            }
        }
    }

    /// Opens an image file for decoding to 8-bit grey or RGB.
    pub(super) fn levels(bytes: &'a [u8], colour: Colour) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if jpeg::is_jpeg(bytes) {
            let jpeg = Jpeg::open(bytes)?;
            let (width, height) = jpeg.size();
            checked_size(width as u32, height as u32)?;
            // Pillow accepts a file without an end marker if the data suffices for all rows.
            if !has_usual_end(bytes) && !jpeg::is_whole(bytes) {
                return Err(ImageError::Truncated);
            }
            return Ok(Self::Jpeg(jpeg, colour));
        }
        let decoded = ImageError::catch(|| decode(bytes))?;
        Ok(Self::Picture(decoded.into_picture(colour)))
    }

    /// Returns (width, height) in pixels.
    pub(in crate::data) fn size(&self) -> (usize, usize) {
        match self {
            Self::Jpeg(jpeg, _) => jpeg.size(),
            Self::Picture(picture) => (picture.width, picture.height),
        }
    }

    /// Decodes the rectangle `crop`, possibly with pixels around it.
    ///
    /// Returns the decoded picture, and the position of `crop` in this picture.
    pub(in crate::data) fn around(self, crop: CropBox) -> Result<(Picture, CropBox), ImageError> {
        match self {
            Self::Jpeg(jpeg, colour) => Ok(from_jpeg(jpeg.region(crop)?, colour)),
            Self::Picture(picture) => Ok((picture, crop)),
        }
    }

    /// Decodes like [`Self::around`], but reduces JPEG files to 1/2, 1/4 or 1/8 of their width and height.
    ///
    /// Chooses the smallest picture in which `crop` has at least the width and height of `size`. Does not reduce the
    /// file if `crop` is too small.
    pub(in crate::data) fn fast_around(
        self,
        crop: CropBox,
        size: ImageSize,
    ) -> Result<(Picture, CropBox), ImageError> {
        let Self::Jpeg(jpeg, colour) = self else { return self.around(crop) };
        let fits = |shrink: &usize| {
            crop.width >= shrink * size.width && crop.height >= shrink * size.height
        };
        let decoded = match [8, 4, 2].into_iter().find(fits) {
            Some(shrink) => jpeg.small_region(crop, shrink),
            None => jpeg.region(crop),
        };
        Ok(from_jpeg(decoded?, colour))
    }

    pub(in crate::data) fn whole(self) -> Result<Picture, ImageError> {
        Ok(self.whole_and_warning()?.0)
    }

    /// Decodes the whole image. If the data is damaged, also returns the decoder's warning.
    pub(in crate::data) fn whole_and_warning(
        self,
    ) -> Result<(Picture, Option<String>), ImageError> {
        match self {
            Self::Jpeg(jpeg, colour) => {
                let (width, height) = jpeg.size();
                let all = CropBox { top: 0, left: 0, height, width };
                let mut decoded = jpeg.region(all)?;
                let warning = decoded.warning.take();
                Ok((from_jpeg(decoded, colour).0, warning))
            }
            Self::Picture(picture) => Ok((picture, None)),
        }
    }
}

fn from_jpeg(decoded: Decoded, colour: Colour) -> (Picture, CropBox) {
    let Decoded { width, height, pixels, crop, .. } = decoded;
    let (channels, levels) = match colour {
        Colour::Rgb => (3, pixels),
        Colour::Grey => (1, luma(&pixels)),
    };
    (Picture { width, height, channels, pixels: Pixels::U8(levels) }, crop)
}

/// Decodes an image file of any format except JPEG.
fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    match Format::of(bytes)? {
        Format::Avif => avif(bytes),
        Format::Bmp => bmp::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::Ico => ico::decode(bytes),
        Format::Jpeg2000 => jpeg2000(bytes),
        Format::Png => png_webp::png(bytes),
        Format::Pnm => pnm::decode(bytes),
        Format::Tga => tga::decode(bytes),
        Format::Tiff => tiff::decode(bytes),
        Format::Webp => png_webp::webp(bytes),
        Format::Jpeg => unreachable!("JPEG files have a separate decoder"),
    }
}

#[cfg(feature = "avif")]
use super::avif::decode as avif;

#[cfg(not(feature = "avif"))]
fn avif(_: &[u8]) -> Result<Bitmap, ImageError> {
    Err(ImageError::Unsupported(
        "this build of mae does not support AVIF files (Cargo feature `avif`)".to_owned(),
    ))
}

#[cfg(feature = "jpeg2000")]
use super::jpeg2000::decode as jpeg2000;

#[cfg(not(feature = "jpeg2000"))]
fn jpeg2000(_: &[u8]) -> Result<Bitmap, ImageError> {
    let problem = "this build of mae does not support JPEG 2000 files (Cargo feature `jpeg2000`)";
    Err(ImageError::Unsupported(problem.to_owned()))
}

/// Returns whether the markers of a JPEG file show that the file is complete.
///
/// libjpeg fills missing parts with grey and reports no error. So truncated downloads need this check. For unusual
/// markers, returns false even if the file is complete. The caller then checks the file with [`jpeg::is_whole`].
fn has_usual_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    // `has_scans` says whether the file may have several scans.
    let (mut colours, mut has_scans, mut in_scan) = (0, false, false);
    loop {
        // Skip to the next marker, between segments or inside a scan.
        let Some(at) = memchr::memchr(0xff, rest) else { return false };
        let Some(marker) = rest.get(at + 1).copied() else { return false };
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            0xd9 => return in_scan,
            // Fill bytes, a stuffed zero, or a restart marker.
            0xff | 0x00 | 0x01 | 0xd0..=0xd7 => {}
            0xd8 => return false,
            _ => {
                let is_frame =
                    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                let is_scan = marker == 0xda;
                if in_scan && (!has_scans || is_frame) {
                    return false;
                }
                let Some(length) = rest.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b)))
                else {
                    return false;
                };
                let Some(segment) = rest.get(..length) else { return false };
                if is_frame {
                    colours = segment.get(7).copied().unwrap_or_default();
                    has_scans = !matches!(marker, 0xc0 | 0xc1);
                } else if is_scan {
                    has_scans |= segment.get(2).is_some_and(|count| *count < colours);
                    in_scan = true;
                }
                rest = &rest[length..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_whole_once_its_own_end_marker_is_there() {
        let thumbnail = [0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0x00, 0x02, 0x12, 0xff, 0x00, 0xff, 0xd0, 0x34];
        let cut = [&[0xff, 0xd8][..], &thumbnail, &scan].concat();
        let with = |end: &[u8]| has_usual_end(&[&cut[..], end].concat());
        assert!(!with(&[]), "the end marker inside a thumbnail is not the end of the file");
        assert!(with(&[0xff, 0xd9]));
        assert!((2..cut.len()).all(|length| !has_usual_end(&cut[..length])));
        assert!(!with(&[0xff, 0xd8, 0xff, 0xd9]), "a second image follows");
        assert!(!with(&[&scan[..], &[0xff, 0xd9]].concat()), "a second scan of a baseline file");
    }
}
