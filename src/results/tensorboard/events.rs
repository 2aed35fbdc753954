//! The format of TensorBoard's event files: protocol buffers in records with checksums.

use prost::Message;

/// A TensorBoard event, with the `event.proto` fields for scalars.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TfEvent {
    /// Time of the event, in seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

impl TfEvent {
    /// Returns the event that starts every file and names the format version.
    pub(super) fn version(wall_time: f64) -> Self {
        let file_version = Some("brain.Event:2".to_owned());
        Self { wall_time, step: 0, file_version, summary: None }
    }

    pub(super) fn scalars(wall_time: f64, step: i64, values: &[(&str, f64)]) -> Self {
        let scalar = |(tag, value): &(&str, f64)| Scalar {
            tag: (*tag).to_owned(),
            simple_value: Some(*value as f32),
        };
        let summary = Some(Summary { value: values.iter().map(scalar).collect() });
        Self { wall_time, step, file_version: None, summary }
    }

    pub(super) fn is_version(&self) -> bool {
        self.file_version.is_some()
    }

    /// Returns whether this is the event of an epoch, not of an update.
    pub(super) fn is_of_an_epoch(&self) -> bool {
        let mut scalars = self.summary.iter().flat_map(|summary| &summary.value);
        scalars.any(|scalar| scalar.tag.starts_with("perf/"))
    }

    /// Encodes the event: length, CRC of the length, data, CRC of the data.
    pub(super) fn record(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&message);
        record.extend(masked_crc(&message).to_le_bytes());
        record
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> Vec<(i64, String, f32)> {
        let scalars = self.summary.iter().flat_map(|summary| &summary.value);
        let value = |s: &Scalar| (self.step, s.tag.clone(), s.simple_value.unwrap_or_default());
        scalars.map(value).collect()
    }
}

/// Returns each event with the byte position where its record ends.
///
/// Stops at the first incomplete or corrupt record.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (TfEvent, usize)> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let (event, length) = first(bytes.get(begin..)?)?;
        begin += length;
        Some((event, begin))
    })
}

/// Returns the first event, and the length of its record in bytes.
fn first(bytes: &[u8]) -> Option<(TfEvent, usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    if masked_crc(length) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (message, rest) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    if masked_crc(message) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((TfEvent::decode(message).ok()?, 16 + message.len()))
}

/// Returns the masked CRC-32C of TensorFlow records.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
