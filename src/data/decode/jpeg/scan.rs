//! Reads the coefficients of baseline JPEG files with a single scan of all colour components.

use std::ops::Range;

use super::headers::{Headers, HuffmanTables, JpegFrame, TableChoice};
use super::huffman::{BitPosition, BitReader, BlockPlace, PADDING};
use super::idct::{BlockGroup, LANES};
use super::one_dimension::Steps;

/// The coded data of a JPEG file, and the read position.
pub(super) struct Scan {
    pub(super) frame: JpegFrame,
    /// Quantization table of each colour component.
    pub(super) steps: Vec<Steps>,
    /// The coded data plus [`PADDING`] zero bytes, without stuffed zeros and markers.
    data: Vec<u8>,
    /// Bit position of each restart marker in `data`, then the end of the data.
    ends: Vec<usize>,
    /// Restart interval in minimum coded units (MCUs); 0 without restart markers.
    interval: usize,
    tables: HuffmanTables,
    choices: Vec<TableChoice>,
    place: BitPosition,
    /// Number of restart markers read so far.
    restarts: usize,
    /// Minimum coded units (MCUs) read since the last restart marker.
    units: usize,
    /// Last DC coefficient of each colour component.
    last_dc: [i32; 4],
}

/// The coefficients of one row of minimum coded units (MCUs).
pub(super) struct UnitRow {
    /// Columns of minimum coded units (MCUs) to keep.
    kept: Range<usize>,
    /// Coefficients of all blocks of the first colour component, then of the next component.
    pub(super) groups: Vec<BlockGroup>,
    blocks: Vec<UnitBlock>,
}

struct UnitBlock {
    colour: usize,
    /// Index in [`UnitRow::groups`] of the first group of the block's row.
    groups: usize,
    /// Number of blocks of this component side by side in a minimum coded unit (MCU).
    across: usize,
    column: usize,
}

impl UnitRow {
    /// Allocates zero coefficients for the columns `kept` of minimum coded units (MCUs).
    pub(super) fn new(frame: &JpegFrame, kept: Range<usize>) -> Self {
        let (mut blocks, mut groups) = (Vec::new(), 0);
        for (colour, component) in frame.colours.iter().enumerate() {
            let [across, down] = component.blocks;
            for _ in 0..down {
                blocks.extend((0..across).map(|column| UnitBlock {
                    colour,
                    groups,
                    across,
                    column,
                }));
                groups += (kept.len() * across).div_ceil(LANES);
            }
        }
        Self { kept, groups: vec![[[0; LANES]; 64]; groups], blocks }
    }
}

impl Scan {
    /// Finds the coded data of a JPEG file. Returns `None` if only libjpeg can decode the file.
    pub(super) fn of(file: &[u8]) -> Option<Self> {
        let mut headers = Headers::default();
        let mut at = 2;
        loop {
            let [0xff, marker, high, low] = *file.get(at..)?.first_chunk()? else { return None };
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            let segment = file.get(at + 4..end)?;
            at = end;
            // SOS: start of the scan.
            if marker == 0xda {
                return Self::new(headers, segment, file.get(end..)?);
            }
            headers.read(marker, segment)?;
        }
    }

    fn new(headers: Headers, scan_header: &[u8], data: &[u8]) -> Option<Self> {
        let choices = headers.choices(scan_header)?;
        let steps = headers.steps()?;
        let (data, ends) = unstuffed(data, headers.interval > 0)?;
        Some(Self {
            frame: headers.frame?,
            steps,
            data,
            ends,
            interval: headers.interval,
            tables: headers.huffman,
            choices,
            place: BitPosition::default(),
            restarts: 0,
            units: 0,
            last_dc: [0; 4],
        })
    }

    /// Reads a row of `columns` minimum coded units (MCUs). If `row` is `None`, skips the coefficients.
    ///
    /// Returns `None` if the data are invalid.
    pub(super) fn read_row(&mut self, columns: usize, mut row: Option<&mut UnitRow>) -> Option<()> {
        let colours: Vec<_> = self.frame.colours.iter().map(|colour| colour.blocks).collect();
        for column in 0..columns {
            self.restart()?;
            match row.as_deref_mut().filter(|row| row.kept.contains(&column)) {
                Some(row) => self.keep_unit(column - row.kept.start, row)?,
                None => self.skip_unit(&colours)?,
            }
        }
        Some(())
    }

    /// If the restart interval is complete, moves the read position after the next restart marker.
    ///
    /// Returns `None` if the data are invalid.
    fn restart(&mut self) -> Option<()> {
        if self.interval > 0 && self.units == self.interval {
            let end = self.ends[self.restarts];
            let rest = end - self.place.position();
            if rest >= 8 || self.restarts + 1 == self.ends.len() {
                return None;
            }
            self.place = BitPosition::at(end / 8);
            self.restarts += 1;
            self.units = 0;
            self.last_dc = [0; 4];
        }
        self.units += 1;
        Some(())
    }

    /// Reads a minimum coded unit (MCU) and stores the coefficients in `row`.
    fn keep_unit(&mut self, column: usize, row: &mut UnitRow) -> Option<()> {
        let mut reader = BitReader { data: &self.data, place: self.place };
        for block in &row.blocks {
            let at = column * block.across + block.column;
            let group = &mut row.groups[block.groups + at / LANES];
            let mut place = BlockPlace { group, lane: at % LANES };
            let TableChoice { dc, ac } = self.choices[block.colour];
            let last = &mut self.last_dc[block.colour];
            *last = last.wrapping_add(reader.difference(self.tables.dc[dc].as_ref()?)?);
            place.put(0, *last as i16);
            reader.coefficients(self.tables.ac[ac].as_ref()?, Some(&mut place))?;
        }
        self.end_unit(reader.place)
    }

    /// Reads a minimum coded unit (MCU) without storing coefficients.
    ///
    /// `colours` has the number of blocks of each component, as `[across, down]`.
    fn skip_unit(&mut self, colours: &[[usize; 2]]) -> Option<()> {
        let mut reader = BitReader { data: &self.data, place: self.place };
        for (colour, [across, down]) in colours.iter().enumerate() {
            let TableChoice { dc, ac } = self.choices[colour];
            for _ in 0..across * down {
                let last = &mut self.last_dc[colour];
                *last = last.wrapping_add(reader.difference(self.tables.dc[dc].as_ref()?)?);
                reader.coefficients(self.tables.ac[ac].as_ref()?, None)?;
            }
        }
        self.end_unit(reader.place)
    }

    /// Moves the read position to `place`, after a minimum coded unit (MCU).
    ///
    /// Returns `None` if `place` is after the end of the restart interval.
    fn end_unit(&mut self, place: BitPosition) -> Option<()> {
        self.place = place;
        (place.position() <= self.ends[self.restarts]).then_some(())
    }
}

/// Copies the coded data without stuffed zeros, and appends [`PADDING`] zero bytes.
///
/// If `restarts` is true, also removes restart markers. Returns the data and the positions of these markers in bits.
fn unstuffed(data: &[u8], restarts: bool) -> Option<(Vec<u8>, Vec<usize>)> {
    let mut clean = Vec::with_capacity(data.len() + PADDING);
    let mut ends = Vec::new();
    let mut rest = data;
    loop {
        let at = memchr::memchr(0xff, rest)?;
        let marker = *rest.get(at + 1)?;
        // 0xff with a stuffed zero is a data byte, so keep the 0xff.
        clean.extend_from_slice(&rest[..at + usize::from(marker == 0)]);
        match marker {
            0 => {}
            // Fill bytes before a marker: leave the file to libjpeg.
            0xff => return None,
            0xd0..=0xd7 if restarts => {
                if usize::from(marker & 7) != ends.len() % 8 {
                    return None;
                }
                ends.push(8 * clean.len());
            }
            _ => break,
        }
        rest = &rest[at + 2..];
    }
    ends.push(8 * clean.len());
    clean.resize(clean.len() + PADDING, 0);
    Some((clean, ends))
}
