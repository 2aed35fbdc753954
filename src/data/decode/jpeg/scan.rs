//! Reads the coefficients of plain JPEG files: files with one baseline scan of all colours and no errors.

use std::ops::Range;

use super::huffman::{AcCodes, BitPosition, BitReader, Codes, PADDING};

/// Maximum number of blocks in a minimum coded unit (MCU; ITU T.81, B.2.3).
const MOST_BLOCKS: usize = 10;

/// The coded data of a JPEG file, and the read position.
pub(super) struct Scan {
    /// The coded data without stuffed bytes and markers, followed by [`PADDING`] zero bytes.
    data: Vec<u8>,
    /// Bit positions in `data` of all restarts. The last entry is the end of `data` without the padding.
    ends: Vec<usize>,
    /// Restart interval in minimum coded units (MCUs); 0 if the file has no restarts.
    interval: usize,
    tables: HuffmanTables,
    /// The blocks of a minimum coded unit (MCU).
    blocks: Vec<CoefficientBlock>,
    /// Width of a minimum coded unit (MCU) in pixels.
    unit_width: usize,
    /// Number of minimum coded units (MCUs) in a row of the picture.
    columns: usize,
    /// Columns of minimum coded units (MCUs) whose coefficients are needed. Other coefficients are skipped.
    kept: Range<usize>,
    /// Column of the next minimum coded unit (MCU).
    column: usize,
    place: BitPosition,
    /// Number of restarts that have been read.
    restarts: usize,
    /// Number of minimum coded units (MCUs) since the last restart.
    units: usize,
    /// The last DC coefficient of each colour component.
    last_dc: [i32; 4],
    /// Whether the data read so far have no errors.
    sound: bool,
}

#[derive(Default)]
struct HuffmanTables {
    dc: [Option<Codes>; 4],
    ac: [Option<AcCodes>; 4],
}

/// Indices of the Huffman tables and of the colour component of a block.
struct CoefficientBlock {
    dc: usize,
    ac: usize,
    colour: usize,
}

/// The frame header of a JPEG file.
struct JpegFrame {
    width: usize,
    colours: Vec<ColourComponent>,
}

struct ColourComponent {
    id: u8,
    /// Number of blocks in a minimum coded unit (MCU): horizontally, vertically.
    blocks: (usize, usize),
}

impl Scan {
    /// Finds the coded data of a JPEG file.
    ///
    /// Returns `None` if the file needs libjpeg, because it is progressive or uses another rare feature.
    pub(super) fn of(file: &[u8]) -> Option<Self> {
        let mut tables = HuffmanTables::default();
        let (mut frame, mut interval) = (None, 0);
        let mut at = 2;
        loop {
            let [0xff, marker, high, low] = *file.get(at..)?.first_chunk()? else { return None };
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            let segment = file.get(at + 4..end)?;
            at = end;
            match marker {
                // SOF0, baseline, and SOF1, extended sequential.
                0xc0 | 0xc1 if frame.is_none() => frame = Some(JpegFrame::of(segment)?),
                // DHT.
                0xc4 => tables.read(segment)?,
                // DRI.
                0xdd => interval = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
                // SOS.
                0xda => return Self::new(&frame?, segment, tables, interval, file.get(end..)?),
                // DQT, APPn and COM.
                0xdb | 0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    fn new(
        frame: &JpegFrame,
        header: &[u8],
        tables: HuffmanTables,
        interval: usize,
        data: &[u8],
    ) -> Option<Self> {
        let [count, selectors @ .., 0, 63, 0] = header else { return None };
        let colours = &frame.colours;
        if usize::from(*count) != colours.len() || selectors.len() != 2 * colours.len() {
            return None;
        }
        let mut blocks = Vec::new();
        for (index, (colour, selector)) in colours.iter().zip(selectors.as_chunks().0).enumerate() {
            let [id, table] = *selector;
            let (dc, ac) = (usize::from(table >> 4), usize::from(table & 15));
            tables.dc.get(dc)?.as_ref()?;
            tables.ac.get(ac)?.as_ref()?;
            let count = colour.blocks.0 * colour.blocks.1;
            if id != colour.id || blocks.len() + count > MOST_BLOCKS {
                return None;
            }
            blocks.extend((0..count).map(|_| CoefficientBlock { dc, ac, colour: index }));
        }
        let unit_width = 8 * colours.iter().map(|colour| colour.blocks.0).max()?;
        if unit_width == 0 {
            return None;
        }
        let columns = frame.width.div_ceil(unit_width);
        let (data, ends) = unstuffed(data, interval > 0)?;
        Some(Self {
            data,
            ends,
            interval,
            tables,
            blocks,
            unit_width,
            columns,
            kept: 0..columns,
            column: 0,
            place: BitPosition::default(),
            restarts: 0,
            units: 0,
            last_dc: [0; 4],
            sound: true,
        })
    }

    /// Selects the columns of minimum coded units (MCUs) whose coefficients are needed.
    ///
    /// These MCUs cover `width` pixels from column `left`. Both are in pixels of the picture at 1/`shrink` of its size.
    pub(super) fn keep(&mut self, left: usize, width: usize, shrink: usize) {
        self.kept =
            left * shrink / self.unit_width..((left + width) * shrink).div_ceil(self.unit_width);
    }

    /// Returns whether the data read so far have no errors.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Reads the next minimum coded unit (MCU). After an error, reads nothing.
    ///
    /// `block(i)` returns the zeroed memory of block `i` of the MCU. If `block` is `None`, or the column of the MCU is
    /// not needed, skips the coefficients.
    pub(super) fn read_unit<'a>(&mut self, block: Option<impl Fn(usize) -> &'a mut [i16; 64]>) {
        let block = block.filter(|_| self.kept.contains(&self.column));
        self.column += 1;
        if self.column == self.columns {
            self.column = 0;
        }
        self.sound = self.sound && self.restart().is_some();
        self.sound = self.sound && self.blocks_of_unit(block.as_ref()).is_some();
    }

    /// Continues after the next restart marker if the restart interval is over (ITU T.81, F.2.1.3.1).
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

    fn blocks_of_unit<'a>(
        &mut self,
        block: Option<&impl Fn(usize) -> &'a mut [i16; 64]>,
    ) -> Option<()> {
        let mut reader = BitReader { data: &self.data, place: self.place };
        for (index, &CoefficientBlock { dc, ac, colour }) in self.blocks.iter().enumerate() {
            let dc = self.tables.dc[dc].as_ref()?;
            let ac = self.tables.ac[ac].as_ref()?;
            let last = &mut self.last_dc[colour];
            *last = last.wrapping_add(reader.difference(dc)?);
            if let Some(block) = block {
                let block = block(index);
                block[0] = *last as i16;
                reader.coefficients(ac, Some(block))?;
            } else {
                reader.coefficients(ac, None)?;
            }
        }
        self.place = reader.place;
        (self.place.position() <= self.ends[self.restarts]).then_some(())
    }
}

impl JpegFrame {
    fn of(header: &[u8]) -> Option<Self> {
        let [8, _, _, high, low, count, parts @ ..] = header else { return None };
        let colours: Vec<_> = parts
            .as_chunks()
            .0
            .iter()
            .map(|[id, sampling, _]| {
                let blocks = (usize::from(sampling >> 4), usize::from(sampling & 15));
                // In a scan of one colour, a unit is one block, whatever the sampling factors are (A.2.2).
                ColourComponent { id: *id, blocks: if *count == 1 { (1, 1) } else { blocks } }
            })
            .collect();
        let width = usize::from(u16::from_be_bytes([*high, *low]));
        let complete = parts.len() == 3 * usize::from(*count) && colours.len() <= 4;
        complete.then_some(Self { width, colours })
    }
}

impl HuffmanTables {
    /// Reads a segment of Huffman tables.
    ///
    /// Returns `None` if a table is invalid, or if a table has the number of an earlier table. So a malicious file
    /// cannot make the decoder build many tables.
    fn read(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [which, rest @ ..] = segment {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let codes = Codes::new(counts, symbols)?;
            let place = usize::from(which & 15);
            match which >> 4 {
                0 => fill(self.dc.get_mut(place)?, codes)?,
                1 => fill(self.ac.get_mut(place)?, AcCodes::new(codes))?,
                _ => return None,
            }
            segment = rest;
        }
        Some(())
    }
}

/// Stores `value` in `place`. Returns `None` if `place` already has a value.
fn fill<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

/// Copies the coded data up to the next marker, without stuffed zero bytes. Appends [`PADDING`] zero bytes.
///
/// If `restarts` is true, leaves out restart markers and continues after them. Also returns the bit positions of the
/// restarts and of the end of the data.
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
