//! A buffer that moves over a part of the file. It needs few reads for small pieces, and little memory for large parts.

use super::budget::Budget;
use super::graph::Bytes;
use super::source::{ByteSource, cut_short};

const WINDOW: u64 = 64 * 1024;

/// Every read counts as at least this number of bytes in the [`Budget`].
const READ: usize = 512;

pub(super) struct Window<'a> {
    source: &'a ByteSource,
    bytes: Bytes,
    /// Offset of the buffered part in the content of `bytes`, in bytes.
    start: u64,
    buffer: Vec<u8>,
    /// Number of bytes of `latin1` text in the file that have been decoded.
    decoded: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a ByteSource, bytes: Bytes) -> Self {
        Self { source, bytes, start: 0, buffer: Vec::new(), decoded: 0 }
    }

    /// Returns at least `least` and at most `most` bytes, starting at the offset `at` of the content.
    pub(super) fn get(
        &mut self,
        at: u64,
        least: u64,
        most: u64,
        budget: &mut Budget,
    ) -> Result<&[u8], String> {
        let held = self.start..=self.start + self.buffer.len() as u64;
        if !held.contains(&at) || !held.contains(&(at + least)) {
            if self.bytes.latin1 {
                self.decode(at, least, budget)?;
            } else {
                self.read(at, least, most, budget)?;
            }
        }
        let from = (at - self.start) as usize;
        let to = self.buffer.len().min(from.saturating_add(most as usize));
        Ok(&self.buffer[from..to])
    }

    fn read(&mut self, at: u64, least: u64, most: u64, b: &mut Budget) -> Result<(), String> {
        let range = self.bytes.range;
        let left = range.len.checked_sub(at).filter(|left| *left >= least);
        let len = most.clamp(least, WINDOW).min(left.ok_or_else(cut_short)?) as usize;
        b.read(len.max(READ))?;
        self.buffer.resize(len, 0);
        self.start = at;
        self.source.read_at(range.at + at, &mut self.buffer)
    }

    /// Decodes text until the buffer has `least` bytes, starting at the offset `at`.
    ///
    /// Fails if the buffer has already passed `at`.
    fn decode(&mut self, at: u64, least: u64, budget: &mut Budget) -> Result<(), String> {
        loop {
            let passed = at.checked_sub(self.start).ok_or_else(cut_short)?;
            let passed = passed.min(self.buffer.len() as u64);
            self.buffer.drain(..passed as usize);
            self.start += passed;
            if self.start == at && self.buffer.len() as u64 >= least {
                return Ok(());
            }
            let range = self.bytes.range;
            let len = (range.len - self.decoded).min(WINDOW / 2) as usize;
            budget.read(len.max(READ))?;
            let mut text = vec![0; len];
            self.source.read_at(range.at + self.decoded, &mut text)?;
            self.decoded += decode(&text, &mut self.buffer)?;
        }
    }
}

/// Appends the `latin1` bytes of UTF-8 text to `bytes`. Returns the number of bytes read from `text`.
fn decode(text: &[u8], bytes: &mut Vec<u8>) -> Result<u64, String> {
    let mut used = 0;
    loop {
        match text[used..] {
            [byte @ ..0x80, ..] => {
                bytes.push(byte);
                used += 1;
            }
            [high @ 0xc2..=0xc3, low @ 0x80..0xc0, ..] => {
                bytes.push(high << 6 | low & 0x3f);
                used += 2;
            }
            [0xc2..=0xc3] | [] if used > 0 => return Ok(used as u64),
            _ => {
                return Err(
                    "the text that encodes the content of a NumPy array is corrupt".to_owned()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn text_is_decoded_except_for_an_incomplete_character() {
        let text: String = (0..=255).map(char::from).collect();
        let mut bytes = Vec::new();
        assert_eq!(decode(text.as_bytes(), &mut bytes), Ok(text.len() as u64));
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        bytes.clear();
        assert_eq!(decode(&[b'a', 0xc3], &mut bytes), Ok(1));
        assert!(
            decode(&[0xc3], &mut bytes).is_err() && decode("€".as_bytes(), &mut bytes).is_err()
        );
    }
}
