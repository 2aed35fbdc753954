//! Decodes JPEG's Huffman codes (ITU T.81, F.2.2), two coefficients at a time.
//!
//! Huffman codes take half of the time that decoding a training picture needs. Most of this time is latency, because
//! the start of a code is known only after the previous code is decoded. For this reason, each look-up uses more bits
//! than most codes have. If these bits contain two whole codes, one look-up returns two coefficients.

#![expect(
    clippy::inline_always,
    reason = "function calls in the loop over coefficients are too slow, and skipped blocks need their own copy of the loop"
)]

use super::idct::{BlockGroup, LANES};

/// Number of bits in the index of the lookup table for one coefficient.
const LOOK: u32 = 10;

/// Number of bits in the index of the lookup table for two coefficients.
const PAIR: u32 = 10;

/// Marks the end of a block. Larger than any distance between two coefficients.
const END: usize = 128;

/// Number of zero bytes to append to the coded data, because the reader loads bytes in advance.
pub(super) const PADDING: usize = 16;

/// Maps zigzag indices of coefficients to row-major indices.
const ZIGZAG: [u8; 2 * END] = zigzag();

const fn zigzag() -> [u8; 2 * END] {
    let mut order = [63; 2 * END];
    let (mut x, mut y, mut at) = (0, 0, 0);
    while at < 64 {
        order[at] = 8 * y + x;
        let upwards = (x + y) % 2 == 0;
        (x, y) = match (upwards, x, y) {
            (true, 7, _) | (false, 0, 0..7) => (x, y + 1),
            (true, _, 0) | (false, _, 7) => (x + 1, y),
            (true, ..) => (x + 1, y - 1),
            (false, ..) => (x - 1, y + 1),
        };
        at += 1;
    }
    order
}

/// The meaning of a Huffman code, packed into 32 bits.
///
/// - bits 0 to 7: length of the code and the value, in bits
/// - bits 8 to 15: length of the code, in bits
/// - bits 16 to 23: length of the value, in bits
/// - bits 24 to 31: distance from the previous coefficient, or [`END`]
#[derive(Clone, Copy)]
struct Symbol(u32);

impl Symbol {
    /// The entry for a code that is invalid or longer than [`LOOK`] bits.
    const NONE: Self = Self(0);

    fn new(byte: u8, code_bits: u32) -> Self {
        let (run, size) = (u32::from(byte >> 4), u32::from(byte & 15));
        // Without a value, run 15 means 16 zeros, and run 0 the end of the block. libjpeg treats all other runs as the
        // end, too.
        let step = if size == 0 && run < 15 { END as u32 } else { run + 1 };
        Self((code_bits + size) | code_bits << 8 | size << 16 | step << 24)
    }

    fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns the length of the code and the value together, in bits.
    fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns the distance from the previous coefficient; [`END`] at the end of the block.
    fn step(self) -> usize {
        (self.0 >> 24) as usize
    }

    /// Returns the value of the coefficient. `bits` starts with the Huffman code, followed by the bits of the value.
    fn value(self, bits: u64) -> i32 {
        let (code_bits, size) = (self.0 >> 8 & 0xff, self.0 >> 16 & 0xff);
        let bits = bits << code_bits;
        let value = (bits >> 1 >> (63 - size)) as i32;
        // Values whose first bit is 0 are negative (F.2.2.1, EXTEND).
        let negative = !((bits as i64 >> 63) as i32);
        value - (((1 << size) - 1) & negative)
    }
}

pub(super) struct Codes {
    look: Box<[Symbol; 1 << LOOK]>,
    // If the next 16 bits are below `above[n]`, they start with a code of at most `n` bits.
    above: [u32; 17],
    // `offset[n]` plus a code of `n` bits is the index of the code's symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// Builds a Huffman table (ITU T.81, annex C). `counts[i]` codes have `i + 1` bits.
    ///
    /// Returns `None` for tables that libjpeg rejects.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut look = Box::new([Symbol::NONE; 1 << LOOK]);
        let (mut above, mut offset) = ([0; 17], [0; 17]);
        let (mut code, mut at) = (0usize, 0);
        for (length, count) in (1u32..=16).zip(counts) {
            let count = usize::from(*count);
            offset[length as usize] = at as i32 - code as i32;
            for symbol in symbols.get(at..at + count)? {
                if length <= LOOK {
                    let range = (code << (LOOK - length))..(code + 1) << (LOOK - length);
                    look.get_mut(range)?.fill(Symbol::new(*symbol, length));
                }
                code += 1;
            }
            if code >= 1 << length {
                return None;
            }
            at += count;
            above[length as usize] = u32::try_from(code << (16 - length)).ok()?;
            code *= 2;
        }
        Some(Self { look, above, offset, symbols: symbols.to_vec() })
    }

    pub(super) fn are_dc(&self) -> bool {
        self.symbols.iter().all(|symbol| *symbol < 16)
    }

    #[inline(always)]
    fn symbol(&self, bits: u64) -> Symbol {
        let symbol = self.look[(bits >> (64 - LOOK)) as usize];
        if symbol.is_none() { self.long(bits) } else { symbol }
    }

    #[cold]
    fn long(&self, bits: u64) -> Symbol {
        let bits = (bits >> 48) as u32;
        let length = (LOOK + 1..=16).find(|length| bits < self.above[*length as usize]);
        let symbol = length.and_then(|length| {
            let at = (bits >> (16 - length)) as i32 + self.offset[length as usize];
            self.symbols.get(at as usize).map(|symbol| Symbol::new(*symbol, length))
        });
        symbol.unwrap_or(Symbol::NONE)
    }
}

/// One or two coefficients, packed into 64 bits. All distances start at the coefficient before this pair.
///
/// - bits 0 to 7: length of all codes and values, in bits
/// - bits 8 to 15: distance to the last coefficient
/// - bits 16 to 23: distance to the first coefficient
/// - bits 24 to 31: distance to the second coefficient
/// - bits 32 to 47: value of the first coefficient
/// - bits 48 to 63: value of the second coefficient; 0 if missing
#[derive(Clone, Copy)]
struct Pair(u64);

impl Pair {
    /// The entry for the end of a block, or for a coefficient of more than [`PAIR`] bits.
    const NONE: Self = Self((END << 8) as u64);

    fn new(codes: &Codes, bits: u64) -> Self {
        let whole = |symbol: Symbol, room: u32| {
            !symbol.is_none() && symbol.step() < END && symbol.bits() <= room
        };
        let one = codes.look[(bits >> (64 - LOOK)) as usize];
        if !whole(one, PAIR) {
            return Self::NONE;
        }
        let rest = bits << one.bits();
        let two = codes.look[(rest >> (64 - LOOK)) as usize];
        let level = |symbol: Symbol, bits: u64| u64::from(symbol.value(bits) as u16);
        let first = (one.step() as u64) << 16 | level(one, bits) << 32;
        if !whole(two, PAIR - one.bits()) {
            let step = one.step() as u64;
            return Self(u64::from(one.bits()) | step << 8 | (step + 1) << 24 | first);
        }
        let both = (one.step() + two.step()) as u64;
        let second = both << 24 | level(two, rest) << 48;
        Self(u64::from(one.bits() + two.bits()) | both << 8 | first | second)
    }

    fn bits(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    fn advance(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }

    /// Writes one or two coefficients to `block`, after the coefficient with index `k`.
    #[inline(always)]
    fn write(self, block: &mut BlockPlace<'_>, k: usize) {
        let steps = [(self.0 >> 24, self.0 >> 48), (self.0 >> 16, self.0 >> 32)];
        for (step, level) in steps {
            block.put(k + (step & 0xff) as usize, level as i16);
        }
    }
}

/// Where to write the coefficients of one block. The caller must first set all coefficients to 0.
pub(super) struct BlockPlace<'a> {
    pub(super) group: &'a mut BlockGroup,
    pub(super) lane: usize,
}

impl BlockPlace<'_> {
    /// Stores the coefficient `level` at the zigzag index `k`.
    #[inline(always)]
    pub(super) fn put(&mut self, k: usize, level: i16) {
        self.group[usize::from(ZIGZAG[k % (2 * END)] % 64)][self.lane % LANES] = level;
    }
}

pub(super) fn natural_order(values: &[u16; 64]) -> [u16; 64] {
    let mut ordered = [0; 64];
    for (value, at) in values.iter().zip(ZIGZAG) {
        ordered[usize::from(at)] = *value;
    }
    ordered
}

pub(super) struct AcCodes {
    codes: Codes,
    pairs: Box<[Pair; 1 << PAIR]>,
}

impl AcCodes {
    pub(super) fn new(codes: Codes) -> Self {
        let mut pairs = Box::new([Pair::NONE; 1 << PAIR]);
        for (bits, pair) in (0u64..).zip(pairs.iter_mut()) {
            *pair = Pair::new(&codes, bits << (64 - PAIR));
        }
        Self { codes, pairs }
    }
}

#[derive(Default, Clone, Copy)]
pub(super) struct BitPosition {
    byte: usize,
    /// The next bits of the data, starting with the highest bit.
    bits: u64,
    count: u32,
}

impl BitPosition {
    /// Returns a position at the start of the byte with index `byte`.
    pub(super) fn at(byte: usize) -> Self {
        Self { byte, bits: 0, count: 0 }
    }

    pub(super) fn position(self) -> usize {
        8 * self.byte - self.count as usize
    }
}

/// Reads Huffman codes. The methods return `None` if the data are invalid.
pub(super) struct BitReader<'a> {
    /// The coded data plus [`PADDING`] zero bytes, without stuffed zeros and markers.
    pub(super) data: &'a [u8],
    pub(super) place: BitPosition,
}

impl BitReader<'_> {
    /// Loads bits until at least 56 bits are available.
    #[inline(always)]
    fn fill(&mut self) -> Option<()> {
        let place = &mut self.place;
        let next = self.data.get(place.byte..)?.first_chunk()?;
        place.bits |= u64::from_be_bytes(*next) >> place.count;
        place.byte += ((63 - place.count) / 8) as usize;
        // After loading, the count is 56 to 63.
        place.count |= 0b11_1000;
        Some(())
    }

    #[inline(always)]
    fn pass(&mut self, bits: u32) {
        self.place.bits <<= bits;
        self.place.count -= bits;
    }

    /// Reads a DC coefficient, as the difference from the previous block of the component.
    pub(super) fn difference(&mut self, codes: &Codes) -> Option<i32> {
        self.fill()?;
        let symbol = codes.symbol(self.place.bits);
        let value = symbol.value(self.place.bits);
        self.pass(symbol.bits());
        (!symbol.is_none()).then_some(value)
    }

    /// Reads the AC coefficients of a block. If `block` is `None`, skips the coefficients.
    #[inline(always)]
    pub(super) fn coefficients(
        &mut self,
        codes: &AcCodes,
        mut block: Option<&mut BlockPlace<'_>>,
    ) -> Option<()> {
        let mut k = 0;
        while k < 64 {
            self.fill()?;
            // Four pairs take at most 40 bits, and at least 56 are loaded.
            for _ in 0..4 {
                let pair = codes.pairs[(self.place.bits >> (64 - PAIR)) as usize];
                if k + pair.advance() > 63 {
                    k = self.coefficient(&codes.codes, block.as_deref_mut(), k)?;
                    break;
                }
                if let Some(block) = block.as_deref_mut() {
                    pair.write(block, k);
                }
                self.pass(pair.bits());
                k += pair.advance();
            }
        }
        Some(())
    }

    /// Reads the next nonzero coefficient after the zigzag index `k`. Returns the coefficient's zigzag index.
    ///
    /// Returns 64 if the block has no more coefficients.
    #[inline(always)]
    fn coefficient(
        &mut self,
        codes: &Codes,
        block: Option<&mut BlockPlace<'_>>,
        k: usize,
    ) -> Option<usize> {
        if k == 63 {
            return Some(64);
        }
        self.fill()?;
        let bits = self.place.bits;
        let symbol = codes.symbol(bits);
        let k = k + symbol.step();
        self.pass(symbol.bits());
        match k {
            0..64 => {
                if let Some(block) = block {
                    block.put(k, symbol.value(bits) as i16);
                }
                (!symbol.is_none()).then_some(k)
            }
            END.. => Some(64),
            _ => None,
        }
    }
}
