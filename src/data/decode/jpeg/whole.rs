//! Checks whether a JPEG file with unusual markers has the data of all rows, as Pillow does.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use std::ffi::c_long;

use mozjpeg_sys::{
    boolean, jpeg_decompress_struct, jpeg_finish_decompress, jpeg_read_scanlines,
    jpeg_start_decompress,
};

use super::Jpeg;
use super::library::caught;

/// Returns whether libjpeg decodes all rows of a JPEG file without an error.
///
/// Slow, because libjpeg decodes the whole picture. Call this only for files with unusual markers.
pub(in crate::data::decode) fn is_whole(bytes: &[u8]) -> bool {
    let Ok(mut jpeg) = Jpeg::open(bytes) else { return false };
    let decompress = &mut jpeg.state.decompress;
    let read = caught(|| {
        // SAFETY: `Jpeg::open` has read the header and set the source. A row has `output_width` pixels of
        // `output_components` bytes.
        unsafe {
            let source = &mut *decompress.src;
            source.fill_input_buffer = Some(suspend);
            source.skip_input_data = Some(skip_or_suspend);
            if jpeg_start_decompress(decompress) == 0 {
                return false;
            }
            let row = decompress.output_width as usize * decompress.output_components as usize;
            let mut row = vec![0u8; row];
            let has_rows = (0..decompress.output_height).all(|_| {
                jpeg_read_scanlines(decompress, [row.as_mut_ptr().cast()].as_mut_ptr(), 1) == 1
            });
            if has_rows {
                // Reads to the end of the file. A missing end marker is allowed, but an invalid marker is an error.
                jpeg_finish_decompress(decompress);
            }
            has_rows
        }
    });
    read.unwrap_or(false)
}

/// Tells libjpeg that the file has no more data, so that libjpeg stops.
extern "C-unwind" fn suspend(_: &mut jpeg_decompress_struct) -> boolean {
    0
}

/// Skips `count` bytes. Near the end of the file, skips fewer bytes.
extern "C-unwind" fn skip_or_suspend(decompress: &mut jpeg_decompress_struct, count: c_long) {
    // SAFETY: libjpeg's source is set, and has `bytes_in_buffer` bytes left.
    unsafe {
        let source = &mut *decompress.src;
        let count = usize::try_from(count).unwrap_or(0).min(source.bytes_in_buffer);
        source.next_input_byte = source.next_input_byte.add(count);
        source.bytes_in_buffer -= count;
    }
}
