//! Operations that map each 8-bit pixel value to a new value.

use super::rgb::Rgb;

/// A look-up table with the new value of each 8-bit pixel value.
pub(super) type Table = [u8; 256];

/// Applies one look-up table to each channel.
pub(super) fn look_up(picture: &Rgb, tables: &[Table; 3]) -> Rgb {
    let [red, green, blue] = tables;
    let look_up =
        |&[r, g, b]: &[u8; 3]| [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
    picture.with_colours(picture.colours().iter().map(look_up).collect())
}

/// Builds a look-up table from a function. Clamps results to 255.
pub(super) fn table(new_level: impl Fn(u32) -> u32) -> Table {
    std::array::from_fn(|level| new_level(level as u32).min(255) as u8)
}

/// Stretches each channel linearly to the full range 0..=255.
pub(super) fn auto_contrast(picture: &Rgb) -> Rgb {
    look_up(picture, &histograms(picture).map(|counts| stretched(&counts)))
}

fn stretched(counts: &[u32; 256]) -> Table {
    let low = counts.iter().position(|&n| n > 0).unwrap_or_default();
    let high = counts.iter().rposition(|&n| n > 0).unwrap_or_default();
    if high <= low {
        return table(|level| level);
    }
    // Keep Pillow's order of operations. The order decides the result if the exact value is an integer.
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    table(|level| (f64::from(level) * scale + offset) as u32)
}

/// Equalizes the histogram of each channel, like Pillow.
pub(super) fn equalize(picture: &Rgb) -> Rgb {
    look_up(picture, &histograms(picture).map(|counts| equalized(&counts)))
}

/// Returns the new pixel values that equalize a histogram. `counts[v]` pixels have the value `v`.
fn equalized(counts: &[u32; 256]) -> Table {
    let brightest = counts.iter().rfind(|&&n| n > 0).copied().unwrap_or_default();
    let step = (counts.iter().sum::<u32>() - brightest) / 255;
    if step == 0 {
        return table(|level| level);
    }
    let mut below = step / 2;
    counts.map(|n| {
        let level = below / step;
        below += n;
        level.min(255) as u8
    })
}

pub(super) fn invert(picture: &Rgb) -> Rgb {
    look_up(picture, &[table(|level| 255 - level); 3])
}

/// Keeps the `bits` highest bits of each pixel value.
pub(super) fn posterize(picture: &Rgb, bits: u32) -> Rgb {
    let cleared = 8u32.saturating_sub(bits);
    look_up(picture, &[table(|level| level >> cleared << cleared); 3])
}

/// Inverts the pixel values from `threshold` to 255.
pub(super) fn solarize(picture: &Rgb, threshold: u32) -> Rgb {
    look_up(picture, &[table(|level| if level < threshold { level } else { 255 - level }); 3])
}

/// Adds `add` to the pixel values below 128. Clamps the sums to 255.
pub(super) fn solarize_add(picture: &Rgb, add: u32) -> Rgb {
    look_up(picture, &[table(|level| if level < 128 { level + add } else { level }); 3])
}

fn histograms(picture: &Rgb) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for colour in picture.colours() {
        for (counts, &level) in counts.iter_mut().zip(colour) {
            counts[usize::from(level)] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(levels: &[u8]) -> Rgb {
        let pixels = levels.iter().flat_map(|&level| [level; 3]).collect();
        Rgb { width: levels.len(), height: 1, pixels }
    }

    #[test]
    fn a_channel_with_one_level_is_neither_stretched_nor_equalized() {
        let flat = grey(&[77; 300]);
        assert_eq!(auto_contrast(&flat), flat);
        assert_eq!(equalize(&flat), flat);
    }

    #[test]
    fn contrast_is_stretched_to_all_levels() {
        assert_eq!(auto_contrast(&grey(&[10, 20, 30])), grey(&[0, 127, 255]));
    }

    #[test]
    fn zero_bits_are_black_and_eight_change_nothing() {
        let picture = grey(&[0, 1, 127, 128, 255]);
        assert_eq!(posterize(&picture, 0), grey(&[0; 5]));
        assert_eq!(posterize(&picture, 1), grey(&[0, 0, 0, 128, 128]));
        assert_eq!(posterize(&picture, 8), picture);
    }

    #[test]
    fn equalizing_is_cut_at_255() {
        // 509 pixels are darker than the brightest level. One pixel is a step, so the brightest level would become 509.
        let mut levels = vec![3; 509];
        levels.push(200);
        assert_eq!(equalize(&grey(&levels)).pixels[3 * 509], 255);
    }
}
