//! Decodes the CCITT codes of fax machines: modified Huffman, group 3 and group 4 (ITU-T T.4 and T.6).
//!
//! The code tables come from the crate `fax`. The decoders of that crate do not support lines without end markers, or
//! two-dimensional group 3.

use std::convert::Infallible;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

use super::layout::Layout;
use crate::data::decode::error::ImageError;

/// Number of bits of 0 before the final bit of 1 in the end-of-line marker.
const EOL_ZEROS: u8 = 11;

/// Reads bits from the highest to the lowest bit of each byte. After the end, reads zeros.
struct Bits<'a> {
    data: &'a [u8],
    /// Read position in bits.
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |i| u32::from(self.data.get(self.at / 8 + i).copied().unwrap_or(0));
        let three = byte(0) << 16 | byte(1) << 8 | byte(2);
        let shift = 24 - self.at % 8 - usize::from(bits);
        Some((three >> shift) as u16 & (u16::MAX >> (16 - bits)))
    }

    fn consume(&mut self, bits: u8) -> Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        ((8 - self.at % 8) % 8) as u8
    }
}

impl Bits<'_> {
    fn is_at_end(&self) -> bool {
        self.at >= 8 * self.data.len()
    }

    /// Reads one bit.
    fn flag(&mut self) -> bool {
        let flag = self.peek(1) == Some(1);
        self.at += 1;
        flag
    }

    /// Skips bits of 0 and an end-of-line marker, if this marker comes next.
    fn skip_end_of_line(&mut self) {
        if self.peek(EOL_ZEROS) == Some(0) {
            while !self.is_at_end() && !self.flag() {}
        }
    }

    /// Reads the length of a run of black or white pixels. Returns `None` if the code is invalid.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let mut sum = 0;
        loop {
            let part = if is_black { black::decode(self) } else { white::decode(self) }?;
            sum += usize::from(part);
            if part < 64 {
                return Some(sum);
            }
        }
    }

    /// Reads a line with one-dimensional coding.
    ///
    /// Returns the columns where the colour changes. A line starts with white.
    fn line(&mut self, width: usize) -> Option<Vec<usize>> {
        let (mut changes, mut at) = (Vec::new(), 0);
        while at < width {
            at += self.run(changes.len() % 2 == 1)?;
            changes.push(at.min(width));
        }
        Some(changes)
    }

    /// Reads a line with two-dimensional coding.
    ///
    /// Returns the columns where the colour changes. `above` lists the colour changes in the line above.
    fn line_below(&mut self, above: &[usize], width: usize) -> Option<Vec<usize>> {
        let mut changes: Vec<usize> = Vec::new();
        let mut at = 0;
        let mut first = true;
        while at < width {
            let is_black = changes.len() % 2 == 1;
            // Finds the first change above and to the right that leads to the opposite colour.
            let passed = if first { 0 } else { above.partition_point(|change| *change <= at) };
            let index = passed + usize::from((passed % 2 == 1) != is_black);
            let b1 = above.get(index).copied().unwrap_or(width);
            match mode::decode(self)? {
                Mode::Pass => at = above.get(index + 1).copied().unwrap_or(width),
                Mode::Horizontal => {
                    for black in [is_black, !is_black] {
                        at = (at + self.run(black)?).min(width);
                        changes.push(at);
                    }
                }
                Mode::Vertical(shift) => {
                    at = b1.checked_add_signed(shift.into())?.min(width);
                    if changes.last().is_some_and(|last| at < *last) {
                        return None;
                    }
                    changes.push(at);
                }
                Mode::Extension | Mode::EOF => return None,
            }
            first = false;
        }
        Some(changes)
    }
}

/// Decodes `height` lines of `width` pixels. Returns bits, with 1 for a black pixel.
pub(super) fn decode(
    data: &[u8],
    layout: &Layout,
    width: usize,
    height: usize,
) -> Result<Vec<u8>, ImageError> {
    if layout.bits != 1 || layout.samples_in_chunk() != 1 {
        return Err(layout.unsupported());
    }
    let mut bits = Bits { data, at: 0 };
    let mut out = Vec::with_capacity(width.div_ceil(8) * height);
    let mut above = Vec::new();
    for _ in 0..height {
        if bits.is_at_end() {
            return Err(ImageError::Truncated);
        }
        let changes = match layout.compression {
            2 => {
                bits.at = bits.at.next_multiple_of(8);
                bits.line(width)
            }
            3 => {
                bits.skip_end_of_line();
                // In two-dimensional files, a bit says whether the line is one-dimensional.
                let alone = layout.fax_options & 1 == 0 || bits.flag();
                if alone { bits.line(width) } else { bits.line_below(&above, width) }
            }
            _ => bits.line_below(&above, width),
        };
        above = changes
            .ok_or_else(|| ImageError::damaged("the CCITT fax data contains an invalid code"))?;
        write_line(&above, width, &mut out);
    }
    Ok(out)
}

/// Appends the pixels of a line as bits. `changes` are the columns where the colour changes.
fn write_line(changes: &[usize], width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width.div_ceil(8), 0);
    for pair in changes.chunks(2) {
        let end = pair.get(1).copied().unwrap_or(width);
        for column in pair[0]..end {
            out[start + column / 8] |= 0x80 >> (column % 8);
        }
    }
}
