use super::bmp::is_dib;
use super::error::ImageError;
use super::jpeg::is_jpeg;
use super::png_webp::is_png;
use super::pnm::is_pnm;
use super::tga::is_tga;
use super::tiff::is_tiff;

/// An image format that `mae` decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum Format {
    Avif,
    Bmp,
    Gif,
    Ico,
    Jpeg,
    Jpeg2000,
    Png,
    Pnm,
    Tga,
    Tiff,
    Webp,
}

/// Image formats that `mae` recognizes but does not decode, as (byte offset, signature, format name).
const UNSUPPORTED: [(usize, &[u8], &str); 43] = [
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"DDS ", "DirectDraw Surface (DDS)"),
    (0, b"qoif", "Quite OK Image (QOI)"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\x02\0", "Windows cursor (CUR)"),
    (0, b"icns", "Apple icon (ICNS)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?", "Radiance HDR"),
    (0, b"\x01\xda", "SGI image"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x0a\0\x01", "PCX"),
    (0, b"\x0a\x02\x01", "PCX"),
    (0, b"\x0a\x03\x01", "PCX"),
    (0, b"\x0a\x05\x01", "PCX"),
    (0, b"BLP1", "Blizzard texture (BLP)"),
    (0, b"BLP2", "Blizzard texture (BLP)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"\xd7\xcd\xc6\x9a", "Windows metafile (WMF)"),
    (40, b" EMF", "Windows metafile (EMF)"),
    (0, b"/* XPM */", "X pixmap (XPM)"),
    (0, b"#define ", "X bitmap (XBM)"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"GRIB", "GRIB"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (128, b"DICM", "DICOM"),
    (0, b"DanM", "Windows Paint (MSP)"),
    (0, b"LinS", "Windows Paint (MSP)"),
    (0, b"\x80\xe8\0\0", "Pixar image"),
    (0, b"P7", "Netpbm (PAM)"),
    (0, b"FTEX", "Independence War texture (FTEX)"),
    (0, b"\xb1\x68\xde\x3a", "PCX with several pages (DCX)"),
    (0, b"Image type", "IFUNC image (IM)"),
    (0, b"\0\0\0\0\0\0\0\x04", "McIDAS"),
    (4, b"\x11\xaf", "Autodesk animation (FLI)"),
    (4, b"\x12\xaf", "Autodesk animation (FLC)"),
    (20, b"GIMP", "GIMP brush (GBR)"),
];

/// File types that are not images, as (first bytes, name for messages).
const NO_IMAGES: [(&[u8], &str); 12] = [
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a file compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd"),
    (b"\x93numpy", "a NumPy array"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska, WebM)"),
    (b"rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
];

impl Format {
    /// Detects the image format from the content of a file.
    ///
    /// Fails if `mae` does not support the format. The error names the format.
    pub(in crate::data) fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        let starts = |signature: &[u8]| bytes.starts_with(signature);
        let brand = bytes.get(4..12).filter(|at| at.starts_with(b"ftyp")).map(|at| &at[4..]);
        Ok(match () {
            () if is_jpeg(bytes) => Self::Jpeg,
            () if is_png(bytes) => Self::Png,
            () if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Self::Webp,
            () if starts(b"GIF87a") || starts(b"GIF89a") => Self::Gif,
            () if starts(b"BM") || is_dib(bytes) => Self::Bmp,
            () if is_tiff(bytes) => Self::Tiff,
            () if is_pnm(bytes) => Self::Pnm,
            () if starts(b"\xff\x4f\xff\x51") => Self::Jpeg2000,
            () if starts(b"\0\0\0\x0cjP  \r\n\x87\n") => Self::Jpeg2000,
            () if matches!(brand, Some(b"avif" | b"avis" | b"mif1" | b"msf1")) => Self::Avif,
            () if starts(b"\0\0\x01\0") && bytes.get(9) == Some(&0) => Self::Ico,
            () if is_tga(bytes) && !is_cursor(bytes) => Self::Tga,
            () => return Err(unsupported(bytes, brand)),
        })
    }
}

/// Returns whether a file is a Windows cursor, which looks like a TGA file.
fn is_cursor(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, 2, 0, low, high, ..] if (*low, *high) != (0, 0))
}

fn unsupported(bytes: &[u8], brand: Option<&[u8]>) -> ImageError {
    let named = |name: &str| ImageError::Unsupported(format!("mae does not support {name} files"));
    match brand {
        Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis") => {
            return named("HEIC (HEIF with HEVC)");
        }
        Some(_) => return ImageError::damaged("the file is a video (MP4, MOV), not an image"),
        None => {}
    }
    let is = |at: &usize, signature: &[u8]| {
        bytes.get(*at..).is_some_and(|rest| rest.starts_with(signature))
    };
    if let Some((.., name)) = UNSUPPORTED.iter().find(|(at, signature, _)| is(at, signature)) {
        return named(name);
    }
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let start = text[..text.len().min(32)].to_ascii_lowercase();
    if let Some((_, name)) = NO_IMAGES.iter().find(|(signature, _)| start.starts_with(signature)) {
        return ImageError::damaged(format!("the file is {name}, not an image"));
    }
    let first = bytes[..bytes.len().min(8)].escape_ascii();
    ImageError::damaged(format!("the image format is unknown: the file begins with \"{first}\""))
}
