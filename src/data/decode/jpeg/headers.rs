//! Reads the headers of the JPEG files that `plain.rs` can decode (ITU T.81, annex B).
//!
//! If a file has any unusual header, libjpeg decodes the file instead.

use super::huffman::{AcCodes, Codes, natural_order};
use super::one_dimension::Steps;

/// Maximum number of blocks in a minimum coded unit (ITU T.81, B.2.3).
const MOST_BLOCKS: usize = 10;

#[derive(Default)]
pub(super) struct Headers {
    pub(super) frame: Option<JpegFrame>,
    pub(super) huffman: HuffmanTables,
    quantization: [Option<[u16; 64]>; 4],
    /// Restart interval in minimum coded units (MCUs); 0 without restart markers.
    pub(super) interval: usize,
}

pub(super) struct JpegFrame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) colours: Vec<ColourComponent>,
}

/// A colour component: luma or one of the two chroma channels.
pub(super) struct ColourComponent {
    id: u8,
    /// Number of 8 × 8 blocks per minimum coded unit (MCU), as `[across, down]`.
    pub(super) blocks: [usize; 2],
    quantization: usize,
}

#[derive(Default)]
pub(super) struct HuffmanTables {
    pub(super) dc: [Option<Codes>; 4],
    pub(super) ac: [Option<AcCodes>; 4],
}

#[derive(Clone, Copy)]
pub(super) struct TableChoice {
    pub(super) dc: usize,
    pub(super) ac: usize,
}

impl Headers {
    /// Reads one header segment. Returns `None` if only libjpeg can decode the file.
    pub(super) fn read(&mut self, marker: u8, segment: &[u8]) -> Option<()> {
        match marker {
            // SOF0 and SOF1: frame header, baseline or extended sequential.
            0xc0 | 0xc1 if self.frame.is_none() => self.frame = Some(JpegFrame::of(segment)?),
            // DHT: Huffman tables.
            0xc4 => self.huffman.read(segment)?,
            // DQT: quantization tables.
            0xdb => self.read_quantization(segment)?,
            // DRI: restart interval.
            0xdd => self.interval = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
            // APPn and COM: application data and comments, which are skipped.
            0xe0..=0xef | 0xfe => {}
            _ => return None,
        }
        Some(())
    }

    fn read_quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [which, rest @ ..] = segment {
            let place = self.quantization.get_mut(usize::from(which & 15))?;
            let (steps, rest) = match which >> 4 {
                0 => {
                    let (steps, rest) = rest.split_first_chunk::<64>()?;
                    (steps.map(u16::from), rest)
                }
                1 => {
                    let (steps, rest) = rest.split_first_chunk::<128>()?;
                    let steps = steps.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair));
                    (steps.collect::<Vec<_>>().try_into().ok()?, rest)
                }
                _ => return None,
            };
            *place = Some(natural_order(&steps));
            segment = rest;
        }
        Some(())
    }

    /// Reads the scan header. Returns the Huffman tables of each colour component.
    ///
    /// Returns `None` if the header is invalid or the file is progressive.
    pub(super) fn choices(&self, scan_header: &[u8]) -> Option<Vec<TableChoice>> {
        let [count, selectors @ .., 0, 63, 0] = scan_header else { return None };
        let colours = &self.frame.as_ref()?.colours;
        if usize::from(*count) != colours.len() || selectors.len() != 2 * colours.len() {
            return None;
        }
        let pairs = colours.iter().zip(selectors.as_chunks().0);
        pairs
            .map(|(colour, [id, table])| {
                let choice =
                    TableChoice { dc: usize::from(table >> 4), ac: usize::from(table & 15) };
                let dc = self.huffman.dc.get(choice.dc)?.as_ref()?;
                self.huffman.ac.get(choice.ac)?.as_ref()?;
                (*id == colour.id && dc.are_dc()).then_some(choice)
            })
            .collect()
    }

    /// Returns the quantization table of each colour component; `None` if one is missing.
    pub(super) fn steps(&self) -> Option<Vec<Steps>> {
        let steps = |colour: &ColourComponent| {
            let steps = self.quantization.get(colour.quantization)?.as_ref()?;
            Some(steps.map(u16::cast_signed))
        };
        self.frame.as_ref()?.colours.iter().map(steps).collect()
    }
}

impl JpegFrame {
    fn of(header: &[u8]) -> Option<Self> {
        let [8, h1, h0, w1, w0, count, parts @ ..] = header else { return None };
        let colours: Vec<_> = parts
            .as_chunks()
            .0
            .iter()
            .map(|[id, sampling, quantization]| {
                let blocks = [usize::from(sampling >> 4), usize::from(sampling & 15)];
                // In a scan of one colour, a unit is one block, whatever the sampling factors are (A.2.2).
                let blocks = if *count == 1 { [1, 1] } else { blocks };
                ColourComponent { id: *id, blocks, quantization: usize::from(*quantization) }
            })
            .collect();
        let blocks: usize = colours.iter().map(|colour| colour.blocks[0] * colour.blocks[1]).sum();
        let complete = parts.len() == 3 * usize::from(*count)
            && matches!(count, 1 | 3)
            && blocks <= MOST_BLOCKS
            && colours.iter().all(|colour| !colour.blocks.contains(&0));
        let size = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
        complete.then_some(Self { width: size(w1, w0), height: size(h1, h0), colours })
    }

    /// Returns the maximum number of blocks per minimum coded unit (MCU) over all components, as `[across, down]`.
    pub(super) fn most_blocks(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.colours.iter().map(|colour| colour.blocks[axis]).max().unwrap_or(1))
    }
}

impl HuffmanTables {
    /// Reads a segment of Huffman tables. Returns `None` if a table is invalid or already defined.
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

fn fill<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}
