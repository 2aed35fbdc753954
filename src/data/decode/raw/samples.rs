//! Converts the bytes of integers and floats to 32-bit floats.

use crate::data::decode::error::ImageError;

/// The type and byte order of the numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data::decode) struct SampleType {
    pub(in crate::data::decode) kind: SampleKind,
    pub(in crate::data::decode) bits: usize,
    pub(in crate::data::decode) big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data::decode) enum SampleKind {
    Unsigned,
    Signed,
    Float,
}

impl SampleType {
    /// Converts all numbers in `bytes` to floats. Rounds numbers with more than 24 significant bits.
    pub(in crate::data::decode) fn to_floats(self, bytes: &[u8]) -> Result<Vec<f32>, ImageError> {
        use SampleKind::{Float, Signed, Unsigned};
        Ok(match (self.kind, self.bits) {
            (Unsigned, 8) => bytes.iter().map(|byte| f32::from(*byte)).collect(),
            (Signed, 8) => bytes.iter().map(|byte| f32::from(*byte as i8)).collect(),
            (Unsigned, 16) => self.map(bytes, |b| f32::from(u16::from_le_bytes(b))),
            (Signed, 16) => self.map(bytes, |b| f32::from(i16::from_le_bytes(b))),
            (Unsigned, 32) => self.map(bytes, |b| u32::from_le_bytes(b) as f32),
            (Signed, 32) => self.map(bytes, |b| i32::from_le_bytes(b) as f32),
            (Float, 32) => self.map(bytes, f32::from_le_bytes),
            (Float, 64) => self.map(bytes, |b| f64::from_le_bytes(b) as f32),
            (kind, bits) => {
                let kind = format!("{kind:?}").to_lowercase();
                let problem =
                    format!("mae does not support images with {kind} numbers of {bits} bits");
                return Err(ImageError::Unsupported(problem));
            }
        })
    }

    /// Converts each group of `N` bytes to a float by calling `value`.
    ///
    /// `value` receives the bytes in little-endian order.
    fn map<const N: usize>(self, bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let ordered = |mut group: [u8; N]| {
            if self.big_endian {
                group.reverse();
            }
            group
        };
        bytes.as_chunks::<N>().0.iter().map(|group| value(ordered(*group))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_values_in_both_byte_orders() {
        let read = |kind, bits, bytes: &[u8]| {
            let little = SampleType { kind, bits, big_endian: false }.to_floats(bytes).unwrap();
            let turned: Vec<u8> = bytes.iter().rev().copied().collect();
            let big = SampleType { kind, bits, big_endian: true }.to_floats(&turned).unwrap();
            assert_eq!(little, big);
            little
        };
        assert_eq!(read(SampleKind::Unsigned, 16, &[0x39, 0x30]), [12345.0]);
        assert_eq!(read(SampleKind::Signed, 16, &(-12345i16).to_le_bytes()), [-12345.0]);
        assert_eq!(read(SampleKind::Unsigned, 32, &70_000u32.to_le_bytes()), [70_000.0]);
        assert_eq!(read(SampleKind::Float, 32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(read(SampleKind::Float, 64, &(-0.25f64).to_le_bytes()), [-0.25]);
        let half = SampleType { kind: SampleKind::Float, bits: 16, big_endian: false };
        assert!(
            half.to_floats(&[0, 0]).unwrap_err().to_string().contains("float numbers of 16 bits")
        );
    }
}
