//! Resizing with the byte products of AVX-512: four weighted pixel values are added up by one instruction.
//!
//! The instruction (`VPDPBUSD`) multiplies unsigned by signed bytes. So each fixed-point weight is split into three
//! signed bytes, its digits in base 256. The sums of the digits are exact, so the result is that of 32-bit products.

#![expect(unsafe_code, reason = "loads and stores of vectors take pointers")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm512_add_epi8, _mm512_add_epi32, _mm512_castsi128_si512,
    _mm512_cvtusepi32_epi8, _mm512_dpbusd_epi32, _mm512_inserti32x4, _mm512_loadu_si512,
    _mm512_max_epi32, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_slli_epi32, _mm512_srai_epi32, _mm512_storeu_si512, _mm512_unpackhi_epi8,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};
use std::ops::Range;

use super::levels::{FRACTION, HALF, Rows, Weights};

/// Number of bytes in a register.
const BYTES: usize = 64;
/// Number of output columns that are computed together.
const COLUMNS: usize = 16;
/// Number of pixel values that one instruction multiplies and adds up.
const TAPS: usize = 4;
/// Number of bytes that hold a weight.
const DIGITS: usize = 3;

/// Returns whether the processor has the instructions of this module.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

/// Splits a weight into signed digits in base 256, the lowest first. Returns `None` if it needs more digits.
fn digits(weight: i32) -> Option<[u8; DIGITS]> {
    let low = weight as i8;
    let rest = (weight - i32::from(low)) >> 8;
    let middle = rest as i8;
    let high = i8::try_from((rest - i32::from(middle)) >> 8).ok()?;
    Some([low, middle, high].map(i8::cast_unsigned))
}

/// Resizes vertically: each row of `out` is a weighted sum of rows. `row` is the number of bytes per row.
///
/// Returns false, without writing to `out`, if this module cannot resize this picture.
pub(super) fn vertical(rows: Rows<'_>, row: usize, weights: &Weights, out: &mut [u8]) -> bool {
    if !is_supported() || row < BYTES {
        return false;
    }
    let Some(sums) = WeightedRows::of(weights) else { return false };
    // SAFETY: the processor has the instructions.
    unsafe { add_rows(rows, row, &sums, out) };
    true
}

/// The weights of vertical resizing, as digits.
struct WeightedRows {
    /// For each output row, its first input row, the number of input rows, and its part of `digits`.
    spans: Vec<(usize, usize, Range<usize>)>,
    /// Digits of the weights of [`TAPS`] input rows.
    digits: Vec<[i32; DIGITS]>,
}

impl WeightedRows {
    fn of(weights: &Weights) -> Option<Self> {
        let (mut spans, mut groups) = (Vec::with_capacity(weights.spans.len()), Vec::new());
        for span in &weights.spans {
            let first = groups.len();
            let weights = &weights.weights[span.weights.clone()];
            for weights in weights.chunks(TAPS) {
                let mut group = [[0; TAPS]; DIGITS];
                for (tap, weight) in weights.iter().enumerate() {
                    for (group, digit) in group.iter_mut().zip(digits(*weight)?) {
                        group[tap] = digit;
                    }
                }
                groups.push(group.map(i32::from_le_bytes));
            }
            spans.push((span.start, weights.len(), first..groups.len()));
        }
        Some(Self { spans, digits: groups })
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn add_rows(rows: Rows<'_>, row: usize, sums: &WeightedRows, out: &mut [u8]) {
    for ((first, count, groups), out) in sums.spans.iter().zip(out.chunks_exact_mut(row)) {
        let groups = &sums.digits[groups.clone()];
        // The last block of a row may overlap the previous block.
        for start in (0..row).step_by(BYTES).map(|start| start.min(row - BYTES)) {
            let mut totals = [start_of_sum(); TAPS];
            for (at, digits) in (0..).step_by(TAPS).zip(groups) {
                // The weights of missing rows are 0, so any other row can stand in for them.
                let line = |tap: usize| load(&rows.at(first + (at + tap).min(count - 1))[start..]);
                let digits = digits.map(|digits| _mm512_set1_epi32(digits));
                let values = side_by_side([line(0), line(1), line(2), line(3)]);
                for (total, values) in totals.iter_mut().zip(values) {
                    add_products(total, values, digits);
                }
            }
            let [a, b, c, d] = totals.map(|total| rounded(total));
            let levels = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            store(levels, &mut out[start..]);
        }
    }
}

/// Arranges four rows so that values of the same column are neighbours.
///
/// Packing the four results restores the order of the columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn side_by_side([a, b, c, d]: [__m512i; TAPS]) -> [__m512i; TAPS] {
    let low = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let high = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low.0, low.1),
        _mm512_unpackhi_epi16(low.0, low.1),
        _mm512_unpacklo_epi16(high.0, high.1),
        _mm512_unpackhi_epi16(high.0, high.1),
    ]
}

/// Resizes rows of pixels with `C` channels horizontally.
///
/// Returns false, without writing to `out`, if this module cannot resize this picture.
pub(super) fn horizontal<const C: usize>(
    rows: Rows<'_>,
    weights: &Weights,
    out: &mut [u8],
) -> bool {
    if !is_supported() {
        return false;
    }
    let Some(columns) = WeightedColumns::of::<C>(weights) else { return false };
    // SAFETY: the processor has the instructions.
    unsafe { add_columns::<C>(rows, &columns, weights.spans.len(), out) };
    true
}

/// The weights of horizontal resizing, as digits, for [`COLUMNS`] output columns at a time.
struct WeightedColumns {
    /// Part of `groups` for each block of output columns.
    blocks: Vec<Range<usize>>,
    groups: Vec<ColumnGroup>,
}

/// The next [`TAPS`] input columns of each of [`COLUMNS`] output columns.
struct ColumnGroup {
    /// Position of the first input byte in its row.
    first: usize,
    /// Positions of the first channel's values, counted from `first`.
    places: [u8; BYTES],
    digits: [[u8; BYTES]; DIGITS],
}

impl WeightedColumns {
    /// Returns `None` if the columns of a group do not fit into two registers, as when a picture is made much smaller.
    fn of<const C: usize>(weights: &Weights) -> Option<Self> {
        let (mut blocks, mut groups) = (Vec::new(), Vec::new());
        for spans in weights.spans.chunks(COLUMNS) {
            let before = groups.len();
            let most = spans.iter().map(|span| span.weights.len()).max().unwrap_or(0);
            for at in (0..most).step_by(TAPS) {
                let first = spans[0].start + at;
                let mut group = ColumnGroup {
                    first: first * C,
                    places: [0; BYTES],
                    digits: [[0; BYTES]; DIGITS],
                };
                for (column, span) in spans.iter().enumerate() {
                    let weights = &weights.weights[span.weights.clone()];
                    for (tap, weight) in weights.iter().skip(at).take(TAPS).enumerate() {
                        let place = (span.start + at + tap - first) * C;
                        if place + C > 2 * BYTES {
                            return None;
                        }
                        group.places[column * TAPS + tap] = place as u8;
                        for (bytes, digit) in group.digits.iter_mut().zip(digits(*weight)?) {
                            bytes[column * TAPS + tap] = digit;
                        }
                    }
                }
                groups.push(group);
            }
            blocks.push(before..groups.len());
        }
        Some(Self { blocks, groups })
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn add_columns<const C: usize>(
    rows: Rows<'_>,
    columns: &WeightedColumns,
    to: usize,
    out: &mut [u8],
) {
    for y in 0..rows.count {
        let row = rows.at(y);
        for (block, groups) in columns.blocks.iter().enumerate() {
            let mut totals = [start_of_sum(); C];
            for group in &columns.groups[groups.clone()] {
                let rest = &row[group.first..];
                let [low, high] = [load(rest), load(rest.get(BYTES..).unwrap_or_default())];
                let places = load(&group.places);
                let digits = [0, 1, 2].map(|digit| load(&group.digits[digit]));
                for (channel, total) in (0..).zip(&mut totals) {
                    let places = _mm512_add_epi8(places, _mm512_set1_epi8(channel));
                    add_products(total, _mm512_permutex2var_epi8(low, places, high), digits);
                }
            }
            let levels = totals.map(|total| {
                let level = _mm512_max_epi32(rounded(total), _mm512_setzero_si512());
                _mm512_cvtusepi32_epi8(level)
            });
            // Later blocks overwrite what this one writes beyond its columns.
            let place = (y * to + block * COLUMNS) * C;
            let end = if block + 1 == columns.blocks.len() { (y + 1) * to * C } else { out.len() };
            store(interleaved(levels), &mut out[place..end]);
        }
    }
}

/// Returns pixels from the values of 16 pixels in each channel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn interleaved<const C: usize>(channels: [__m128i; C]) -> __m512i {
    const ORDER: [u8; BYTES] = {
        let (mut order, mut at) = ([0; BYTES], 0);
        while at < 3 * COLUMNS {
            order[at] = (at % 3 * COLUMNS + at / 3) as u8;
            at += 1;
        }
        order
    };
    let all = _mm512_castsi128_si512(channels[0]);
    if C != 3 {
        return all;
    }
    let all = _mm512_inserti32x4::<1>(all, channels[1]);
    let all = _mm512_inserti32x4::<2>(all, channels[2]);
    _mm512_permutexvar_epi8(load(&ORDER), all)
}

/// Returns the sums of each digit's products, before the first product. They start at 0.5 for rounding.
#[inline]
#[target_feature(enable = "avx512f")]
fn start_of_sum() -> [__m512i; DIGITS] {
    [_mm512_set1_epi32(HALF), _mm512_setzero_si512(), _mm512_setzero_si512()]
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_products(total: &mut [__m512i; DIGITS], values: __m512i, digits: [__m512i; DIGITS]) {
    for (sum, digits) in total.iter_mut().zip(digits) {
        *sum = _mm512_dpbusd_epi32(*sum, values, digits);
    }
}

/// Combines the sums of the digits, and rounds the result to an integer.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded([low, middle, high]: [__m512i; DIGITS]) -> __m512i {
    let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), middle);
    let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), low);
    _mm512_srai_epi32::<FRACTION>(sum)
}

/// Loads the first 64 bytes. Missing bytes are 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    let Some(block) = bytes.first_chunk::<BYTES>() else { return load_short(bytes) };
    // SAFETY: the block has 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[cold]
#[target_feature(enable = "avx512f")]
fn load_short(bytes: &[u8]) -> __m512i {
    let mut block = [0; BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    load(&block)
}

/// Stores 64 bytes, or as many as fit into `out`.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(bytes: __m512i, out: &mut [u8]) {
    let Some(block) = out.first_chunk_mut::<BYTES>() else { return store_short(bytes, out) };
    // SAFETY: the block has 64 bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), bytes) };
}

#[cold]
#[target_feature(enable = "avx512f")]
fn store_short(bytes: __m512i, out: &mut [u8]) {
    let mut block = [0; BYTES];
    store(bytes, &mut block);
    out.copy_from_slice(&block[..out.len()]);
}
