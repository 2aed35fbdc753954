//! Has libjpeg take the coefficients that [`Scan`] reads.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use mozjpeg_sys::{boolean, jpeg_decompress_struct};

use super::scan::Scan;

/// Begins the library's own structure for the part that reads coefficients; the binding has it as one it knows nothing of.
#[repr(C)]
struct EntropyDecoder {
    start_pass: Option<unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct)>,
    decode_unit: unsafe extern "C-unwind" fn(*mut jpeg_decompress_struct, *mut Block) -> boolean,
}

/// A block's 64 coefficients, where they are.
type Block = *mut [i16; 64];

/// Has the library ask `scan` for coefficients.
///
/// # Safety
///
/// The library is ready to read the first row, and `scan` lives until it has read the last.
pub(super) unsafe fn take_coefficients_from(
    decompress: &mut jpeg_decompress_struct,
    scan: &mut Scan,
) {
    decompress.common.client_data = (&raw mut *scan).cast();
    let end = (&raw mut *decompress).wrapping_add(1).cast::<*mut EntropyDecoder>();
    // SAFETY: the structure ends with pointers to the library's parts, of which this is the last but four.
    unsafe { (**end.sub(5)).decode_unit = decode_unit };
}

/// What the library calls for a unit's coefficients; `blocks` is null where it passes over the unit.
unsafe extern "C-unwind" fn decode_unit(
    decompress: *mut jpeg_decompress_struct,
    blocks: *mut Block,
) -> boolean {
    // SAFETY: the scan that was given to the library. There is a block of its own for each in a unit, as the scan counts them.
    unsafe {
        let scan = &mut *(*decompress).common.client_data.cast::<Scan>();
        scan.read_unit((!blocks.is_null()).then_some(|index| &mut **blocks.add(index)));
    }
    1
}
