//! Decodes rectangles of baseline JPEG files without libjpeg.
//!
//! The pixels are bitwise equal to those of libjpeg-turbo with its islow transform and fancy upsampling.
//!
//! The decoder reads one row of minimum coded units (MCUs) after another. It reads the blocks above and beside the
//! rectangle, but does not transform them. It does not read the blocks below the rectangle. Each row of MCUs becomes
//! pixels immediately, while its samples are in the processor's cache.
//!
//! In most files, the colour differences have half the width or height of the luma. The decoder interpolates between
//! the nearest samples. At an edge of the picture, the outermost sample also replaces its missing neighbour.

use std::ops::Range;

use super::colour::{blend, copy, grey_to_rgb, round, widen, ycc_to_rgb};
use super::headers::JpegFrame;
use super::idct::{BlockGroup, LANES, transform};
use super::one_dimension::Steps;
use super::scan::{Scan, UnitRow};
use crate::data::decode::picture::CropBox;

/// Number of pixels beyond each side of the crop rectangle that chroma interpolation needs.
const MARGIN: usize = 2;

/// Decodes the rectangle `crop` of a picture that is scaled by 1/`shrink`.
///
/// Returns `None` if the file is damaged or has unsupported chroma subsampling.
pub(super) fn decode(mut scan: Scan, crop: CropBox, shrink: usize) -> Option<Vec<u8>> {
    let layout = Layout::new(&scan.frame, shrink)?;
    let columns = layout.units(0, crop.left..crop.left + crop.width);
    let rows = layout.units(1, crop.top..crop.top + crop.height);
    for _ in 0..rows.start {
        scan.read_row(layout.all_units[0], None)?;
    }
    let mut coefficients = UnitRow::new(&scan.frame, columns.clone());
    let mut planes: Vec<_> =
        layout.colours.iter().map(|colour| Plane::new(colour, &columns)).collect();
    let mut scratch = Default::default();
    let mut pixels = vec![0; crop.height * crop.width * 3];
    let mut out = (crop.top..).zip(pixels.chunks_exact_mut(crop.width * 3));
    let mut done = crop.top;
    for row in rows.clone() {
        scan.read_row(layout.all_units[0], Some(&mut coefficients))?;
        let mut groups = coefficients.groups.iter_mut();
        for (plane, steps) in planes.iter_mut().zip(&scan.steps) {
            plane.read(row, &mut groups, steps);
        }
        // The last row of pixels may need the next row of units.
        let end = if row + 1 == rows.end { usize::MAX } else { (row + 1) * layout.unit[1] - 1 };
        for (y, out) in out.by_ref().take(end.saturating_sub(done)) {
            convert(&planes, y, crop.left..crop.left + crop.width, &mut scratch, out);
        }
        done = done.max(end);
    }
    Some(pixels)
}

fn convert(
    planes: &[Plane<'_>],
    y: usize,
    columns: Range<usize>,
    [cb_scratch, cr_scratch]: &mut [RowScratch; 2],
    out: &mut [u8],
) {
    match planes {
        [luma, cb, cr] => {
            let cb = cb.row(y, columns.clone(), cb_scratch);
            let cr = cr.row(y, columns.clone(), cr_scratch);
            ycc_to_rgb(luma.samples(y, columns), cb, cr, out);
        }
        [luma, ..] => grey_to_rgb(luma.samples(y, columns), out),
        [] => unreachable!("a JPEG frame has at least one colour component"),
    }
}

/// Sizes of the scaled picture. Pairs are (horizontal, vertical).
struct Layout {
    /// Pixels per minimum coded unit (MCU).
    unit: [usize; 2],
    /// Number of minimum coded units (MCUs) in the picture.
    all_units: [usize; 2],
    colours: Vec<ColourLayout>,
}

/// Sizes of one colour component. Pairs are (horizontal, vertical).
struct ColourLayout {
    /// Side length of a block after the inverse DCT, in samples.
    size: usize,
    /// Blocks per minimum coded unit (MCU).
    blocks: [usize; 2],
    /// Number of samples of this component in the whole picture.
    samples: [usize; 2],
    /// Whether the component has half the resolution of the picture, as `[horizontally, vertically]`.
    doubled: [bool; 2],
}

impl Layout {
    /// Computes the sizes for a scaled picture.
    ///
    /// Returns `None` for unsupported chroma subsampling.
    fn new(frame: &JpegFrame, shrink: usize) -> Option<Self> {
        let most = frame.most_blocks();
        let picture = [frame.width, frame.height];
        // The side of a transformed luma block.
        let size = 8 / shrink;
        let colours = frame.colours.iter().map(|colour| {
            let blocks = colour.blocks;
            let mut own = size;
            // If possible, libjpeg transforms to a larger block instead of interpolating.
            while own < 8
                && (0..2).all(|axis| (most[axis] * size).is_multiple_of(blocks[axis] * own * 2))
            {
                own *= 2;
            }
            let samples =
                [0, 1].map(|axis| (picture[axis] * blocks[axis] * own).div_ceil(most[axis] * 8));
            let whole = [0, 1].map(|axis| most[axis] * size == blocks[axis] * own);
            let doubled = [0, 1].map(|axis| most[axis] * size == 2 * blocks[axis] * own);
            let known = (0..2).all(|axis| whole[axis] || doubled[axis]);
            // libjpeg repeats samples, instead of interpolating, in tiny pictures and at 1/8 of the size.
            let repeats = doubled[0] && samples[0] <= 2 || doubled.contains(&true) && size == 1;
            (known && !repeats).then_some(ColourLayout { size: own, blocks, samples, doubled })
        });
        let colours: Vec<_> = colours.collect::<Option<_>>()?;
        if colours[0].doubled.contains(&true) {
            return None;
        }
        Some(Self {
            unit: most.map(|blocks| blocks * size),
            all_units: [0, 1].map(|axis| picture[axis].div_ceil(8 * most[axis])),
            colours,
        })
    }

    /// Returns the minimum coded units (MCUs) that contain `pixels` and [`MARGIN`] pixels on both sides.
    ///
    /// `pixels` are columns if `axis` is 0, and rows if `axis` is 1.
    fn units(&self, axis: usize, pixels: Range<usize>) -> Range<usize> {
        let end = (pixels.end + MARGIN).div_ceil(self.unit[axis]);
        pixels.start.saturating_sub(MARGIN) / self.unit[axis]..end.min(self.all_units[axis])
    }
}

/// Samples of a colour component in one row of minimum coded units (MCUs).
///
/// The first stored row is an extra row: the last row of samples from the MCUs above.
struct Plane<'a> {
    layout: &'a ColourLayout,
    /// Column of the first stored sample, in samples from the left edge of the picture.
    left: usize,
    /// Row of the first sample after the extra row, in samples from the top of the picture.
    top: usize,
    /// Number of samples per stored row.
    stride: usize,
    samples: Vec<u8>,
}

#[derive(Default)]
struct RowScratch {
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl<'a> Plane<'a> {
    fn new(layout: &'a ColourLayout, columns: &Range<usize>) -> Self {
        let [across, down] = layout.blocks;
        let stride = (columns.len() * across).next_multiple_of(LANES) * layout.size;
        Self {
            layout,
            left: columns.start * across * layout.size,
            top: 0,
            stride,
            samples: vec![0; (1 + down * layout.size) * stride],
        }
    }

    /// Converts a row of minimum coded units (MCUs) from coefficients to samples. `row` is the index of the MCU row.
    ///
    /// Also resets the coefficients to 0.
    fn read<'b>(
        &mut self,
        row: usize,
        groups: &mut impl Iterator<Item = &'b mut BlockGroup>,
        steps: &Steps,
    ) {
        let ColourLayout { size, blocks: [_, down], .. } = *self.layout;
        self.top = row * down * size;
        let last = self.samples.len() - self.stride;
        self.samples.copy_within(last.., 0);
        for out in self.samples[self.stride..].chunks_exact_mut(self.stride * size) {
            for (start, group) in (0..self.stride).step_by(LANES * size).zip(&mut *groups) {
                transform(group, steps, size, &mut out[start..], self.stride);
                *group = [[0; LANES]; 64];
            }
        }
    }

    fn samples(&self, row: usize, columns: Range<usize>) -> &[u8] {
        let row = &self.samples[(1 + row - self.top) * self.stride..][..self.stride];
        &row[columns.start - self.left..columns.end - self.left]
    }

    /// Returns one sample for each pixel of row `y`. Interpolates if the component has half the picture's resolution.
    fn row<'b>(&'b self, y: usize, columns: Range<usize>, scratch: &'b mut RowScratch) -> &'b [u8] {
        let ColourLayout { samples: [width, height], doubled: [wide, high], .. } = *self.layout;
        // The samples that are needed, including neighbours for interpolation.
        let first = if wide { columns.start / 2 } else { columns.start };
        let end = if wide { columns.end.div_ceil(2) } else { columns.end };
        let with_neighbours = first.saturating_sub(1)..(end + 1).min(width);
        let needed = if wide { with_neighbours } else { first..end };
        let RowScratch { sums, row } = scratch;
        if !high && !wide {
            return self.samples(y, columns);
        }
        sums.resize(end - first + 2, 0);
        // If there is no left neighbour, its place stays free.
        let place = if wide { needed.start + 1 - first } else { 0 };
        let sums_of_needed = &mut sums[place..][..needed.len()];
        if high {
            let near = y / 2;
            let far = if y.is_multiple_of(2) {
                near.saturating_sub(1)
            } else {
                (near + 1).min(height - 1)
            };
            blend(
                self.samples(near, needed.clone()),
                self.samples(far, needed.clone()),
                sums_of_needed,
            );
        } else {
            copy(self.samples(y, needed.clone()), sums_of_needed);
        }
        if !wide {
            row.resize(needed.len(), 0);
            round(&sums[..needed.len()], if y.is_multiple_of(2) { 1 } else { 2 }, 2, row);
            return row;
        }
        if needed.start == first {
            sums[0] = sums[1];
        }
        if needed.end == end {
            sums[end - first + 1] = sums[end - first];
        }
        row.resize(2 * (end - first), 0);
        let (biases, bits) = if high { ([8, 7], 4) } else { ([1, 2], 2) };
        widen(&sums[..end - first + 2], biases, bits, row);
        &row[columns.start % 2..][..columns.len()]
    }
}
