//! Decodes image files and resizes pictures, with the same results as Pillow and torchvision.
//!
//! Pixels equal those of Pillow's `convert("RGB")`, or of `convert("L")` if `in_chans` is 1:
//!
//! - Grey is repeated for all channels.
//! - Palettes and CMYK are converted.
//! - Alpha is dropped without blending.
//! - Grey of more than 8 bits is clamped to 255.
//! - Only TIFF files are rotated by their orientation tag.
//!
//! If a file has several pages or frames, only the first page or frame is decoded. The content of a file decides the
//! format; the file name does not matter. A truncated file is an error; it never becomes a partly grey picture.
//!
//! `opened_image` decodes files of any format, `jpeg` decodes rectangles of JPEG files, and `resize` changes the size.
//! Most other modules decode one format to a `Bitmap`.

#[cfg(feature = "avif")]
mod avif;
mod bitmap;
mod bmp;
mod byte_reader;
pub(super) mod error;
pub(super) mod format;
mod gif;
mod ico;
pub(super) mod image_name;
pub(super) mod jpeg;
#[cfg(feature = "jpeg2000")]
mod jpeg2000;
pub(super) mod opened_image;
pub(super) mod picture;
mod png_webp;
mod pnm;
pub(super) mod raw;
pub(super) mod resize;
pub(super) mod simd;
mod tga;
mod tiff;
