//! Element types: their names in PyTorch and NumPy, and how their bytes are decoded.

use burn::tensor::{bf16, f16};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum DtypeKind {
    Float,
    /// bfloat16: the upper two bytes of a float32.
    Brain,
    Signed,
    Unsigned,
    Other,
}

#[derive(Debug)]
pub(super) struct Dtype {
    /// Name in PyTorch and NumPy, such as `float32`.
    pub(super) name: &'static str,
    /// Name of PyTorch's storage class, such as `FloatStorage`; `-` if none.
    storage: &'static str,
    /// Short name in NumPy, such as `f4`; `-` if none.
    code: &'static str,
    /// Bytes per element; 0 if unknown.
    pub(super) size: u64,
    pub(super) kind: DtypeKind,
}

const fn dtype(
    name: &'static str,
    storage: &'static str,
    code: &'static str,
    size: u64,
    kind: DtypeKind,
) -> Dtype {
    Dtype { name, storage, code, size, kind }
}

pub(super) static UNKNOWN: Dtype = dtype("unknown", "-", "-", 0, DtypeKind::Other);

static DTYPES: [Dtype; 25] = [
    dtype("float32", "FloatStorage", "f4", 4, DtypeKind::Float),
    dtype("float64", "DoubleStorage", "f8", 8, DtypeKind::Float),
    dtype("float16", "HalfStorage", "f2", 2, DtypeKind::Float),
    dtype("bfloat16", "BFloat16Storage", "-", 2, DtypeKind::Brain),
    dtype("int64", "LongStorage", "i8", 8, DtypeKind::Signed),
    dtype("int32", "IntStorage", "i4", 4, DtypeKind::Signed),
    dtype("int16", "ShortStorage", "i2", 2, DtypeKind::Signed),
    dtype("int8", "CharStorage", "i1", 1, DtypeKind::Signed),
    dtype("uint8", "ByteStorage", "u1", 1, DtypeKind::Unsigned),
    dtype("uint16", "-", "u2", 2, DtypeKind::Unsigned),
    dtype("uint32", "-", "u4", 4, DtypeKind::Unsigned),
    dtype("uint64", "-", "u8", 8, DtypeKind::Unsigned),
    dtype("bool", "BoolStorage", "b1", 1, DtypeKind::Other),
    dtype("complex32", "ComplexHalfStorage", "-", 4, DtypeKind::Other),
    dtype("complex64", "ComplexFloatStorage", "c8", 8, DtypeKind::Other),
    dtype("complex128", "ComplexDoubleStorage", "c16", 16, DtypeKind::Other),
    dtype("qint8", "QInt8Storage", "-", 1, DtypeKind::Other),
    dtype("quint8", "QUInt8Storage", "-", 1, DtypeKind::Other),
    dtype("qint32", "QInt32Storage", "-", 4, DtypeKind::Other),
    dtype("quint4x2", "QUInt4x2Storage", "-", 1, DtypeKind::Other),
    dtype("quint2x4", "QUInt2x4Storage", "-", 1, DtypeKind::Other),
    dtype("untyped", "UntypedStorage", "-", 1, DtypeKind::Other),
    dtype("float8_e4m3fn", "-", "-", 1, DtypeKind::Other),
    dtype("float8_e5m2", "-", "-", 1, DtypeKind::Other),
    dtype("object", "-", "O8", 8, DtypeKind::Other),
];

impl Dtype {
    /// Returns the element type of a PyTorch storage class, such as `torch.FloatStorage`.
    pub(super) fn of_storage(class: &str) -> &'static Self {
        let name = class.rsplit('.').next().unwrap_or(class);
        DTYPES.iter().find(|d| d.storage == name && name != "-").unwrap_or(&UNKNOWN)
    }

    /// Returns the element type with the PyTorch name `name`, such as `torch.float32`.
    pub(super) fn of_torch(name: &str) -> &'static Self {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        DTYPES.iter().find(|d| d.name == name).unwrap_or(&UNKNOWN)
    }

    /// Returns the element type with the NumPy name `code`, such as `f4` or `<f4`.
    pub(super) fn of_numpy(code: &str) -> &'static Self {
        let code = code.trim_start_matches(['<', '>', '=', '|']);
        DTYPES.iter().find(|d| d.code == code && code != "-").unwrap_or(&UNKNOWN)
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self.kind, DtypeKind::Float | DtypeKind::Brain)
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self.kind, DtypeKind::Signed | DtypeKind::Unsigned)
    }

    /// Converts the bytes of one float to float32.
    pub(super) fn float(&self, bytes: &[u8], big_endian: bool) -> f32 {
        let bits = bits(bytes, big_endian);
        match (self.kind, self.size) {
            (DtypeKind::Float, 2) => f16::from_bits(bits as u16).to_f32(),
            (DtypeKind::Float, 8) => f64::from_bits(bits) as f32,
            (DtypeKind::Brain, _) => bf16::from_bits(bits as u16).to_f32(),
            _ => f32::from_bits(bits as u32),
        }
    }

    /// Converts the bytes of one integer to i64; `None` if the number is too large.
    pub(super) fn integer(&self, bytes: &[u8], big_endian: bool) -> Option<i64> {
        let bits = bits(bytes, big_endian);
        if self.kind == DtypeKind::Unsigned {
            return i64::try_from(bits).ok();
        }
        let unused = 64 - 8 * self.size as u32;
        Some((bits as i64) << unused >> unused)
    }
}

/// Reads up to 8 bytes as one unsigned integer.
fn bits(bytes: &[u8], big_endian: bool) -> u64 {
    let join = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
    if big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) }
}

#[cfg(test)]
mod tests {
    use super::{Dtype, UNKNOWN};

    #[test]
    fn integers_keep_their_sign_in_both_byte_orders() {
        assert_eq!(Dtype::of_numpy("<i2").integer(&[0xfe, 0xff], false), Some(-2));
        assert_eq!(Dtype::of_numpy("i2").integer(&[0xff, 0xfe], true), Some(-2));
        assert_eq!(Dtype::of_torch("torch.uint16").integer(&[0xfe, 0xff], false), Some(65534));
        assert_eq!(Dtype::of_torch("uint64").integer(&[0xff; 8], false), None);
        let one = [0x3f, 0x80, 0, 0];
        assert_eq!(Dtype::of_numpy("f4").float(&one, true).to_bits(), 1_f32.to_bits());
    }

    #[test]
    fn types_that_are_not_listed_are_unknown() {
        assert!(std::ptr::eq(Dtype::of_numpy("-"), &raw const UNKNOWN));
        assert!(std::ptr::eq(Dtype::of_storage("torch.-"), &raw const UNKNOWN));
        assert_eq!(Dtype::of_storage("torch.cuda.HalfStorage").name, "float16");
    }
}
