//! Tests with malicious files, which try to crash the reader or fill the memory.

use super::{HostTensor, Value};
use crate::durable;
use std::path::Path;

/// Reads a pickle on a thread with a small stack.
fn read(bytes: &[u8]) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pth");
    durable::write(&path, bytes).unwrap();
    let read = std::thread::Builder::new().stack_size(512 * 1024);
    read.spawn(move || {
        let value = super::read(&path)?;
        assert!(format!("{:?}", value.clone() == value).len() < 10);
        Ok(value)
    })
    .unwrap()
    .join()
    .unwrap()
}

/// Returns the content of the valid checkpoint file `name`.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints");
    std::fs::read(folder.join(name)).unwrap()
}

fn refused(bytes: &[u8], why: &str) {
    let error = read(bytes).expect_err(why);
    assert!(error.contains(why), "{error}");
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
}

/// Returns a pickle of protocol 2, followed by `junk` zero bytes.
fn pickle2(program: &[&[u8]], junk: usize) -> Vec<u8> {
    [b"\x80\x02", &program.concat()[..], b".", &vec![0; junk]].concat()
}

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    [b"(", &numbers.iter().flat_map(|n| int(*n)).collect::<Vec<_>>()[..], b"t"].concat()
}

/// Returns the opcodes for a tensor with a storage of `numel` elements.
fn view(class: &str, numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{class}\n").into_bytes(),
        text("s"),
        text("cpu"),
        int(numel),
        b"NtQ".to_vec(),
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89NtR".to_vec(),
    ]
    .concat()
}

/// Returns a file in PyTorch's legacy format. Its storage has `numel` elements and the bytes `raw`.
fn legacy(object: &[u8], numel: u64, raw: &[u8]) -> Vec<u8> {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    [
        &pickle2(&[b"\x8a\x0a", &magic], 0)[..],
        &pickle2(&[b"M\xe9\x03"], 0),
        &pickle2(&[b"}"], 0),
        &pickle2(&[object], 0),
        &pickle2(&[b"]", &text("s"), b"a"], 0),
        &numel.to_le_bytes(),
        raw,
    ]
    .concat()
}

const FOUR: [u8; 16] = [0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64];

#[test]
fn a_view_returns_only_its_own_values() {
    let file = |shape: &[i64], strides: &[i64], offset| {
        legacy(&view("FloatStorage", 4, offset, shape, strides), 4, &FOUR)
    };
    let tensor = |shape: &[usize], values: &[f32]| {
        Ok(Value::Tensor(HostTensor { shape: shape.into(), values: values.into() }))
    };
    assert_eq!(read(&file(&[2, 2], &[1, 2], 0)), tensor(&[2, 2], &[1.0, 3.0, 2.0, 4.0]));
    assert_eq!(read(&file(&[3], &[0], 3)), tensor(&[3], &[4.0; 3]));
    assert_eq!(
        read(&file(&[0, 1 << 40, 1 << 40], &[1, 1, 1], 0)),
        tensor(&[0, 1 << 40, 1 << 40], &[])
    );
    refused(&file(&[1 << 40], &[1], 0), "has 1099511627776 values");
    refused(&file(&[1 << 40], &[0], 0), "has 1099511627776 values");
    refused(&file(&[1 << 62, 1 << 62], &[0, 0], 0), "is too large");
    refused(&file(&[1 << 62], &[0], 0), "has 4611686018427387904 values");
    refused(&file(&[2], &[4], 0), "needs 5 values, but its storage has only 4");
    refused(&file(&[2], &[i64::MAX], 3), "");
    refused(&file(&[2], &[1], i64::MAX), "");
    refused(&file(&[2], &[1, 1], 0), "has 2 strides");
    refused(&file(&[-1], &[1], 0), "invalid description of a tensor");
    refused(&file(&[2], &[-1], 0), "invalid description of a tensor");
    refused(
        &legacy(&view("FloatStorage", 5, 0, &[5], &[1]), 4, &FOUR),
        "expected at least 20 bytes",
    );
    refused(&legacy(&view("FloatStorage", 4, 0, &[4], &[1]), 5, &FOUR), "truncated");
    refused(&legacy(&view("FloatStorage", 4, 0, &[4], &[1]), u64::MAX, &FOUR), "truncated");
    refused(&legacy(&view("OddStorage", 4, 0, &[4], &[1]), 4, &FOUR), "unknown type");
    let huge = legacy(&view("LongStorage", 2, 0, &[1 << 62, 1 << 62], &[0, 0]), 2, &FOUR);
    assert!(matches!(read(&huge), Ok(Value::Opaque(_))));
}

#[test]
fn reads_of_a_shared_storage_are_limited_by_its_size() {
    let raw = vec![0; 400_000];
    let one = view("FloatStorage", 100_000, 0, &[100_000], &[1]);
    let times = |n: usize| legacy(&[b"(", &one.repeat(n)[..], b"t"].concat(), 100_000, &raw);
    assert!(read(&times(2)).is_ok());
    refused(&times(200), "A tensor has 100000 values");
    let overlapping = view("FloatStorage", 100_000, 0, &[50_000, 2], &[1, 50_000]);
    assert!(matches!(read(&legacy(&overlapping, 100_000, &raw)), Ok(Value::Tensor(_))));
    let zigzag = view("FloatStorage", 100_000, 0, &[20_000, 2], &[30_001, 30_000]);
    assert!(read(&legacy(&zigzag, 100_000, &raw)).is_err());
    let raw = vec![0; 4_000_000];
    let zigzag = view("FloatStorage", 1_000_000, 0, &[30, 1000, 2], &[1, 901, 900]);
    let many = [b"(", &zigzag.repeat(30)[..], b"t"].concat();
    refused(&legacy(&many, 1_000_000, &raw), "share the same bytes");
}

#[test]
fn depth_is_limited_and_dropping_does_not_recurse() {
    let lists = |n: usize| [vec![b']'; n], vec![b'a'; n - 1]].concat();
    let tuples = |n: usize| [b")".to_vec(), vec![0x85; n - 1]].concat();
    for nested in [lists, tuples] {
        assert!(read(&pickle2(&[&nested(128)], 0)).is_ok());
        refused(&pickle2(&[&nested(129)], 0), "nested too deeply");
        refused(&pickle2(&[&nested(100_000)], 20_000_000), "nested too deeply");
        refused(&pickle2(&[&nested(1_000_000)], 0), "more objects");
        refused(&pickle2(&[&nested(1_000_000)], 200_000_000), "nested too deeply");
        let foreign = [b"ca\nB\n)\x81", &nested(1000)[..], b"b"].concat();
        assert!(matches!(read(&pickle2(&[&foreign], 0)), Ok(Value::Object { .. })));
    }
    // Nested objects with list items result in the deepest tree.
    let object: &[u8] = b"ca\nB\n)\x81K\x01a";
    let chain = [object.repeat(500), vec![b'b'; 499]].concat();
    assert!(matches!(read(&pickle2(&[&chain], 1_000_000)), Ok(Value::Object { .. })));
}

#[test]
fn cycles_and_nested_sharing_are_refused() {
    refused(b"\x80\x02]q\x00h\x00a.", "contains itself");
    refused(b"\x80\x02}q\x00K\x01h\x00s.", "contains itself");
    refused(b"\x80\x02]q\x00h\x00\x85q\x01a.", "contains itself");
    assert!(matches!(read(b"\x80\x02ca\nB\n)\x81q\x00h\x00b."), Ok(Value::Object { .. })));
    // Each of 60 lists contains the previous list twice.
    let laughs: Vec<u8> =
        (0..60).flat_map(|i| [b']', b'q', i + 1, b'(', b'h', i, b'h', i, b'e']).collect();
    refused(&pickle2(&[b"]q\x00", &laughs], 0), "more objects");
    let wide = [b"(".to_vec(), b"K\x01".repeat(9), b"l".to_vec()].concat();
    assert!(read(&pickle2(&[&wide], 0)).is_ok());
}

#[test]
fn lengths_beyond_the_end_of_the_file_are_refused() {
    let huge = u64::MAX.to_le_bytes();
    for op in [b"X", b"T", b"B", b"\x8b"] {
        refused(&pickle2(&[op, &[0xff; 4]], 0), "truncated");
    }
    for op in [b"\x8d", b"\x8e", b"\x96"] {
        refused(&pickle2(&[op, &huge], 0), "truncated");
        refused(&pickle2(&[op, &(1_u64 << 40).to_le_bytes()], 0), "truncated");
    }
    refused(b"\x80\x02cos\nsystem", "truncated");
    refused(&pickle2(&[b"c", &[b'a'; 10_000]], 0), "has no line break at its end");
    assert!(read(&pickle2(&[b"\x95", &huge, b"N"], 0)).is_ok());
}

#[test]
fn malformed_programs_are_refused() {
    for program in [
        &b""[..],
        b"0",
        b"1",
        b"2",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"l",
        b"d",
        b"\x85",
        b"\x86",
        b"\x87",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"o",
        b"ia\nB\n",
        b"Q",
        b"q\x00",
        b"h\x07",
        b"j\x00\x00\x00\x01",
        b"\x94",
        b"\x93",
        b"\x90",
        b"\x91",
        b"NNa",
        b"N(Ne",
        b"](a",
        b"]N(a",
        b"}(Nu",
        b"}(Nd",
        b"NNR",
        b"N)N\x92",
        b"KKb",
        b"NN\x93",
        b"(o",
        b"(NNt0",
        b"cbuiltins\ndict\n]Na\x85R",
    ] {
        assert!(read(&pickle2(&[program], 0)).is_err(), "{program:?}");
    }
    for op in *b"ILFSVgpP" {
        refused(&pickle2(&[&[op], b"1\n"], 0), "protocol 0");
    }
    refused(&pickle2(&[b"\x82\x01"], 0), "extension code");
    refused(&pickle2(&[b"\x97"], 0), "buffers outside");
    refused(&pickle2(&[b"\x80\x06N"], 0), "protocol 6");
    refused(&pickle2(&[b"\xff"], 0), "unknown opcode");
    refused(b"", "");
    refused(b"\x80", "");
    refused(b"hello, world", "neither");
}

#[test]
fn foreign_calls_are_described_but_never_run() {
    let system = b"\x80\x02cposix\nsystem\nX\x17\x00\x00\x00touch /tmp/mae_was_here\x85R.";
    let Ok(Value::Object { class, .. }) = read(system) else { panic!() };
    assert_eq!(class, "posix.system");
    assert!(!Path::new("/tmp/mae_was_here").exists());
    for program in [
        &b"cbuiltins\neval\n)R"[..],
        b"ca\nB\n)R)R",
        b"ca\nB\n)\x81}b",
        b"ca\nB\n)}\x92",
        b"(ca\nB\no",
        b"(ia\nB\n",
        b"ccopyreg\n_reconstructor\n(ca\nB\ncb\nobject\nNtR}b",
        b"ccopyreg\n_reconstructor\n)R",
        b"cbuiltins\nset\nN\x85R",
        b"cbuiltins\nlist\n]\x85R",
        b"cbuiltins\ndict\n]\x85R",
        b"c_codecs\nencode\nNN\x86R",
        b"cnumpy\ndtype\nN\x85R",
        b"cnumpy\nx\n)R",
        b"cpathlib\nPosixPath\nN\x85R",
        b"ctorch\ndevice\n)R",
        b"ctorch\nSize\nN\x85R",
        b"cbuiltins\nbytes\n)R",
        b"ctorch._utils\n_rebuild_qtensor\n)R",
        b"ctorch._utils\n_rebuild_parameter\n)R",
        b"cnumpy.core.multiarray\nscalar\n)R",
        b"ca\nB\n)\x81K\x01aK\x01K\x02s",
        b"cnumpy.core.multiarray\n_reconstruct\n)R",
    ] {
        read(&pickle2(&[program], 0)).unwrap_or_else(|e| panic!("{}: {e}", program.escape_ascii()));
    }
}

#[test]
fn inconsistent_archives_are_refused() {
    let good = golden("timm-token/pytorch_model.bin");
    let find = |what: &[u8]| good.windows(what.len()).rposition(|w| w == what).unwrap();
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let order = good.windows(6).position(|w| w == b"little").unwrap();
    refused(&patched(order, b"big   "), "`pytorch_model/byteorder` has the CRC-32");
    let mut big = patched(order, b"big   ");
    let crc32 = find(b"pytorch_model/byteorder") - 46 + 16;
    big[crc32..crc32 + 4].fill(0); // 0: PyTorch computed no CRC-32
    refused(&big, "big-endian");
    let entry = find(b"pytorch_model/data/3PK") - 46;
    assert_eq!(&good[entry..entry + 4], b"PK\x01\x02");
    refused(&patched(entry + 20, &[0xf0, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0xff]), "truncated");
    refused(&patched(entry + 42, &[0xf0, 0xff, 0xff, 0xff]), "truncated");
    refused(&patched(entry + 42, &[9, 0, 0, 0]), "no entry begins at");
    refused(&patched(entry + 10, &[8, 0]), "compressed");
    refused(&patched(entry + 46 + 19, b"4"), "twice");
    refused(&patched(entry + 46 + 19, b"x"), "storage `3` is missing");
    refused(&patched(entry, b"XX"), "directory is corrupt");
    refused(&good[..good.len() - 1], "its end");
    refused(&good[..good.len() / 2], "its end");
    let end = find(b"PK\x05\x06");
    let locator = good[end - 20..].starts_with(b"PK\x06\x07");
    if locator {
        refused(&patched(end - 12, &[0xff; 8]), "truncated");
        refused(&patched(end - 12, &[0; 8]), "not at the offset");
    }
    refused(&[b"PK\x03\x04", &[0; 22][..]].concat(), "its end");
    let empty = [&b"PK\x03\x04PK\x05\x06"[..], &[0; 18]].concat();
    refused(&empty, "`data.pkl` is missing");
}

#[test]
fn every_truncated_file_is_refused() {
    for name in ["torch-mae/half.pth", "torch-mae/legacy.pth", "torch-mae/weights.pdparams"] {
        let bytes = golden(name);
        let step = 1 + bytes.len() / 400;
        for end in (0..bytes.len()).step_by(step) {
            assert!(read(&bytes[..end]).is_err(), "{name}: {end}");
        }
    }
}
