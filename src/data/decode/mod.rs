//! Image files to pixels, and pixels to other sizes, as Pillow and torchvision do it.
//!
//! Files are decoded as by Pillow's `convert("RGB")`, or `convert("L")` if `in_chans` is 1. Grey is repeated, palettes are
//! looked up, alpha is dropped without blending, CMYK is converted, and orientation tags are ignored. The content decides
//! the file format, not the name. 16-bit grey above 255 becomes 255, as in Pillow. Of an animation or a file of several pages,
//! the first picture is decoded. A truncated file is an error; it never becomes a partly grey picture.
//!
//! `opened_image` decodes any file, `jpeg` decodes rectangles of JPEG files, `resize` resizes.

pub(super) mod error;
pub(super) mod image_name;
pub(super) mod jpeg;
pub(super) mod opened_image;
pub(super) mod picture;
pub(super) mod resize;
pub(super) mod simd;
