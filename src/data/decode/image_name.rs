use std::ffi::OsStr;
use std::path::Path;

/// The image file extensions of torchvision's `ImageFolder`.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// Returns whether a file has an image extension, such as `.jpg`. Excludes `.npy`.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Returns whether a file has the extension `.npy` of a NumPy array.
///
/// Arrays count as images only with `data.range`.
pub(in crate::data) fn is_array_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}
