//! Compares `plain.rs` with libjpeg on random files.
//!
//! The files have random coefficients, chroma subsamplings, quantization tables, sizes and restart intervals.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct RandomFile {
    width: usize,
    height: usize,
    /// Blocks per minimum coded unit (MCU) of each colour component, as (across, down).
    sampling: Vec<(usize, usize)>,
    /// Restart interval in minimum coded units (MCUs); 0 without restart markers.
    interval: usize,
    step: u16,
    /// Maximum absolute value of a dequantized coefficient.
    level: i32,
    /// Maximum number of nonzero coefficients per block.
    frequencies: usize,
    seed: u64,
}

/// The chroma subsamplings that `plain.rs` supports, as (across, down) blocks of each component.
const PLAIN: [&[(usize, usize)]; 5] = [
    &[(1, 1)],
    &[(1, 1), (1, 1), (1, 1)],
    &[(2, 1), (1, 1), (1, 1)],
    &[(1, 2), (1, 1), (1, 1)],
    &[(2, 2), (1, 1), (1, 1)],
];

fn samplings() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let any = prop::collection::vec((1usize..4, 1usize..4), 3);
    prop_oneof![4 => prop::sample::select(PLAIN.to_vec()).prop_map(<[_]>::to_vec), 1 => any]
}

prop_compose! {
    fn random_files()(
        (width, height) in (1usize..90, 1usize..90),
        sampling in samplings(),
        interval in prop_oneof![Just(0usize), 1usize..9],
        step in prop::sample::select(vec![1u16, 20, 255, 3000]),
        level in prop::sample::select(vec![30, 30, 300, 1000, 8000, 30_000]),
        frequencies in 1usize..65,
        seed in any::<u64>(),
    ) -> RandomFile {
        RandomFile { width, height, sampling, interval, step, level, frequencies, seed }
    }
}

/// Collects bits into bytes, and stuffs a zero byte after each 0xff byte.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    bits: u32,
    count: u32,
}

impl BitWriter {
    fn put(&mut self, bits: u32, count: u32) {
        for at in (0..count).rev() {
            self.bits = self.bits << 1 | (bits >> at & 1);
            self.count += 1;
            if self.count == 8 {
                self.bytes.push(self.bits as u8);
                if self.bits as u8 == 0xff {
                    self.bytes.push(0);
                }
                (self.bits, self.count) = (0, 0);
            }
        }
    }

    /// Fills the rest of the last byte with bits of 1.
    fn align(&mut self) {
        while self.count > 0 {
            self.put(1, 1);
        }
    }

    /// Writes the bits that follow a Huffman code: `value` in `size` bits.
    fn value(&mut self, value: i32, size: u32) {
        let bits = if value < 0 { value - 1 } else { value };
        self.put(bits as u32 & ((1 << size) - 1), size);
    }
}

fn size(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}

impl RandomFile {
    fn bytes(&self) -> Vec<u8> {
        let mut random = self.seed | 1;
        let mut next = move |below: i32| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ((random >> 33) % below.max(1) as u64) as i32
        };
        let mut file = vec![0xff, 0xd8];
        let mut segment = |marker: u8, body: &[u8]| {
            file.extend([0xff, marker]);
            file.extend((body.len() as u16 + 2).to_be_bytes());
            file.extend(body);
        };
        // With a JFIF header, three colours are YCbCr.
        segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        let steps: Vec<u16> = (0..64).map(|_| 1 + next(i32::from(self.step)) as u16).collect();
        let table: Vec<u8> = steps.iter().flat_map(|step| step.to_be_bytes()).collect();
        segment(0xdb, &[&[0x10][..], &table].concat());
        let [h, w] = [self.height, self.width].map(|side| (side as u16).to_be_bytes());
        let mut frame = vec![8, h[0], h[1], w[0], w[1], self.sampling.len() as u8];
        for (id, (across, down)) in (1..).zip(&self.sampling) {
            frame.extend([id, (across << 4 | down) as u8, 0]);
        }
        segment(0xc1, &frame);
        let counts = |length: usize, count: u8| {
            let mut counts = [0; 16];
            counts[length - 1] = count;
            counts
        };
        segment(0xc4, &[&[0x00][..], &counts(5, 16), &(0..16).collect::<Vec<u8>>()].concat());
        segment(0xc4, &[&[0x10][..], &counts(9, 255), &(0..255).collect::<Vec<u8>>()].concat());
        segment(0xdd, &(self.interval as u16).to_be_bytes());
        let colours = self.sampling.len() as u8;
        let selectors: Vec<u8> = (1..=colours).flat_map(|id| [id, 0]).collect();
        segment(0xda, &[&[colours][..], &selectors, &[0, 63, 0]].concat());
        file.extend(self.scan(&steps, &mut next));
        file.extend([0xff, 0xd9]);
        file
    }

    fn scan(&self, steps: &[u16], next: &mut impl FnMut(i32) -> i32) -> Vec<u8> {
        let single = self.sampling.len() == 1;
        let most = |axis: fn(&(usize, usize)) -> usize| {
            if single { 1 } else { self.sampling.iter().map(axis).max().unwrap() }
        };
        let units =
            self.width.div_ceil(8 * most(|of| of.0)) * self.height.div_ceil(8 * most(|of| of.1));
        let mut out = BitWriter::default();
        let mut last = vec![0; self.sampling.len()];
        for unit in 0..units {
            if self.interval > 0 && unit > 0 && unit % self.interval == 0 {
                out.align();
                out.bytes.extend([0xff, 0xd0 + ((unit / self.interval - 1) % 8) as u8]);
                last.fill(0);
            }
            for (colour, (across, down)) in self.sampling.iter().enumerate() {
                for _ in 0..if single { 1 } else { across * down } {
                    let mut level = |k: usize| {
                        let most = (self.level / i32::from(steps[k])).clamp(0, 16_000);
                        next(2 * most + 1) - most
                    };
                    let dc = level(0) / 2;
                    out.put(size(dc - last[colour]), 5);
                    out.value(dc - last[colour], size(dc - last[colour]));
                    last[colour] = dc;
                    let mut zeros = 0;
                    for k in 1..self.frequencies {
                        let level = level(k);
                        if level == 0 {
                            zeros += 1;
                            continue;
                        }
                        (0..zeros / 16).for_each(|_| out.put(0xf0, 9));
                        out.put((zeros % 16) << 4 | size(level), 9);
                        out.value(level, size(level));
                        zeros = 0;
                    }
                    if zeros > 0 || self.frequencies < 64 {
                        out.put(0, 9);
                    }
                }
            }
        }
        out.align();
        out.bytes
    }
}

fn cut(decoded: Result<Decoded, ImageError>) -> Result<(Vec<u8>, Option<String>), ImageError> {
    let decoded = decoded?;
    Ok((pixels(&decoded), decoded.warning))
}

/// Decodes with libjpeg and its own inverse DCT, in C.
pub(super) fn by_c_code(bytes: &[u8], crop: CropBox, shrink: usize) -> Result<Decoded, ImageError> {
    let mut jpeg = Jpeg::open(bytes)?;
    // SAFETY: `open` has created the decoder.
    unsafe { library_dct::keep(&mut jpeg.state.decompress) };
    jpeg.by_library(crop, shrink)
}

/// Returns the pixels of the decoded rectangle without its margins.
pub(super) fn pixels(decoded: &Decoded) -> Vec<u8> {
    let CropBox { top, left, width, height } = decoded.crop;
    let rows = decoded.pixels.chunks_exact(decoded.width * 3).skip(top).take(height);
    rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect()
}

/// Returns a rectangle inside a picture.
///
/// `x`, `y`, `w` and `h` are fractions (0..1) of the available space.
pub(super) fn rectangle(
    (width, height): (usize, usize),
    (x, y, w, h): (f64, f64, f64, f64),
) -> CropBox {
    let part = |of: usize, share: f64| (of as f64 * share) as usize;
    let (left, top) = (part(width, x), part(height, y));
    let (height, width) = (1 + part(height - top - 1, h), 1 + part(width - left - 1, w));
    CropBox { top, left, height, width }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn random_coefficients_are_decoded_as_by_the_library(
        file in random_files(),
        shares in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0),
        shrink in prop::sample::select(vec![1usize, 1, 2, 4, 8]),
    ) {
        let bytes = file.bytes();
        let (width, height) = (file.width.div_ceil(shrink), file.height.div_ceil(shrink));
        let crop = rectangle((width, height), shares);
        let jpeg = || Jpeg::open(&bytes).unwrap();
        let found = cut(jpeg().shrunk_region(crop, shrink));
        let whole = CropBox { top: 0, left: 0, height, width };
        let expected = jpeg().by_library(whole, shrink).and_then(|all| {
            cut(Ok(Decoded { crop, ..all }))
        });
        prop_assert!(found == expected, "{file:?} {crop:?} / {shrink}");
        // libjpeg's C code computes larger coefficients differently from libjpeg-turbo's assembly.
        if file.level <= 30 {
            let all = by_c_code(&bytes, whole, shrink);
            prop_assert!(found == cut(all.map(|all| Decoded { crop, ..all })), "{file:?}: C code");
        }
        let usual = file.width.min(file.height) > 4 && shrink == 1;
        if usual && PLAIN.contains(&&file.sampling[..]) {
            let plain = jpeg().plain_scan().and_then(|scan| plain::decode(scan, crop, 1));
            prop_assert!(plain.is_some(), "{file:?} is not plain");
        }
    }
}
