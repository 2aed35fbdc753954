//! Decodes image files and resizes pictures, with the same results as Pillow and torchvision.
//!
//! Pixels equal those of Pillow's `convert("RGB")`, or of `convert("L")` if `in_chans` is 1:
//!
//! - Grey is repeated for all channels.
//! - Palettes and CMYK are converted.
//! - Alpha is dropped without blending, and orientation tags are ignored.
//! - 16-bit grey values above 255 become 255.
//!
//! If a file has several pages or frames, the first one is decoded. The content of a file decides its format, not its
//! name. A truncated file is an error; it never becomes a partly grey picture.
//!
//! `opened_image` decodes files of any format, `jpeg` decodes rectangles of JPEG files, and `resize` changes the size.

pub(super) mod error;
pub(super) mod image_name;
pub(super) mod jpeg;
pub(super) mod opened_image;
pub(super) mod picture;
pub(super) mod resize;
pub(super) mod simd;
