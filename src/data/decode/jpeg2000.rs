//! Decodes JPEG 2000 files with `OpenJPEG`, as Pillow does.

#![expect(unsafe_code, reason = "OpenJPEG is a C library, and its safe wrapper logs every error")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use openjpeg_sys::{
    CODEC_FORMAT, COLOR_SPACE, opj_codec_t, opj_create_decompress, opj_decode, opj_destroy_codec,
    opj_dparameters_t, opj_end_decompress, opj_image_destroy, opj_image_t, opj_read_header,
    opj_set_default_decoder_parameters, opj_set_error_handler, opj_setup_decoder,
    opj_stream_create, opj_stream_destroy, opj_stream_set_read_function,
    opj_stream_set_seek_function, opj_stream_set_skip_function, opj_stream_set_user_data,
    opj_stream_set_user_data_length, opj_stream_t,
};

use super::bitmap::{Bitmap, Levels, checked_size, cmyk_to_rgb, ycc_to_rgb};
use super::byte_reader::ByteReader;
use super::error::ImageError;

/// The first two markers of a JPEG 2000 codestream: start of codestream, and image size.
const CODESTREAM: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
/// Size of `OpenJPEG`'s read buffer in bytes.
const BUFFER: usize = 1 << 16;

/// A file in memory, with a read position.
struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Holds `OpenJPEG`'s open decoder and buffers. Dropping the `Decoder` frees both.
struct Decoder {
    codec: *mut opj_codec_t,
    stream: *mut opj_stream_t,
    image: *mut opj_image_t,
}

/// The samples of one colour component.
struct Component<'a> {
    data: &'a [i32],
    width: usize,
    /// Subsampling of the component, as `[horizontal, vertical]`.
    step: [usize; 2],
    bits: u32,
    is_signed: bool,
}

/// Decodes a JPEG 2000 file: a JP2 file or a bare codestream.
pub(super) fn decode(bytes: &[u8]) -> Result<Bitmap, ImageError> {
    let start = memchr::memmem::find(bytes, &CODESTREAM).ok_or(ImageError::Truncated)?;
    // After the marker: the length of the header, capabilities, then the far corner and the near corner.
    let mut header = ByteReader::at(bytes, start + 8);
    let (right, bottom) = (header.u32_be()?, header.u32_be()?);
    let (left, top) = (header.u32_be()?, header.u32_be()?);
    let (width, height) = checked_size(right.saturating_sub(left), bottom.saturating_sub(top))?;
    let mut source = Source { bytes, at: 0 };
    let mut message = String::new();
    let decoder = Decoder::run(&mut source, start == 0, &mut message).ok_or_else(|| {
        let text = message.trim();
        ImageError::damaged(if text.is_empty() { "the JPEG 2000 data is invalid" } else { text })
    })?;
    Ok(Bitmap { width, height, levels: decoder.levels(width, height)? })
}

impl Decoder {
    /// Decodes the whole image. On failure, returns `None` and writes the error to `message`.
    ///
    /// `is_bare` is true for a codestream without the JP2 container.
    fn run(source: &mut Source<'_>, is_bare: bool, message: &mut String) -> Option<Self> {
        let format =
            if is_bare { CODEC_FORMAT::OPJ_CODEC_J2K } else { CODEC_FORMAT::OPJ_CODEC_JP2 };
        // SAFETY: `OpenJPEG`'s objects are created here, and `Drop` destroys them. `source` and `message` live longer than
        // the calls that use them, and nothing else uses them meanwhile.
        unsafe {
            let mut decoder = Self {
                codec: opj_create_decompress(format),
                stream: opj_stream_create(BUFFER, 1),
                image: ptr::null_mut(),
            };
            let Self { codec, stream, .. } = decoder;
            if codec.is_null() || stream.is_null() {
                return None;
            }
            opj_stream_set_user_data_length(stream, source.bytes.len() as u64);
            opj_stream_set_user_data(stream, ptr::from_mut(source).cast(), None);
            opj_stream_set_read_function(stream, Some(read));
            opj_stream_set_skip_function(stream, Some(skip));
            opj_stream_set_seek_function(stream, Some(seek));
            opj_set_error_handler(codec, Some(note_error), ptr::from_mut(message).cast());
            let mut parameters: opj_dparameters_t = std::mem::zeroed();
            opj_set_default_decoder_parameters(&raw mut parameters);
            let done = opj_setup_decoder(codec, &raw mut parameters) == 1
                && opj_read_header(stream, codec, &raw mut decoder.image) == 1
                && matches!((*decoder.image).numcomps, 1..=4)
                && opj_decode(codec, stream, decoder.image) == 1
                && opj_end_decompress(codec, stream) == 1;
            done.then_some(decoder)
        }
    }

    /// Returns the decoded colour components.
    fn components(&self) -> Result<Vec<Component<'_>>, ImageError> {
        // SAFETY: `run` has decoded the image, so each component has `w * h` samples or none.
        unsafe {
            let image = &*self.image;
            let components = std::slice::from_raw_parts(image.comps, image.numcomps as usize);
            let of = |component: &openjpeg_sys::opj_image_comp_t| {
                let (width, height) = (component.w as usize, component.h as usize);
                if component.data.is_null() || component.dx == 0 || component.dy == 0 {
                    return Err(ImageError::damaged(
                        "a colour component of the JPEG 2000 image is missing",
                    ));
                }
                Ok(Component {
                    data: std::slice::from_raw_parts(component.data, width * height),
                    width,
                    step: [component.dx as usize, component.dy as usize],
                    bits: component.prec,
                    is_signed: component.sgnd == 1,
                })
            };
            components.iter().map(of).collect()
        }
    }

    fn levels(&self, width: usize, height: usize) -> Result<Levels, ImageError> {
        let components = self.components()?;
        // SAFETY: `run` has decoded the image.
        let space = unsafe { (*self.image).color_space };
        let subsampled = components.iter().position(|component| component.step != [1, 1]);
        if let [grey, ..] = &components[..]
            && components.len() <= 2
        {
            let most = width * height;
            if grey.data.len() < most || grey.width != width {
                return Err(ImageError::Unsupported(
                    "mae does not support JPEG 2000 images with subsampled grey".to_owned(),
                ));
            }
            // Pillow scales grey of more than 8 bits to 16 bits, and clamps to 255 in the conversion to RGB.
            return Ok(if components.len() == 1 && grey.bits > 8 {
                Levels::of_numbers(grey.data.iter().map(|v| i64::from(grey.scaled(*v, 16) as u16)))
            } else {
                Levels::Grey(grey.data.iter().map(|v| grey.scaled(*v, 8) as u8).collect())
            });
        }
        let is_ycc = match space {
            COLOR_SPACE::OPJ_CLRSPC_SYCC => true,
            COLOR_SPACE::OPJ_CLRSPC_UNKNOWN | COLOR_SPACE::OPJ_CLRSPC_UNSPECIFIED => {
                matches!(subsampled, Some(1 | 2))
            }
            _ => false,
        };
        let is_cmyk = space == COLOR_SPACE::OPJ_CLRSPC_CMYK && components.len() == 4;
        let mut levels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let level = |i: usize| components[i].level(x, y);
                let colour = [level(0), level(1), level(2)];
                levels.extend(match (is_ycc, is_cmyk) {
                    (true, _) => ycc_to_rgb(colour),
                    (_, true) => cmyk_to_rgb([colour[0], colour[1], colour[2], level(3)]),
                    _ => colour,
                });
            }
        }
        Ok(Levels::Rgb(levels))
    }
}

impl Component<'_> {
    /// Scales a sample to `bits` bits with rounding. Overflow wraps around, as in Pillow.
    fn scaled(&self, value: i32, bits: u32) -> u32 {
        let offset = if self.is_signed { 1 << (self.bits - 1) } else { 0 };
        let sum = (value as u32).wrapping_add(offset);
        match self.bits.checked_sub(bits) {
            None => sum << (bits - self.bits),
            Some(0) => sum,
            Some(extra) => sum.wrapping_add(1 << (extra - 1)) >> extra,
        }
    }

    /// Returns the 8-bit level of the component at pixel `(x, y)`; 0 if the sample is missing.
    fn level(&self, x: usize, y: usize) -> u8 {
        let place = y / self.step[1] * self.width + x / self.step[0];
        self.data.get(place).map_or(0, |value| self.scaled(*value, 8) as u8)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the pointers are null or come from `OpenJPEG`, which accepts null.
        unsafe {
            opj_destroy_codec(self.codec);
            opj_stream_destroy(self.stream);
            opj_image_destroy(self.image);
        }
    }
}

/// Copies the next bytes of the file to `buffer`. `data` points to the [`Source`].
///
/// Returns the number of copied bytes, or `usize::MAX` at the end of the file.
unsafe extern "C" fn read(buffer: *mut c_void, count: usize, data: *mut c_void) -> usize {
    // SAFETY: `data` is the source of `run`, and `OpenJPEG`'s buffer has `count` bytes.
    unsafe {
        let source = &mut *data.cast::<Source<'_>>();
        let rest = source.bytes.get(source.at..).unwrap_or_default();
        let count = count.min(rest.len());
        if count == 0 {
            return usize::MAX;
        }
        ptr::copy_nonoverlapping(rest.as_ptr(), buffer.cast(), count);
        source.at += count;
        count
    }
}

/// Skips `count` bytes of the [`Source`] in `data`. Returns `count`, or -1 if the file has fewer bytes.
unsafe extern "C" fn skip(count: i64, data: *mut c_void) -> i64 {
    // SAFETY: `data` is the source of `run`.
    let source = unsafe { &mut *data.cast::<Source<'_>>() };
    let end = usize::try_from(count).ok().and_then(|count| source.at.checked_add(count));
    match end.filter(|end| *end <= source.bytes.len()) {
        Some(end) => {
            source.at = end;
            count
        }
        None => -1,
    }
}

/// Moves the read position of the [`Source`] in `data`. Returns 1, or 0 if `position` is after the end of the file.
unsafe extern "C" fn seek(position: i64, data: *mut c_void) -> i32 {
    // SAFETY: `data` is the source of `run`.
    let source = unsafe { &mut *data.cast::<Source<'_>>() };
    let position = usize::try_from(position).ok().filter(|at| *at <= source.bytes.len());
    source.at = position.unwrap_or(source.at);
    i32::from(position.is_some())
}

/// Stores the error message `text` in the string that `data` points to.
unsafe extern "C" fn note_error(text: *const c_char, data: *mut c_void) {
    // SAFETY: `data` is the message of `run`, and `OpenJPEG`'s text ends with a zero.
    unsafe {
        *data.cast::<String>() = CStr::from_ptr(text).to_string_lossy().into_owned();
    }
}
