//! Ten thousand corrupt checkpoints: reading never panics, and memory is limited by the size of the file.

#![expect(unsafe_code, reason = "counts allocations")]
#![expect(clippy::unwrap_used, reason = "a file that cannot be written is a failed test")]

use mae::checkpoint;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// The default `realloc` allocates before it frees, so the worst case is measured.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        LARGEST.fetch_max(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counters are global, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// xorshift64*, as the standard library has no generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    /// Returns a random position in a file, most often near its ends, where pickles and directories are.
    fn place(&mut self, len: usize) -> usize {
        match self.below(8) {
            0..=3 => self.below(len.min(16 * 1024)),
            4 | 5 => len - 1 - self.below(len.min(16 * 1024)),
            _ => self.below(len),
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.place(bytes.len());
        match random.below(9) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.below(256) as u8,
            3 => bytes[at] = b"]})(tauRbQ\x81\x85\x86\x94\x95\x8b\x8ehq0N.\x93"[random.below(23)],
            4 => {
                let lengths: [u64; 8] = [
                    u64::MAX,
                    1 << 40,
                    1 << 31,
                    0xffff_ffff,
                    0,
                    1 << 20,
                    1 << 62,
                    bytes.len() as u64,
                ];
                let length = lengths[random.below(8)].to_le_bytes();
                let n = [2, 4, 8][random.below(3)].min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&length[..n]);
            }
            5 if random.below(4) == 0 => bytes.truncate(at),
            5 | 6 => {
                let from = random.place(other.len());
                let n = random.below(200).min(other.len() - from).min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&other[from..from + n]);
            }
            7 => {
                let from = random.place(other.len());
                let n = random.below(64).min(other.len() - from);
                bytes.splice(at..at, other[from..from + n].iter().copied());
            }
            _ => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}

/// Writes a file without fsync, because there are thousands.
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// Reads a file. Returns whether that worked, the largest allocation, and the peak, in bytes.
fn measured(path: &Path) -> (bool, usize, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    LARGEST.store(0, Relaxed);
    let result = checkpoint::open(path, None);
    (result.is_ok(), LARGEST.load(Relaxed), PEAK.load(Relaxed) - before)
}

fn assert_small(len: usize, largest: usize, peak: usize, what: &str) {
    const MIB: usize = 1 << 20;
    assert!(largest <= 2 * len + MIB, "{what}: {largest} bytes at once for a file of {len}");
    assert!(peak <= 3 * len + MIB, "{what}: peak of {peak} bytes for a file of {len}");
}

#[test]
fn damaged_files_never_panic_and_stay_small() {
    let _alone = ALONE.lock().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints");
    let files: Vec<Vec<u8>> = [
        "torch-mae/checkpoint-2.pth",
        "torch-mae/legacy.pth",
        "torch-mae/half.pth",
        "torch-mae/encoder-only.pth",
        "torch-mae/checkpoint-2.pd",
        "torch-mae/weights.pdparams",
        "timm-avg/checkpoint-9.pth",
        "timm-token/pytorch_model.bin",
        "timm-token/model.safetensors",
        "huggingface-vitmae/model.safetensors",
    ]
    .iter()
    .map(|name| fs::read(folder.join(name)).unwrap())
    .collect();
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("a.pth");
    let mut random = Random(7);
    let (mut read, mut most, mut slowest) = (0, (0.0_f64, 0.0_f64), 0.0_f64);
    for i in 0..10_000 {
        let mut bytes = files[i % files.len()].clone();
        let other = random.below(files.len());
        if i >= files.len() {
            mutate(&mut bytes, &files[other], &mut random);
        }
        put(&path, &bytes);
        let start = Instant::now();
        let (ok, largest, peak) = measured(&path);
        slowest = slowest.max(start.elapsed().as_secs_f64());
        assert!(ok || i >= files.len());
        assert_small(bytes.len(), largest, peak, &format!("mutation {i}"));
        let of = |n: usize, by: f64| (n as f64 - 1_048_576.0) / by / bytes.len().max(1) as f64;
        most = (most.0.max(of(largest, 1.0)), most.1.max(of(peak, 1.0)));
        read += usize::from(ok);
    }
    println!(
        "{read} of 10000 files still readable, slowest {slowest:.3} s, (most - 1 MiB) / size: {most:?}"
    );
}

/// Repeated opcodes fill stacks, marks, memos, nodes and trees.
#[test]
fn repeated_opcodes_stay_small() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("b.pth");
    let pieces: [(&[u8], &[u8]); 17] = [
        (b"N", b""),
        (b"(", b""),
        (b"]", b""),
        (b"}", b""),
        (b")", b""),
        (b"K\x01", b""),
        (b"\x8c\x01a", b""),
        (b"2", b"N"),
        (b"Na", b"]"),
        (b"NNs", b"}"),
        (b"]\x94", b""),
        (b"\x94", b"N"),
        (b")\x85", b""),
        (b"ca\nB\n", b""),
        (b"]a", b"]"),
        (b"(NNNNNNNNe", b"]"),
        (b"h\x00a", b"](NNNNNNNNNNNNNNNNNNNNtq\x000"),
    ];
    for size in [1000, 200_000, 3_000_000] {
        for (i, (piece, start)) in pieces.iter().enumerate() {
            for share in [1, 3, 20, 100] {
                let n = size / share / piece.len();
                let body = [b"\x80\x04", *start, &piece.repeat(n)[..]].concat();
                for end in [&b"."[..], b"(\x91.", b"t.", b"(l."] {
                    let mut bytes = [&body[..], end].concat();
                    bytes.resize(bytes.len().max(size), 0);
                    put(&path, &bytes);
                    let (_, largest, peak) = measured(&path);
                    assert_small(
                        bytes.len(),
                        largest,
                        peak,
                        &format!("piece {i}, 1/{share} of {size}"),
                    );
                }
            }
        }
    }
}

/// An archive that is almost only a directory.
#[test]
fn a_large_directory_stays_small() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.pth");
    let mut bytes = b"PK\x03\x04".to_vec();
    for i in 0..50_000_u32 {
        let name = format!("a/data/{i}");
        let mut header = [0; 46];
        header[..4].copy_from_slice(b"PK\x01\x02");
        header[28] = name.len() as u8;
        bytes.extend(header);
        bytes.extend(name.as_bytes());
    }
    let len = bytes.len() as u32 - 4;
    bytes.extend(b"PK\x05\x06\0\0\0\0\0\0\0\0");
    bytes.extend(len.to_le_bytes());
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend([0, 0]);
    for last in [false, true] {
        if last {
            // One of them becomes the pickle.
            let at = bytes.windows(12).position(|w| w == b"a/data/10000").unwrap();
            bytes[at..at + 12].copy_from_slice(b"a/data.pkl\0\0");
            bytes[at - 18] = 10;
            bytes[at - 16] = 2;
        }
        put(&path, &bytes);
        let (ok, largest, peak) = measured(&path);
        assert!(!ok);
        assert_small(bytes.len(), largest, peak, "directory");
    }
}

/// The largest possible tensors, with objects beside them.
#[test]
fn tensors_and_objects_together_stay_small() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.pth");
    let raw = vec![b'a'; 1_000_000];
    let mut widest = 0.0_f64;
    for (class, dtype, latin1) in [("f2", 2, false), ("f2", 2, true), ("f4", 4, false)] {
        for copies in 1..=5 {
            for junk in [0, 100_000, 250_000, 300_000, 1_000_000] {
                let numel = (raw.len() / dtype) as u32;
                let content: &[u8] = if latin1 {
                    &[
                        b"c_codecs\nencode\nX",
                        &1_000_000_u32.to_le_bytes()[..],
                        &raw,
                        b"X\x06\0\0\0latin1\x86R",
                    ]
                    .concat()
                } else {
                    &[b"B", &1_000_000_u32.to_le_bytes()[..], &raw].concat()
                };
                let bytes = [
                    b"\x80\x02(cnumpy.core.multiarray\n_reconstruct\n)R(J",
                    &numel.to_le_bytes()[..],
                    b"\x85cnumpy\ndtype\nX\x02\0\0\0",
                    class.as_bytes(),
                    b"\x85R\x89",
                    content,
                    b"tbq\0",
                    &b"h\0".repeat(copies - 1),
                    b"(",
                    &b"K\x01".repeat(junk / 10),
                    b"ttq\x01.",
                    &vec![0; junk],
                ]
                .concat();
                put(&path, &bytes);
                let (_, largest, peak) = measured(&path);
                assert_small(bytes.len(), largest, peak, &format!("{class} {copies} {junk}"));
                widest = widest.max(peak as f64 / bytes.len() as f64);
            }
        }
    }
    println!("peak / size: {widest:.3}");
}
