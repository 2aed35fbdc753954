//! Pictures of every format have Pillow's pixels, whatever their names are. Other files are refused by name.

#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use mae::data::{DataError, Picture, Pixels, read_picture};
use mae::durable;
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

fn levels(picture: Picture) -> Vec<u8> {
    let Pixels::U8(levels) = picture.pixels else { panic!("a file has 8-bit levels") };
    levels
}

/// Writes `bytes` to a file with a name of a JPEG file, and decodes it.
fn read(bytes: &[u8]) -> Result<Picture, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.jpg");
    durable::write(&path, bytes).unwrap();
    read_picture(&path)
}

fn error_of(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// Whether this build decodes the format of a file.
fn is_built(name: &str) -> bool {
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    (cfg!(feature = "avif") || !is(&["avif"]))
        && (cfg!(feature = "jpeg2000") || !is(&["jpeg2000", ".jp2", ".j2k"]))
}

#[test]
fn pictures_of_all_formats_have_the_pixels_of_pillow() {
    let mut table = csv::Reader::from_path(golden().join("expected.csv")).unwrap();
    let mut wrong = Vec::new();
    let rows: Vec<(String, usize, usize, String)> =
        table.deserialize().collect::<Result<_, _>>().unwrap();
    assert!(rows.len() > 40, "the table is incomplete");
    for (name, width, height, crc) in rows.into_iter().filter(|row| is_built(&row.0)) {
        let bytes = fs::read(golden().join(&name)).unwrap();
        match read(&bytes) {
            Ok(picture) => {
                let size = (picture.width, picture.height);
                let found = format!("{:08x}", crc32fast::hash(&levels(picture)));
                if size != (width, height) || found != crc {
                    wrong.push(format!("{name}: {size:?}, {found}"));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_cut_file_is_an_error() {
    let names = ["gif-as.jpg", "icon-as.png", "targa-as.png", "bmp-as.jpg", "P6-65535.ppm"];
    let tiffs = ["lzma.tif", "packbits.tif", "tiled-planes.tif", "group4.tif", "float.tif"];
    let others = ["avif-as.jpeg", "jpeg2000-as.jpg", "grey16-trns.png"];
    for name in names.iter().chain(&tiffs).chain(&others).filter(|name| is_built(name)) {
        let bytes = fs::read(golden().join(name)).unwrap();
        for share in [3, 2] {
            let cut = &bytes[..bytes.len() * (share - 1) / share];
            assert!(read(cut).is_err(), "{name} cut to {} bytes", cut.len());
        }
    }
}

#[test]
fn formats_that_are_not_supported_are_named() {
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    for (bytes, name) in [
        (&b"8BPS\0\x01"[..], "Photoshop (PSD) files"),
        (heic, "HEIC (HEIF with HEVC) files"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL files"),
        (b"\0\0\x02\0\x01\0 \0", "Windows cursor (CUR) files"),
        (b"%PDF-1.7", "PDF files"),
    ] {
        let error = error_of(bytes);
        assert!(error.contains(&format!("mae does not support {name}")), "{error}");
        assert!(error.contains("hint: convert the file to PNG or JPEG"), "{error}");
        assert!(!error.contains("delete"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_image_says_what_it_is() {
    for (bytes, what) in [
        (&b"\n <!DOCTYPE html><html>"[..], "the file is an HTML page, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\x03\x04\x14\0", "the file is a ZIP archive"),
        (b"\0\0\0\x18ftypmp42", "the file is a video (MP4, MOV)"),
        (b"hello", "the image format is unknown: the file begins with \"hello\""),
    ] {
        let error = error_of(bytes);
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_tiff_that_pillow_refuses_is_refused_with_the_reason() {
    let bytes = fs::read(golden().join("float.tif")).unwrap();
    // The tag BitsPerSample (258) of type 3 with one value: 32 becomes 24.
    let tag = [2, 1, 3, 0, 1, 0, 0, 0, 32, 0];
    let at = bytes.windows(tag.len()).position(|bytes| bytes == tag).unwrap();
    let mut changed = bytes.clone();
    changed[at + 8] = 24;
    let error = error_of(&changed);
    let reason = "TIFF files with grey colours, 1 samples per pixel of 24 bits (floating-point, little-endian)";
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_jpeg_without_an_end_marker_is_read_if_pillow_reads_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decode/q90-420.jpg");
    let whole = fs::read(path).unwrap();
    let expected = read(&whole).unwrap();
    let open = &whole[..whole.len() - 2];
    // Pillow needs some bytes after the last row, whatever they are.
    assert!(error_of(open).contains("the file is truncated"));
    assert_eq!(read(&[open, &[0; 200]].concat()).unwrap(), expected);
    let half = &whole[..whole.len() / 2];
    assert!(error_of(half).contains("the file is truncated"));
}

#[test]
fn a_tiny_file_cannot_ask_for_much_memory() {
    let bytes = fs::read(golden().join("lzma.tif")).unwrap();
    for tag in [256_u16, 257, 278] {
        let mut changed = bytes.clone();
        let tag = tag.to_le_bytes();
        let entry = bytes.chunks_exact(2).position(|pair| pair == tag).unwrap() * 2;
        changed[entry + 2..entry + 12].copy_from_slice(&[4, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]);
        let _ = read(&changed);
    }
    let mut gif = fs::read(golden().join("gif-as.jpg")).unwrap();
    gif[6..10].fill(0xff);
    assert!(read(&gif).is_err());
}

/// A folder with one picture in each class, for `data check`.
fn data_set(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for name in names {
            let path = dir.path().join(split).join("class").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(golden().join(name), path).unwrap();
        }
    }
    dir
}

#[test]
fn data_check_prints_nothing_of_a_library() {
    let dir = data_set(&["gif-as.jpg", "tiled-planes.tif"]);
    let broken = dir.path().join("train/class/broken.tif");
    let mut bytes = fs::read(golden().join("tiled-planes.tif")).unwrap();
    bytes.truncate(300);
    durable::write(&broken, &bytes).unwrap();
    let bench = super::program::Bench::new("");
    let done = bench.command(&["data", "check", dir.path().to_str().unwrap()]).output().unwrap();
    let text = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("broken.tif"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[cfg(feature = "avif")]
#[test]
fn damaged_avif_files_are_bad_files() {
    let dir = data_set(&["444.avif"]);
    let seeds = ["444.avif", "alpha.avif", "ten-bits.avif", "sequence.avif", "grey.avif"];
    for i in 0..150 {
        let mut bytes = fs::read(golden().join(seeds[i % seeds.len()])).unwrap();
        for n in 0..3 {
            let place = 60 + (i * 7919 + n * 104_729) % (bytes.len() - 60);
            bytes[place] ^= 1 << ((i + n) % 8);
        }
        durable::write(&dir.path().join(format!("train/class/damaged-{i:03}.jpg")), &bytes)
            .unwrap();
    }
    let bench = super::program::Bench::new("");
    let done = bench.command(&["data", "check", dir.path().to_str().unwrap()]).output().unwrap();
    let text = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("the AV1 data is invalid"), "{text}");
    assert!(!text.contains("panicked") && !text.contains("aborting"), "{text}");
}
