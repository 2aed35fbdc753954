//! Numbers, text and bytes in a pickle. Long text and long bytes stay in the file until they are needed.

use super::graph::{Bytes, Item, Node};
use super::machine::Machine;
use super::source::{Range, SHORT_TEXT};

/// Maximum length of an integer in bytes. PyTorch's magic number needs 10. A longer integer becomes a description.
const LONG: u64 = 16;

impl Machine<'_, '_> {
    pub(super) fn number(&mut self, op: u8) -> Result<(), String> {
        let item = match op {
            b'G' => Item::Float(f64::from_be_bytes(self.reader.array()?)),
            b'J' => Item::Int(i32::from_le_bytes(self.reader.array()?).into()),
            b'K' => Item::Int(self.reader.byte()?.into()),
            b'M' => Item::Int(u16::from_le_bytes(self.reader.array()?).into()),
            _ => return self.long(op),
        };
        self.push(item)
    }

    fn long(&mut self, op: u8) -> Result<(), String> {
        let len = self.length(op == 0x8a, false)?;
        if len > LONG {
            self.reader.skip(len)?;
            return self.add(Node::Opaque("an integer of more than 16 bytes"));
        }
        let mut bytes = vec![0; len as usize];
        self.reader.fill(&mut bytes)?;
        if len > 8 {
            return self.add(Node::Long(bytes.into()));
        }
        let negative = bytes.last().is_some_and(|last| *last >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(&bytes);
        self.push(Item::Int(i64::from_le_bytes(whole)))
    }

    pub(super) fn text(&mut self, op: u8) -> Result<(), String> {
        let len = self.length(matches!(op, b'U' | 0x8c), op == 0x8d)?;
        if len > SHORT_TEXT {
            let range = self.reader.skip(len)?;
            return self.add(Node::LongText(range));
        }
        let range = Range { at: self.reader.at(), len };
        let mut bytes = vec![0; len as usize];
        self.reader.fill(&mut bytes)?;
        match String::from_utf8(bytes) {
            Ok(text) => self.add(Node::Text { at: range.at, text: text.into() }),
            // Python 2 has one type for text and bytes, so this may be bytes.
            Err(_) if matches!(op, b'U' | b'T') => {
                self.add(Node::Bytes(Bytes { range, latin1: false }))
            }
            Err(_) => Err("a string in the pickle is not valid UTF-8".to_owned()),
        }
    }

    pub(super) fn bytes(&mut self, op: u8) -> Result<(), String> {
        let len = self.length(op == b'C', matches!(op, 0x8e | 0x96))?;
        let range = self.reader.skip(len)?;
        self.add(Node::Bytes(Bytes { range, latin1: false }))
    }

    /// Reads a length field of 1 byte (`one`), 8 bytes (`eight`) or 4 bytes.
    fn length(&mut self, one: bool, eight: bool) -> Result<u64, String> {
        Ok(if one {
            self.reader.byte()?.into()
        } else if eight {
            u64::from_le_bytes(self.reader.array()?)
        } else {
            u32::from_le_bytes(self.reader.array()?).into()
        })
    }
}
