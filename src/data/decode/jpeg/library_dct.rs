//! Makes libjpeg compute the inverse DCT like the assembly of libjpeg-turbo, which Pillow uses.
//!
//! The C code of libjpeg has other results for coefficients that are too large. Such coefficients occur in damaged files.

#![expect(unsafe_code, reason = "libjpeg is a C library")]

use std::ffi::c_int;
use std::ptr::{copy_nonoverlapping, fn_addr_eq};

use mozjpeg_sys::{JDIMENSION, jpeg_component_info, jpeg_decompress_struct};

use super::block::{self, Block};
use super::one_dimension::Steps;

/// Computes the pixels of a block, and writes them to the rows of the last argument, from the given column.
type InverseDct = unsafe extern "C-unwind" fn(
    &mut jpeg_decompress_struct,
    &jpeg_component_info,
    *const Block,
    *const *mut u8,
    JDIMENSION,
);

/// Changes the function that libjpeg has chosen for a colour component.
type Selector = unsafe extern "C-unwind" fn(
    &mut jpeg_decompress_struct,
    &jpeg_component_info,
    &mut InverseDct,
    &mut c_int,
);

unsafe extern "C-unwind" {
    // The bindings declare this function for compression, but it exists for decompression.
    fn jpeg_set_idct_method_selector(
        decompress: &mut jpeg_decompress_struct,
        selector: Option<Selector>,
    );

    // libjpeg's C code for 8 x 8, 4 x 4 and 2 x 2 pixels.
    fn jpeg_idct_islow(
        _: &mut jpeg_decompress_struct,
        _: &jpeg_component_info,
        _: *const Block,
        _: *const *mut u8,
        _: JDIMENSION,
    );
    fn jpeg_idct_4x4(
        _: &mut jpeg_decompress_struct,
        _: &jpeg_component_info,
        _: *const Block,
        _: *const *mut u8,
        _: JDIMENSION,
    );
    fn jpeg_idct_2x2(
        _: &mut jpeg_decompress_struct,
        _: &jpeg_component_info,
        _: *const Block,
        _: *const *mut u8,
        _: JDIMENSION,
    );
}

/// Replaces the C code of the inverse DCT in all later decoding with `decompress`.
///
/// # Safety
///
/// libjpeg must have created `decompress`.
pub(super) unsafe fn replace(decompress: &mut jpeg_decompress_struct) {
    // SAFETY: `select` has the type of libjpeg's `jpeg_idct_method_selector`.
    unsafe { jpeg_set_idct_method_selector(decompress, Some(select)) }
}

/// Reverts [`replace`], for tests.
///
/// # Safety
///
/// libjpeg must have created `decompress`.
#[cfg(test)]
pub(super) unsafe fn keep(decompress: &mut jpeg_decompress_struct) {
    // SAFETY: without a selector, libjpeg keeps its own functions.
    unsafe { jpeg_set_idct_method_selector(decompress, None) }
}

/// Replaces libjpeg's C functions. If libjpeg was built with its assembly, it has chosen other functions, which stay.
unsafe extern "C-unwind" fn select(
    _: &mut jpeg_decompress_struct,
    _: &jpeg_component_info,
    chosen: &mut InverseDct,
    _: &mut c_int,
) {
    let own: [(InverseDct, InverseDct); 3] = [
        (jpeg_idct_islow, transform::<8>),
        (jpeg_idct_4x4, transform::<4>),
        (jpeg_idct_2x2, transform::<2>),
    ];
    if let Some((_, own)) = own.iter().find(|(replaced, _)| fn_addr_eq(*replaced, *chosen)) {
        *chosen = *own;
    }
}

unsafe extern "C-unwind" fn transform<const N: usize>(
    _: &mut jpeg_decompress_struct,
    component: &jpeg_component_info,
    block: *const Block,
    rows: *const *mut u8,
    column: JDIMENSION,
) {
    // SAFETY: libjpeg passes a block of coefficients, and `N` rows with room for `N` pixels at `column`. A component
    // has its quantization table, whose 16-bit numbers may be read with a sign, or a null pointer before its first scan.
    unsafe {
        let table = component.quant_table.as_ref();
        let steps = table.map_or(&[0; 64], |table| &*(&raw const table.quantval).cast::<Steps>());
        let pixels = block::transform(&*block, steps, N);
        for (y, row) in pixels.chunks_exact(N).take(N).enumerate() {
            let out = (*rows.add(y)).add(column as usize);
            copy_nonoverlapping(row.as_ptr(), out, N);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::data::decode::jpeg::Jpeg;
    use crate::data::decode::jpeg::random_files::pixels;
    use crate::data::decode::picture::CropBox;

    macro_rules! overflowing {
        ($name:literal) => {
            include_bytes!(concat!("../../../../tests/golden/pictures/overflow-", $name, ".jpg"))
        };
    }

    /// `tests/golden/pictures/make.py` made the files. The numbers are the CRC-32 of Pillow 13.0.0's pixels at the full
    /// size, and after `draft` at 1/2, 1/4 and 1/8 of it.
    #[test]
    fn overflowing_files_have_the_pixels_of_pillow_at_all_scales() {
        let files: [(&[u8], [u32; 4]); 5] = [
            (overflowing!("420"), [0x4fc5_e49c, 0xbb10_cd63, 0xa602_2a82, 0x8430_bed9]),
            (overflowing!("422"), [0xcef5_2a4e, 0xfa96_ea43, 0x5738_1421, 0x0bd8_b3c9]),
            (overflowing!("cmyk"), [0xc48b_1d43, 0x201a_75d2, 0xab59_96cb, 0x6429_2ecc]),
            (overflowing!("flat"), [0x0ab9_995c, 0xe1f6_1155, 0x4563_4ef6, 0xb58c_1d75]),
            (overflowing!("grey"), [0x29c8_be51, 0x21f8_9449, 0x0b59_c175, 0x86d0_74bf]),
        ];
        for (bytes, expected) in files {
            for (shrink, expected) in [1, 2, 4, 8].into_iter().zip(expected) {
                let jpeg = || Jpeg::open(bytes).unwrap();
                let (width, height) = jpeg().size();
                let all = CropBox { top: 0, left: 0, width, height };
                let small = jpeg().small_region(all, shrink).unwrap();
                let by_library = jpeg().by_library(small.crop, shrink).unwrap();
                let size = (small.crop.width, small.crop.height);
                assert_eq!(size, (width.div_ceil(shrink), height.div_ceil(shrink)));
                for decoded in [small, by_library] {
                    let found = crc32fast::hash(&pixels(&decoded));
                    assert!(found == expected, "{size:?}: {found:08x}, not {expected:08x}");
                }
            }
        }
    }
}
