//! Replaces libjpeg's entropy decoder, so that libjpeg uses the coefficients that [`Scan`] reads.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use mozjpeg_sys::{boolean, jpeg_decompress_struct};

use super::scan::Scan;

/// The first fields of libjpeg's entropy decoder, which the Rust binding declares only as an opaque type.
#[repr(C)]
struct EntropyDecoder {
    start_pass: Option<unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct)>,
    decode_unit: unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct, *mut Block) -> boolean,
}

/// A pointer to the 64 coefficients of a block.
type Block = *mut [i16; 64];

/// Makes libjpeg take the DCT coefficients from `scan`, instead of decoding them itself.
///
/// # Safety
///
/// libjpeg must be ready to read the first row, and `scan` must live until libjpeg has read the last row.
pub(super) unsafe fn take_coefficients_from(
    decompress: &mut jpeg_decompress_struct,
    scan: &mut Scan,
) {
    decompress.common.client_data = (&raw mut *scan).cast();
    let end = (&raw mut *decompress).wrapping_add(1).cast::<*mut EntropyDecoder>();
    // SAFETY: the structure ends with pointers to libjpeg's parts. The fifth pointer from the end is the entropy decoder.
    unsafe { (**end.sub(5)).decode_unit = decode_unit };
}

/// Reads the coefficients of one minimum coded unit. libjpeg calls this function.
///
/// `blocks` is null if libjpeg skips the unit.
unsafe extern "C-unwind" fn decode_unit(
    decompress: *mut jpeg_decompress_struct,
    blocks: *mut Block,
) -> boolean {
    // SAFETY: `client_data` points to the `scan` of `take_coefficients_from`. `blocks` has as many separate blocks as the
    // scan has per unit.
    unsafe {
        let scan = &mut *(*decompress).common.client_data.cast::<Scan>();
        scan.read_unit((!blocks.is_null()).then_some(|index| &mut **blocks.add(index)));
    }
    1
}
