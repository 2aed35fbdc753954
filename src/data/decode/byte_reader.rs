use super::error::ImageError;

/// Reads numbers and slices from a file in memory.
///
/// Reading past the end fails with [`ImageError::Truncated`].
pub(super) struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns a reader that starts at byte `at` of the file.
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Returns the read position, in bytes from the start of the file.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Returns whether all bytes have been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Reads the next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ImageError> {
        let end = self.at.checked_add(count).ok_or(ImageError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(ImageError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Reads the next `count` bytes. Near the end of the file, returns fewer bytes.
    pub(super) fn take_up_to(&mut self, count: usize) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = &rest[..count.min(rest.len())];
        self.at += taken.len();
        taken
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        Ok(*self.take(N)?.as_array().ok_or(ImageError::Truncated)?)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ImageError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16_le(&mut self) -> Result<u16, ImageError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, ImageError> {
        self.array().map(u32::from_le_bytes)
    }

    #[cfg(feature = "avif")]
    pub(super) fn u16_be(&mut self) -> Result<u16, ImageError> {
        self.array().map(u16::from_be_bytes)
    }

    #[cfg(feature = "avif")]
    pub(super) fn u32_be(&mut self) -> Result<u32, ImageError> {
        self.array().map(u32::from_be_bytes)
    }

    #[cfg(feature = "avif")]
    pub(super) fn u64_be(&mut self) -> Result<u64, ImageError> {
        self.array().map(u64::from_be_bytes)
    }
}
