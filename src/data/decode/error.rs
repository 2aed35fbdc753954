/// Why an image cannot be decoded or encoded. The caller adds the file name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(in crate::data) enum ImageError {
    #[error("the file is empty")]
    Empty,
    #[error("the JPEG file is truncated: its end marker is missing")]
    Truncated,
    #[error("corrupt or unsupported image: {0}")]
    Undecodable(String),
    #[error("cannot encode the image as JPEG: {0}")]
    Unencodable(String),
}
