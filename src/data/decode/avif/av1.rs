//! Decodes AV1 pictures with rav1d, the Rust port of dav1d.

#![expect(unsafe_code, reason = "rav1d has the C interface of dav1d")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use rav1d::Dav1dResult;
use rav1d::include::dav1d::data::Dav1dData;
use rav1d::include::dav1d::dav1d::{Dav1dContext, Dav1dLogger, Dav1dSettings};
use rav1d::include::dav1d::headers::{
    DAV1D_PIXEL_LAYOUT_I400, DAV1D_PIXEL_LAYOUT_I420, DAV1D_PIXEL_LAYOUT_I422,
};
use rav1d::include::dav1d::picture::Dav1dPicture;
use rav1d::src::lib::{
    dav1d_close, dav1d_data_create, dav1d_data_unref, dav1d_default_settings, dav1d_get_picture,
    dav1d_open, dav1d_picture_unref, dav1d_send_data,
};

use super::container::Colours;
use crate::data::decode::bitmap::{MAX_BYTES, checked_size};
use crate::data::decode::error::ImageError;
use crate::data::panics;

/// A decoded AV1 picture, as luma (Y) and chroma (U, V).
pub(super) struct Yuv {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bits per sample: 8, 10 or 12.
    pub(super) bits: u32,
    /// Whether chroma has half the resolution of luma, as `[horizontally, vertically]`.
    pub(super) halved: [bool; 2],
    /// Samples of Y, U and V, row by row. The planes U and V are empty for a grey picture.
    pub(super) planes: [Vec<u16>; 3],
    pub(super) colours: Colours,
}

/// Holds rav1d's open decoder and buffers. Dropping the `Decoder` frees both.
struct Decoder {
    context: Option<Dav1dContext>,
    data: Dav1dData,
    picture: Option<Dav1dPicture>,
}

/// Number of threads that rav1d may use.
const WORKERS: i32 = 2;

/// Converts rav1d's return code to true (success) or false ("try again").
///
/// Returns `None` if the AV1 data is invalid.
fn sent_or_taken(result: Dav1dResult) -> Option<bool> {
    match result.0 {
        0 => Some(true),
        code => (io::Error::from_raw_os_error(-code).kind() == io::ErrorKind::WouldBlock)
            .then_some(false),
    }
}

/// Returns the number of samples for `pixels` pixels. If `halved` is true, two pixels share one sample.
pub(super) fn samples(pixels: usize, halved: bool) -> usize {
    if halved { pixels.div_ceil(2) } else { pixels }
}

/// Decodes AV1 data, and returns the last picture.
///
/// Runs on a separate thread, because a panic in rav1d's C interface would abort the process.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Yuv, ImageError> {
    let invalid = || ImageError::damaged("the AV1 data is invalid");
    if bytes.is_empty() {
        return Err(invalid());
    }
    let decoded = panics::on_own_thread(move || {
        let mut decoder = Decoder::new().ok_or_else(invalid)?;
        decoder.run(&bytes).ok_or_else(invalid)?;
        decoder.yuv()
    });
    decoded.ok_or_else(invalid)?
}

impl Decoder {
    fn new() -> Option<Self> {
        let mut settings = MaybeUninit::<Dav1dSettings>::uninit();
        let mut context = None;
        // SAFETY: `dav1d_default_settings` fills in all settings. Without a callback, nothing is logged.
        unsafe {
            dav1d_default_settings(NonNull::from(&mut settings).cast());
            let settings = settings.assume_init_mut();
            // With one thread, rav1d 1.1 cleans up twice after invalid data, and panics.
            settings.n_threads = WORKERS;
            settings.max_frame_delay = WORKERS;
            settings.frame_size_limit = (MAX_BYTES / 3) as u32;
            settings.logger = Dav1dLogger::new(None, None);
            let opened =
                dav1d_open(Some(NonNull::from(&mut context)), Some(NonNull::from(settings)));
            (opened.0 == 0).then_some(())?;
        }
        Some(Self { context, data: Dav1dData::default(), picture: None })
    }

    /// Decodes all AV1 data, and keeps only the last picture. Returns `None` if the data is invalid.
    fn run(&mut self, bytes: &[u8]) -> Option<()> {
        // SAFETY: the context is open, and the buffer of `dav1d_data_create` has the length of `bytes`.
        unsafe {
            let buffer = dav1d_data_create(Some(NonNull::from(&mut self.data)), bytes.len());
            let buffer = NonNull::new(buffer)?;
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.as_ptr(), bytes.len());
            while self.data.sz > 0 {
                let sent = dav1d_send_data(self.context, Some(NonNull::from(&mut self.data)));
                let sent = sent_or_taken(sent)?;
                // The decoder takes no more data before its picture is taken.
                if !self.take_picture()? && !sent {
                    return None;
                }
            }
        }
        // The first call without a picture only says that no more data comes. The second waits for both workers.
        for _ in 0..2 {
            while self.take_picture()? {}
        }
        self.picture.as_ref().map(|_| ())
    }

    /// Takes the next decoded picture from rav1d, and stores it in `self`.
    ///
    /// Returns false if no picture is ready, and `None` if the data is invalid.
    fn take_picture(&mut self) -> Option<bool> {
        let mut picture = Dav1dPicture::default();
        // SAFETY: the context is open.
        let taken = unsafe { dav1d_get_picture(self.context, Some(NonNull::from(&mut picture))) };
        let taken = sent_or_taken(taken)?;
        if taken {
            self.drop_picture();
            self.picture = Some(picture);
        }
        Some(taken)
    }

    fn drop_picture(&mut self) {
        if let Some(mut picture) = self.picture.take() {
            // SAFETY: the picture comes from `dav1d_get_picture`.
            unsafe { dav1d_picture_unref(Some(NonNull::from(&mut picture))) };
        }
    }

    /// Copies the samples of the stored picture.
    fn yuv(&self) -> Result<Yuv, ImageError> {
        let missing = || ImageError::damaged("the AV1 data contains no pixels");
        let picture = self.picture.as_ref().ok_or_else(missing)?;
        let (width, height) = checked_size(picture.p.w as u32, picture.p.h as u32)?;
        let halved = match picture.p.layout {
            DAV1D_PIXEL_LAYOUT_I420 => [true, true],
            DAV1D_PIXEL_LAYOUT_I422 => [true, false],
            _ => [false, false],
        };
        let is_grey = picture.p.layout == DAV1D_PIXEL_LAYOUT_I400;
        let mut planes = [const { Vec::new() }; 3];
        for (i, plane) in planes.iter_mut().enumerate().take(if is_grey { 1 } else { 3 }) {
            let (wide, high) =
                (samples(width, i > 0 && halved[0]), samples(height, i > 0 && halved[1]));
            let start = picture.data[i].ok_or_else(missing)?.as_ptr().cast::<u8>();
            let stride = picture.stride[usize::from(i > 0)];
            plane.reserve(wide * high);
            for y in 0..high {
                // SAFETY: a plane has `high` rows of at least `wide` samples, `stride` bytes apart.
                unsafe {
                    let row = start.offset(stride * y as isize);
                    if picture.p.bpc == 8 {
                        let row = std::slice::from_raw_parts(row, wide);
                        plane.extend(row.iter().map(|sample| u16::from(*sample)));
                    } else {
                        plane.extend_from_slice(std::slice::from_raw_parts(row.cast(), wide));
                    }
                }
            }
        }
        // SAFETY: the header lives as long as the picture.
        let header = unsafe { picture.seq_hdr.ok_or_else(missing)?.as_ref() };
        let colours = Colours {
            primaries: header.pri as u16,
            matrix: header.mtrx as u16,
            is_full_range: header.color_range == 1,
        };
        Ok(Yuv { width, height, bits: picture.p.bpc as u32, halved, planes, colours })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.drop_picture();
        // SAFETY: the data and the context come from rav1d.
        unsafe {
            dav1d_data_unref(Some(NonNull::from(&mut self.data)));
            dav1d_close(Some(NonNull::from(&mut self.context)));
        }
    }
}
