//! The state of libjpeg, and its error handling.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use std::ffi::c_int;
use std::mem;
use std::panic::resume_unwind;

use crate::data::panics;
use mozjpeg_sys::{jpeg_common_struct, jpeg_decompress_struct, jpeg_error_mgr};

#[repr(C)]
pub(super) struct DecoderState {
    /// libjpeg's error handler.
    ///
    /// Must be the first field, because a pointer to this field is cast to a pointer to the whole struct.
    pub(super) errors: jpeg_error_mgr,
    pub(super) decompress: jpeg_decompress_struct,
    pub(super) warning: Option<String>,
}

/// Runs `work`, which calls libjpeg. Returns libjpeg's error message on failure.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panics::catch(work).map_err(|panic| {
        let text = panic.downcast::<String>().map(|text| *text);
        text.unwrap_or_else(|_| "the decoder panicked".to_owned())
    })
}

/// Handles an error of libjpeg by unwinding to [`caught`].
pub(super) extern "C-unwind" fn give_up(common: &mut jpeg_common_struct) {
    resume_unwind(Box::new(message(common)));
}

/// Stores libjpeg's first warning. Warnings have a negative `level`.
pub(super) extern "C-unwind" fn note_warning(common: &mut jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    let text = message(common);
    // SAFETY: `err` points to the first field of a `DecoderState`, and nothing else uses `warning` meanwhile.
    let warning = unsafe { &mut (*common.err.cast::<DecoderState>()).warning };
    warning.get_or_insert(text);
}

fn message(common: &mut jpeg_common_struct) -> String {
    let mut text = [0u8; 80];
    // SAFETY: libjpeg writes a string of at most 80 bytes, including its end. The buffer is mutable, although the binding
    // declares it as read-only.
    unsafe {
        type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]);
        type Writing = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &mut [u8; 80]);
        if let Some(format) = (*common.err).format_message {
            mem::transmute::<Format, Writing>(format)(common, &mut text);
        }
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}
