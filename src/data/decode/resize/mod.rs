//! Resizes pictures: bicubic as in Pillow, and bilinear as in torch's `interpolate`.

mod levels;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, F32x3, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::shape::ImageSize;

use super::picture::{CropBox, Picture, Pixels};
use levels::SourceImage;

/// Resizes the part of `picture` inside `crop` by antialiased bicubic interpolation.
///
/// For 8-bit pictures, the result equals Pillow's `resize(BICUBIC)` after a crop.
pub(in crate::data) fn bicubic(
    picture: &Picture,
    crop: CropBox,
    width: usize,
    height: usize,
) -> Picture {
    let channels = picture.channels;
    let pixels = match &picture.pixels {
        Pixels::U8(levels) => Pixels::U8(resize_levels(levels, picture, crop, [width, height])),
        Pixels::F32(values) => Pixels::F32(resize(values, picture, crop, [width, height])),
    };
    Picture { width, height, channels, pixels }
}

/// Resizes like [`bicubic`], but uses faster 16-bit weights for 8-bit pictures.
///
/// Pixel values may differ slightly from Pillow's.
pub(in crate::data) fn fast_bicubic(
    picture: &Picture,
    crop: CropBox,
    width: usize,
    height: usize,
) -> Picture {
    let (channels, to) = (picture.channels, [width, height]);
    let levels = match (&picture.pixels, channels) {
        (Pixels::U8(levels), 1) => weighted_in_16_bits::<U8>(levels, picture, crop, to),
        (Pixels::U8(levels), 3) => weighted_in_16_bits::<U8x3>(levels, picture, crop, to),
        _ => return bicubic(picture, crop, width, height),
    };
    Picture { width, height, channels, pixels: Pixels::U8(levels) }
}

fn weighted_in_16_bits<P: PixelTrait<Component = u8>>(
    levels: &[u8],
    picture: &Picture,
    crop: CropBox,
    to: [usize; 2],
) -> Vec<u8> {
    let source =
        TypedImageRef::<P>::from_buffer(picture.width as u32, picture.height as u32, levels)
            .expect("a picture has all its pixels");
    let mut out = vec![0; to[0] * to[1] * picture.channels];
    let mut places = TypedImage::<P>::from_buffer(to[0] as u32, to[1] as u32, &mut out)
        .expect("the buffer was made for these pixels");
    let CropBox { top, left, height, width } = crop;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(left as f64, top as f64, width as f64, height as f64);
    Resizer::new()
        .resize_typed(&source, &mut places, &options)
        .expect("a crop is inside its picture");
    out
}

fn rows<'a, T>(
    values: &'a [T],
    picture: &Picture,
    crop: CropBox,
) -> impl Iterator<Item = &'a [T]> + Clone {
    let row = picture.width * picture.channels;
    let columns = crop.left * picture.channels..(crop.left + crop.width) * picture.channels;
    let rows = values.chunks_exact(row).skip(crop.top).take(crop.height);
    rows.map(move |row| &row[columns.clone()])
}

fn resize_levels(levels: &[u8], picture: &Picture, crop: CropBox, to: [usize; 2]) -> Vec<u8> {
    let CropBox { width, height, .. } = crop;
    let vertical_first = vertical_first([width, height], to);
    let stride = picture.width * picture.channels;
    let pixels = &levels[crop.top * stride + crop.left * picture.channels..];
    match picture.channels {
        1 => SourceImage::<1> { width, height, stride, pixels }.resize::<1>(to, vertical_first),
        3 => SourceImage::<3> { width, height, stride, pixels }.resize::<4>(to, vertical_first),
        _ => unreachable!("8-bit pictures are grey or RGB"),
    }
}

/// Crops and resizes a float picture, `[H, W, C]`, to `[width, height]` pixels.
fn resize(values: &[f32], picture: &Picture, crop: CropBox, to: [usize; 2]) -> Vec<f32> {
    let rows = rows(values, picture, crop);
    if picture.channels == 3 {
        return resize_pixels::<F32x3>(rows, 1, crop, to);
    }
    let mut out = vec![0.0; to[0] * to[1] * picture.channels];
    for channel in 0..picture.channels {
        let plane = rows.clone().map(|row| &row[channel..]);
        let resized = resize_pixels::<F32>(plane, picture.channels, crop, to);
        let places = out.iter_mut().skip(channel).step_by(picture.channels);
        places.zip(resized).for_each(|(place, value)| *place = value);
    }
    out
}

/// Resizes one channel to `[width, height]` pixels.
///
/// `rows` may interleave several channels. Every `step`-th value belongs to the channel.
fn resize_pixels<'a, P: PixelTrait<Component = f32>>(
    rows: impl Iterator<Item = &'a [f32]>,
    step: usize,
    crop: CropBox,
    [width, height]: [usize; 2],
) -> Vec<f32> {
    let mut source = TypedImage::<P>::new(crop.width as u32, crop.height as u32);
    let row_len = crop.width * P::count_of_components();
    let places = P::components_mut(source.pixels_mut()).chunks_exact_mut(row_len);
    for (places, row) in places.zip(rows) {
        for (place, value) in places.iter_mut().zip(row.iter().step_by(step)) {
            *place = *value;
        }
    }
    let between = if vertical_first([crop.width, crop.height], [width, height]) {
        convolve(&source, crop.width, height)
    } else {
        convolve(&source, width, crop.height)
    };
    P::components(convolve(&between, width, height).pixels()).to_vec()
}

fn convolve<P: PixelTrait<Component = f32>>(
    source: &TypedImage<'_, P>,
    width: usize,
    height: usize,
) -> TypedImage<'static, P> {
    let mut out = TypedImage::new(width as u32, height as u32);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new()
        .resize_typed(source, &mut out, &options)
        .expect("both images have one pixel type");
    out
}

/// Returns whether Pillow 13 or later resizes the height before the width.
fn vertical_first([width, height]: [usize; 2], [to_width, to_height]: [usize; 2]) -> bool {
    height > to_height && height - to_height > 2 * width.saturating_sub(to_width)
}

/// Resizes a one-channel picture to `size`, without antialiasing.
///
/// Equals torch's `interpolate(mode="bilinear", align_corners=False)`.
pub(in crate::data) fn bilinear(
    values: &[f32],
    width: usize,
    height: usize,
    size: ImageSize,
) -> Vec<f32> {
    let columns: Vec<_> = (0..size.width).map(|x| taps(x, size.width, width)).collect();
    let mut out = Vec::with_capacity(size.area());
    for y in 0..size.height {
        let (y0, y1, fy) = taps(y, size.height, height);
        let (above, below) = (&values[y0 * width..], &values[y1 * width..]);
        for &(x0, x1, fx) in &columns {
            let top = above[x0] * (1.0 - fx) + above[x1] * fx;
            let bottom = below[x0] * (1.0 - fx) + below[x1] * fx;
            out.push(top * (1.0 - fy) + bottom * fy);
        }
    }
    out
}

/// Returns the two input positions next to output position `i`, and the weight of the second input.
fn taps(i: usize, size: usize, source: usize) -> (usize, usize, f32) {
    let at = ((i as f32 + 0.5) * (source as f32 / size as f32) - 0.5).max(0.0);
    let first = (at as usize).min(source - 1);
    (first, (first + 1).min(source - 1), at - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilinear_is_torchs_with_align_corners_false() {
        // The result of interpolate([[0, 1], [2, 3]], size=4): edges are repeated, inner positions are at quarters.
        let row = [0.0, 0.25, 0.75, 1.0];
        let expected: Vec<f32> =
            row.iter().flat_map(|y| row.iter().map(move |x| 2.0 * y + x)).collect();
        assert_eq!(bilinear(&[0.0, 1.0, 2.0, 3.0], 2, 2, 4.into()), expected);
    }

    #[test]
    fn the_first_axis_is_pillows() {
        let first = |width, height, to| vertical_first([width, height], [to, to]);
        assert!(first(218, 260, 224), "only the height shrinks");
        assert!(!first(148, 192, 224), "both grow");
        assert!(!first(115, 134, 96), "twice as many");
        assert!(first(115, 135, 96), "more than twice as many");
    }

    #[test]
    fn pixels_outside_a_crop_have_no_influence() {
        let mut bytes = vec![200u8; 8 * 8];
        for y in 2..6 {
            bytes[y * 8 + 2..y * 8 + 6].fill(10);
        }
        let picture = Picture { width: 8, height: 8, channels: 1, pixels: Pixels::U8(bytes) };
        let crop = CropBox { top: 2, left: 2, height: 4, width: 4 };
        assert_eq!(bicubic(&picture, crop, 7, 9).pixels, Pixels::U8(vec![10; 63]));
    }
}
