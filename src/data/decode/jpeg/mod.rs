//! Decodes JPEG files. The pixels are bitwise equal to those of Pillow and torchvision.
//!
//! A rectangle can be decoded without the rest of the picture. The decoder reads the blocks above and beside the
//! rectangle, but does not compute their pixels. It does not read the blocks below the rectangle. The pixels are
//! bitwise equal to those of the whole picture.
//!
//! Most photographs are baseline files in `YCbCr` or grey. `plain.rs` decodes these files, because it is faster than
//! libjpeg-turbo. libjpeg-turbo reads the header of every file. It also decodes all other files, and damaged baseline
//! files, and reports their errors. It is built without its assembly, so `library_dct.rs` replaces the only part of its C
//! code that decodes damaged files differently: the inverse DCT.

#![expect(
    unsafe_code,
    reason = "libjpeg is a C library, and its safe wrapper decodes only whole pictures"
)]

mod block;
mod colour;
pub(super) mod components;
mod headers;
mod huffman;
mod idct;
mod library;
mod library_dct;
mod one_dimension;
mod plain;
#[cfg(test)]
mod random_files;
mod scan;
mod whole;

use std::ffi::c_ulong;
use std::mem;

use mozjpeg_sys::{
    J_COLOR_SPACE, jpeg_create_decompress, jpeg_crop_scanline, jpeg_decompress_struct,
    jpeg_destroy_decompress, jpeg_mem_src, jpeg_read_header, jpeg_read_scanlines,
    jpeg_skip_scanlines, jpeg_start_decompress, jpeg_std_error,
};

use super::bitmap::cmyk_to_rgb;
use super::error::ImageError;
use super::picture::CropBox;
use library::{DecoderState, caught, give_up, note_warning};
use scan::Scan;
pub(super) use whole::is_whole;

/// Returns whether a file starts like a JPEG file.
pub(in crate::data) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

pub(in crate::data) struct Jpeg<'a> {
    /// The state of libjpeg. The box keeps the address constant, which libjpeg requires.
    state: Box<DecoderState>,
    bytes: &'a [u8],
}

/// The decoded pixels of a rectangle, possibly with margins on the left and right.
pub(in crate::data) struct Decoded {
    pub(in crate::data) width: usize,
    pub(in crate::data) height: usize,
    /// Pixels of the rectangle and the margins, `[H, W, 3]`.
    pub(in crate::data) pixels: Vec<u8>,
    /// Position of the rectangle in `pixels`.
    pub(in crate::data) crop: CropBox,
    /// First warning of libjpeg about damaged data; `None` without damage.
    pub(in crate::data) warning: Option<String>,
}

impl<'a> Jpeg<'a> {
    pub(in crate::data) fn open(bytes: &'a [u8]) -> Result<Self, ImageError> {
        // SAFETY: zero is a valid value of every field of libjpeg's structures.
        let state = unsafe {
            DecoderState { errors: mem::zeroed(), decompress: mem::zeroed(), warning: None }
        };
        let mut jpeg = Self { state: Box::new(state), bytes };
        let state = &mut *jpeg.state;
        let too_long = |_| ImageError::Undecodable("the JPEG file is too large".to_owned());
        let length = c_ulong::try_from(bytes.len()).map_err(too_long)?;
        // SAFETY: the box lives as long as libjpeg uses its content, and `bytes` lives longer.
        caught(|| unsafe {
            jpeg_std_error(&mut state.errors);
            state.errors.error_exit = Some(give_up);
            state.errors.emit_message = Some(note_warning);
            state.decompress.common.err = &raw mut state.errors;
            jpeg_create_decompress(&raw mut state.decompress);
            library_dct::replace(&mut state.decompress);
            jpeg_mem_src(&mut state.decompress, bytes.as_ptr(), length);
            jpeg_read_header(&mut state.decompress, 1);
        })
        .map_err(ImageError::Undecodable)?;
        Ok(jpeg)
    }

    /// Returns (width, height) in pixels.
    pub(in crate::data) fn size(&self) -> (usize, usize) {
        let header = &self.state.decompress;
        (header.image_width as usize, header.image_height as usize)
    }

    pub(in crate::data) fn region(self, crop: CropBox) -> Result<Decoded, ImageError> {
        self.shrunk_region(crop, 1)
    }

    /// Decodes the rectangle `crop`, scaled to 1/`shrink` of its width and height.
    ///
    /// `shrink` is 2, 4 or 8. `crop` is in pixels of the full-size picture.
    pub(in crate::data) fn small_region(
        self,
        crop: CropBox,
        shrink: usize,
    ) -> Result<Decoded, ImageError> {
        let (top, left) = (crop.top / shrink, crop.left / shrink);
        let height = (crop.top + crop.height).div_ceil(shrink) - top;
        let width = (crop.left + crop.width).div_ceil(shrink) - left;
        self.shrunk_region(CropBox { top, left, height, width }, shrink)
    }

    /// Scales the picture by 1/`shrink`, and decodes the rectangle `crop` of the scaled picture.
    fn shrunk_region(mut self, crop: CropBox, shrink: usize) -> Result<Decoded, ImageError> {
        let Some(pixels) = self.plain_scan().and_then(|scan| plain::decode(scan, crop, shrink))
        else {
            return self.by_library(crop, shrink);
        };
        let CropBox { width, height, .. } = crop;
        let crop = CropBox { top: 0, left: 0, height, width };
        Ok(Decoded { width, height, pixels, crop, warning: self.state.warning.take() })
    }

    /// Finds the coded data for `plain.rs`. Returns `None` if only libjpeg can decode the file.
    fn plain_scan(&self) -> Option<Scan> {
        let colours = self.state.decompress.jpeg_color_space;
        let known = matches!(colours, J_COLOR_SPACE::JCS_YCbCr | J_COLOR_SPACE::JCS_GRAYSCALE);
        if known { Scan::of(self.bytes) } else { None }
    }

    fn by_library(mut self, crop: CropBox, shrink: usize) -> Result<Decoded, ImageError> {
        let state = &mut *self.state;
        state.decompress.scale_num = 1;
        state.decompress.scale_denom = shrink as u32;
        let (pixels, width, left) =
            caught(|| read(&mut state.decompress, crop)).map_err(ImageError::Undecodable)?;
        let CropBox { height, .. } = crop;
        let crop = CropBox { top: 0, left, ..crop };
        Ok(Decoded { width, height, pixels, crop, warning: self.state.warning.take() })
    }
}

impl Drop for Jpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: the state is zeroed or created, and libjpeg can destroy both.
        unsafe { jpeg_destroy_decompress(&mut self.state.decompress) }
    }
}

/// Decodes the rectangle `crop` with libjpeg, possibly with a margin on the left and right.
///
/// Returns the pixels, the width of the decoded part, and the column of the decoded part where `crop` starts.
fn read(decompress: &mut jpeg_decompress_struct, crop: CropBox) -> (Vec<u8>, usize, usize) {
    let inks =
        matches!(decompress.jpeg_color_space, J_COLOR_SPACE::JCS_CMYK | J_COLOR_SPACE::JCS_YCCK);
    decompress.out_color_space =
        if inks { J_COLOR_SPACE::JCS_CMYK } else { J_COLOR_SPACE::JCS_RGB };
    let channels = if inks { 4 } else { 3 };
    // SAFETY: the header is read, a row has `output_width` pixels of `channels` bytes, and the crop is inside the
    // output. All rows of `pixels` are written before its length is set.
    unsafe {
        jpeg_start_decompress(decompress);
        let all = decompress.output_width as usize;
        let margin = 16 * decompress.max_h_samp_factor.max(1) as usize;
        let (mut first, end) = (crop.left.saturating_sub(margin) as u32, crop.left + crop.width);
        let mut width = (end + margin).min(all) as u32 - first;
        jpeg_crop_scanline(decompress, &mut first, &mut width);
        let width = decompress.output_width as usize;
        if crop.top > 0 {
            jpeg_skip_scanlines(decompress, crop.top as u32);
        }
        let row = width * channels;
        let mut pixels: Vec<u8> = Vec::with_capacity(crop.height * row);
        for place in pixels.spare_capacity_mut()[..crop.height * row].chunks_exact_mut(row) {
            let lines =
                jpeg_read_scanlines(decompress, [place.as_mut_ptr().cast()].as_mut_ptr(), 1);
            assert!(lines == 1, "the whole file is in memory");
        }
        pixels.set_len(crop.height * row);
        if inks {
            // The inks are inverted.
            let rgb = |inks: &[u8; 4]| cmyk_to_rgb(inks.map(|ink| 255 - ink));
            pixels = pixels.as_chunks().0.iter().flat_map(rgb).collect();
        }
        (pixels, width, crop.left - first as usize)
    }
}

/// Encodes RGB pixels, `[H, W, 3]`, as a JPEG file. `quality` is 1 to 100.
pub(in crate::data) fn encode(
    levels: &[u8],
    width: usize,
    height: usize,
    quality: u8,
) -> Result<Vec<u8>, ImageError> {
    caught(|| -> std::io::Result<Vec<u8>> {
        let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
        jpeg.set_fastest_defaults();
        jpeg.set_quality(f32::from(quality));
        jpeg.set_size(width, height);
        let mut jpeg = jpeg.start_compress(Vec::new())?;
        jpeg.write_scanlines(levels)?;
        jpeg.finish()
    })
    .and_then(|encoded| encoded.map_err(|error| error.to_string()))
    .map_err(ImageError::Unencodable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::random_files::{by_c_code, pixels, rectangle};
    use super::*;

    #[derive(Debug, Clone, Copy)]
    struct CodingKind {
        grey: bool,
        sampling: (u8, u8),
        progressive: bool,
        optimized: bool,
        quality: u8,
    }

    const USUAL: CodingKind = CodingKind {
        grey: false,
        sampling: (2, 2),
        progressive: false,
        optimized: false,
        quality: 75,
    };

    prop_compose! {
        fn kinds()(
            grey in prop::bool::weighted(0.2),
            sampling in prop::sample::select(vec![(1, 1), (2, 1), (1, 2), (2, 2)]),
            progressive in prop::bool::weighted(0.2),
            optimized in any::<bool>(),
            quality in 1u8..=100,
        ) -> CodingKind {
            CodingKind { grey, sampling, progressive, optimized, quality }
        }
    }

    fn encoded(width: usize, height: usize, kind: CodingKind) -> Vec<u8> {
        let (space, channels) = if kind.grey {
            (mozjpeg::ColorSpace::JCS_GRAYSCALE, 1)
        } else {
            (mozjpeg::ColorSpace::JCS_RGB, 3)
        };
        let mut jpeg = mozjpeg::Compress::new(space);
        jpeg.set_fastest_defaults();
        jpeg.set_size(width, height);
        jpeg.set_color_space(if kind.grey { space } else { mozjpeg::ColorSpace::JCS_YCbCr });
        jpeg.set_quality(f32::from(kind.quality));
        if !kind.grey {
            jpeg.set_chroma_sampling_pixel_sizes(kind.sampling, kind.sampling);
        }
        jpeg.set_optimize_coding(kind.optimized);
        if kind.progressive {
            jpeg.set_progressive_mode();
        }
        let mut jpeg = jpeg.start_compress(Vec::new()).unwrap();
        let level = |i: usize| ((i * i) % 251 + (i * 7) % 5) as u8;
        let pixels: Vec<u8> = (0..width * height * channels).map(level).collect();
        jpeg.write_scanlines(&pixels).unwrap();
        let mut bytes = jpeg.finish().unwrap();
        if kind.grey {
            // With one colour, the sampling factors have no effect, but files with unusual factors exist.
            let header = bytes.windows(2).position(|at| matches!(at, [0xff, 0xc0..=0xc2]));
            bytes[header.unwrap() + 11] = kind.sampling.0 << 4 | kind.sampling.1;
        }
        bytes
    }

    /// Generates random JPEG files of less than `side` x `side` pixels.
    fn files(side: usize) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            1 => Just(include_bytes!("../../../../tests/golden/restarts.jpg").to_vec()),
            4 => (1..side, 1..side, kinds()).prop_map(|(width, height, kind)| encoded(width, height, kind)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn a_rectangle_has_the_pixels_of_the_whole_picture(
            bytes in files(150),
            shares in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0),
        ) {
            let (width, height) = Jpeg::open(&bytes).unwrap().size();
            let crop = rectangle((width, height), shares);
            let all = CropBox { top: 0, left: 0, height, width };
            let whole = by_c_code(&bytes, all, 1).unwrap();
            let expected = pixels(&Decoded { crop, ..whole });
            let found = Jpeg::open(&bytes).unwrap().region(crop).unwrap();
            prop_assert!(pixels(&found) == expected, "{crop:?}");
            let progressive = bytes.windows(2).any(|at| at == [0xff, 0xc2]);
            prop_assert_eq!(Jpeg::open(&bytes).unwrap().plain_scan().is_some(), !progressive);
            for shrink in [2, 4, 8] {
                let small = Jpeg::open(&bytes).unwrap().small_region(crop, shrink).unwrap();
                let rectangle = CropBox { top: crop.top / shrink, left: crop.left / shrink, ..small.crop };
                let library = by_c_code(&bytes, rectangle, shrink);
                prop_assert!(pixels(&small) == pixels(&library.unwrap()), "{crop:?} / {shrink}");
                prop_assert!(small.crop.width >= crop.width / shrink);
                prop_assert!(small.crop.width <= crop.width / shrink + 2);
            }
        }

        #[test]
        fn a_damaged_file_is_decoded_like_by_libjpeg_alone(
            mut bytes in files(100),
            changes in prop::collection::vec((0.0..1.0, any::<u8>(), 0..4), 1..6),
        ) {
            for (place, byte, change) in changes {
                let place = (bytes.len() as f64 * place) as usize;
                match change {
                    0 => bytes[place] = byte,
                    1 => bytes[place] ^= 1 << (byte % 8),
                    2 => bytes.insert(place, byte),
                    _ => bytes.truncate(place.max(1)),
                }
            }
            let decoded = |by_library: bool| {
                let jpeg = Jpeg::open(&bytes)?;
                let (width, height) = jpeg.size();
                if width * height > 1 << 20 {
                    return Err(ImageError::Undecodable("too large".to_owned()));
                }
                let all = CropBox { top: 0, left: 0, width, height };
                let decoded = if by_library { jpeg.by_library(all, 1) } else { jpeg.region(all) }?;
                Ok((decoded.pixels, decoded.warning))
            };
            prop_assert!(decoded(false) == decoded(true));
        }
    }

    #[test]
    fn errors_and_warnings_are_those_of_libjpeg() {
        let bytes = encoded(64, 64, USUAL);
        let error = Jpeg::open(&bytes[..20]).err().unwrap();
        assert!(matches!(error, ImageError::Undecodable(text) if !text.is_empty()));
        let all = CropBox { top: 0, left: 0, height: 64, width: 64 };
        assert_eq!(Jpeg::open(&bytes).unwrap().region(all).unwrap().warning, None);
        let cut = Jpeg::open(&bytes[..bytes.len() / 2]).unwrap().region(all).unwrap();
        assert!(cut.warning.unwrap().contains("Premature end"));
    }
}
