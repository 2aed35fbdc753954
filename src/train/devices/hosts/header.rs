//! The header that each host sends before a request.

/// Size of a header in bytes, including a short message.
pub(super) const HEADER: usize = 64;
pub(super) const INLINE: usize = HEADER - 17;

/// The kind of a request. This number is the first byte of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Exchange = 1,
    Sum = 2,
    End = 3,
    Gather = 4,
}

/// The header that each host sends before a request.
///
/// Contains the kind of request, the message length in bytes, the number of values to sum, and the message if it is
/// short.
pub(super) struct Header([u8; HEADER]);

impl Header {
    pub(super) fn new(kind: Kind, message: &[u8], values: usize) -> Self {
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[1..9].copy_from_slice(&(message.len() as u64).to_le_bytes());
        header[9..17].copy_from_slice(&(values as u64).to_le_bytes());
        if message.len() <= INLINE {
            header[17..17 + message.len()].copy_from_slice(message);
        }
        Self(header)
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.0[0] == kind as u8
    }

    pub(super) fn from_bytes(bytes: [u8; HEADER]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the message, if it is short.
    pub(super) fn message(&self) -> &[u8] {
        &self.0[17..17 + self.len()]
    }

    fn number(&self, start: usize) -> usize {
        u64::from_le_bytes(self.0[start..start + 8].try_into().expect("8 bytes")) as usize
    }

    pub(super) fn len(&self) -> usize {
        self.number(1)
    }

    pub(super) fn values(&self) -> usize {
        self.number(9)
    }
}
