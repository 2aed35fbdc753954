//! Decodes JPEG's Huffman codes (ITU T.81, F.2.2), two coefficients at a time.
//!
//! Decoding them takes half the time of decoding a training picture. Most of this is latency, because a code's start is
//! known only after the previous code is decoded. So each look-up takes more bits than most codes have. If these bits
//! contain two whole codes, one look-up returns two coefficients.

#![expect(
    clippy::inline_always,
    reason = "function calls in the loop over coefficients are too slow, and skipped blocks need their own copy of the loop"
)]

use super::idct::{BlockGroup, LANES};

/// Number of bits that index the table of single codes. Longer codes are rare and are found by a search.
const LOOK: u32 = 10;

/// Number of bits that index the table of pairs of codes. A larger table would take more time to build than it saves.
const PAIR: u32 = 10;

/// The step of an end-of-block code. It is large enough to skip all remaining coefficients.
const END: usize = 128;

/// Number of zero bytes that must follow the data, because the reader loads bytes before it needs them.
pub(super) const PADDING: usize = 16;

/// Zigzag order: the position in the block of each coefficient of the file.
///
/// Indices above 63 belong to zeros that are written before the last coefficient, which overwrites them.
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

/// A code with its meaning: a run of zeros, then a value. `size` bits of the value follow the code.
///
/// Bits 0 to 7 are the length of code and value, bits 8 to 15 the length of the code, bits 16 to 23 `size`, and bits 24
/// to 31 the step.
#[derive(Clone, Copy)]
struct Symbol(u32);

impl Symbol {
    /// Marks an invalid code, or a code of more than [`LOOK`] bits.
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

    /// Returns the length of code and value in bits, at most 31.
    fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns the distance from the previous coefficient, or [`END`] at the end of a block.
    fn step(self) -> usize {
        (self.0 >> 24) as usize
    }

    /// Returns the value. `bits` must begin with the code.
    fn value(self, bits: u64) -> i32 {
        let (code_bits, size) = (self.0 >> 8 & 0xff, self.0 >> 16 & 0xff);
        let bits = bits << code_bits;
        let value = (bits >> 1 >> (63 - size)) as i32;
        // Values whose first bit is 0 are negative (F.2.2.1, EXTEND).
        let negative = !((bits as i64 >> 63) as i32);
        value - (((1 << size) - 1) & negative)
    }
}

/// One Huffman table.
pub(super) struct Codes {
    look: Box<[Symbol; 1 << LOOK]>,
    /// For each code length, an upper limit: the next 16 bits of the data are below it if they begin with a code of this
    /// length or less.
    above: [u32; 17],
    /// For each code length, the index of a symbol minus its code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// Builds the table (T.81, annex C). `counts` are the numbers of codes with 1 to 16 bits. Returns `None` if libjpeg
    /// would reject the table, because a code is too long or has only ones.
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

    /// Returns whether all symbols are valid sizes of a DC difference.
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

/// One or two coefficients, from one look-up.
///
/// Bits 0 to 7 are the total length in bits, bits 8 to 15 the total step, bits 16 to 23 the step to the first
/// coefficient, and bits 24 to 31 the step to the second. Bits 32 to 47 and 48 to 63 are the two values. If there is only
/// one coefficient, the second value is a 0 right after it.
#[derive(Clone, Copy)]
struct Pair(u64);

impl Pair {
    /// Marks the end of a block, or a coefficient with more than [`PAIR`] bits.
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

    /// Writes the coefficients after coefficient `k` to `block`.
    ///
    /// Writes the second before the first. If the first is the last of the block, the second is a 0 in the same place,
    /// and the first must overwrite it.
    #[inline(always)]
    fn write(self, block: &mut BlockPlace<'_>, k: usize) {
        let steps = [(self.0 >> 24, self.0 >> 48), (self.0 >> 16, self.0 >> 32)];
        for (step, level) in steps {
            block.put(k + (step & 0xff) as usize, level as i16);
        }
    }
}

/// The place of a block in a group, for its coefficients. It must be all zeros at first.
pub(super) struct BlockPlace<'a> {
    pub(super) group: &'a mut BlockGroup,
    pub(super) lane: usize,
}

impl BlockPlace<'_> {
    /// Writes a coefficient. `k` is its index in the order of the file (zigzag).
    #[inline(always)]
    pub(super) fn put(&mut self, k: usize, level: i16) {
        self.group[usize::from(ZIGZAG[k % (2 * END)] % 64)][self.lane % LANES] = level;
    }
}

/// Reorders values from the order of the file (zigzag) to natural order, row by row.
pub(super) fn natural_order(values: &[u16; 64]) -> [u16; 64] {
    let mut ordered = [0; 64];
    for (value, at) in values.iter().zip(ZIGZAG) {
        ordered[usize::from(at)] = *value;
    }
    ordered
}

/// The look-up tables of the AC coefficients.
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

/// A position in the coded data, with the next bits loaded.
#[derive(Default, Clone, Copy)]
pub(super) struct BitPosition {
    /// Index of the next byte to load into `bits`.
    byte: usize,
    /// The next bits of the data. The highest bit is the next.
    bits: u64,
    /// Number of valid bits in `bits`.
    count: u32,
}

impl BitPosition {
    /// Returns the position at the start of a byte.
    pub(super) fn at(byte: usize) -> Self {
        Self { byte, bits: 0, count: 0 }
    }

    /// Returns the position as a number of bits from the start.
    pub(super) fn position(self) -> usize {
        8 * self.byte - self.count as usize
    }
}

/// Reads codes. The methods return `None` if the data are invalid.
pub(super) struct BitReader<'a> {
    /// The coded data without stuffed bytes and markers, followed by [`PADDING`] zeros.
    pub(super) data: &'a [u8],
    pub(super) place: BitPosition,
}

impl BitReader<'_> {
    /// Loads bits until there are at least 56.
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

    /// Reads the difference between the DC coefficients of this block and the previous block.
    pub(super) fn difference(&mut self, codes: &Codes) -> Option<i32> {
        self.fill()?;
        let symbol = codes.symbol(self.place.bits);
        let value = symbol.value(self.place.bits);
        self.pass(symbol.bits());
        (!symbol.is_none()).then_some(value)
    }

    /// Reads the AC coefficients of a block. If `block` is given, writes them to it.
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

    /// Reads the next coefficient after coefficient `k`. Returns its index, or 64 at the end of the block.
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
