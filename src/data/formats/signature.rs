//! Recognizes files of a wrong kind by their first bytes, for error messages.

/// Number of bytes that [`of_other_kind`] needs from the start of a file.
pub(super) const BYTES: usize = 64;

/// The actual kind of a file that should be a tar or parquet file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OtherKind {
    /// What the file is, such as "a zip archive".
    pub(super) is: &'static str,
    /// The hint of the error about the file.
    pub(super) hint: &'static str,
}

/// Recognizes the kind of a file from `start`, its first bytes. Returns `None` if the kind is unknown.
pub(super) fn of_other_kind(start: &[u8]) -> Option<OtherKind> {
    let kind = |is, hint| Some(OtherKind { is, hint });
    let lz4 = "decompress the file: `lz4 -dc < OLD > NEW.tar`";
    let packed = "unpack the archive into a folder, and set `data.format = \"imagefolder\"`";
    let text = start.trim_ascii_start().to_ascii_lowercase();
    match start {
        [0x1f, 0x8b, ..] => kind("a gzip file", "decompress the file: `gzip -dc < OLD > NEW.tar`"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            kind("a zstd file", "decompress the file: `zstd -dc < OLD > NEW.tar`")
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            kind("an xz file", "decompress the file: `xz -dc < OLD > NEW.tar`")
        }
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => {
            kind("a bzip2 file", "decompress the file: `bzip2 -dc < OLD > NEW.tar`")
        }
        [0x04, 0x22, 0x4d, 0x18, ..] => kind("an lz4 file", lz4),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => kind("a zip archive", packed),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => kind("a 7z archive", packed),
        [b'R', b'a', b'r', b'!', 0x1a, ..] => kind("a rar archive", packed),
        [b'P', b'A', b'R', b'1', ..] => kind("a parquet file", "set `data.format = \"parquet\"`"),
        [0x89, b'H', b'D', b'F', ..] => {
            kind("an HDF5 file", "convert the file to image files or tar shards")
        }
        _ if start.starts_with(b"version https://git-lfs") => kind(
            "a Git LFS pointer",
            "run `git lfs pull` in the repository of the data set to download the file",
        ),
        _ if text.starts_with(b"<!doctype html")
            || text.starts_with(b"<html")
            || text.starts_with(b"<?xml") =>
        {
            kind(
                "a web page",
                "download the file again. Use the download URL of the file, not the URL of a web page",
            )
        }
        _ => None,
    }
}

/// Returns whether `name` has the ending of a compressed tar archive, such as `.tar.gz` or `.tgz`.
pub(super) fn is_compressed_tar(name: &str) -> bool {
    const ENDINGS: [&str; 10] = [
        ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.lz4",
        ".tar.z",
    ];
    let name = name.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}
