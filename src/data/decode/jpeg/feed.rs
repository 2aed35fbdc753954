//! Makes libjpeg use the coefficients that [`Scan`] reads.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use mozjpeg_sys::{boolean, jpeg_decompress_struct};

use super::scan::Scan;

/// The first fields of the library's entropy decoder. The binding declares it as an opaque type.
#[repr(C)]
struct EntropyDecoder {
    start_pass: Option<unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct)>,
    decode_unit: unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct, *mut Block) -> boolean,
}

/// A pointer to the 64 coefficients of a block.
type Block = *mut [i16; 64];

/// Makes the library read its coefficients from `scan`.
///
/// # Safety
///
/// The library must be ready to read the first row, and `scan` must live until the last row is read.
pub(super) unsafe fn take_coefficients_from(
    decompress: &mut jpeg_decompress_struct,
    scan: &mut Scan,
) {
    decompress.common.client_data = (&raw mut *scan).cast();
    let end = (&raw mut *decompress).wrapping_add(1).cast::<*mut EntropyDecoder>();
    // SAFETY: the structure ends with pointers to the parts of the library. The entropy decoder is the fifth from the end.
    unsafe { (**end.sub(5)).decode_unit = decode_unit };
}

/// Reads the coefficients of a unit. The library calls this function; `blocks` is null if it skips the unit.
unsafe extern "C-unwind" fn decode_unit(
    decompress: *mut jpeg_decompress_struct,
    blocks: *mut Block,
) -> boolean {
    // SAFETY: `client_data` is the scan from above. `blocks` has a separate block for each one that the scan counts in a unit.
    unsafe {
        let scan = &mut *(*decompress).common.client_data.cast::<Scan>();
        scan.read_unit((!blocks.is_null()).then_some(|index| &mut **blocks.add(index)));
    }
    1
}
