//! Runs the program as users do, on a recipe so small that a whole run takes a second.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use mae::infer::StopFlag;
use mae::recipe::{self, Missing, Options};
use mae::run::{RunOptions, Runner};
use mae::train::{Event, Hosts, JobEnd};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// Two pre-training checkpoints; fine-tuning and probing of both and of random weights.
pub(crate) const TINY: &str = r#"
name = "tiny"
[data]
format = "digits"
input_size = 8
[model]
patch_size = 2
embed_dim = 16
depth = 2
num_heads = 2
decoder_embed_dim = 8
decoder_depth = 1
decoder_num_heads = 2
[pretrain]
epochs = 3
warmup_epochs = 1
batch_size = 96
accum_iter = 2
blr = 3e-3
norm_pix_loss = true
checkpoint_epochs = [2]
augment = { crop_scale = [1.0, 1.0], hflip = false }
[finetune]
from = ["scratch", "checkpoints"]
epochs = 2
warmup_epochs = 1
batch_size = 96
blr = 2e-3
clip_grad = 1.0
mixup = 0.2
reprob = 0.25
aa = ""
augment = { crop_scale = [0.5, 1.0], hflip = false }
[linprobe]
from = ["scratch", "last"]
epochs = 2
warmup_epochs = 1
batch_size = 96
augment = { crop_scale = [1.0, 1.0], hflip = false }
"#;

/// A temporary folder with the recipe r.toml, in which the program runs.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new(recipe: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mae::durable::write(&dir.path().join("r.toml"), recipe.as_bytes()).unwrap();
        Self { dir }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mae"));
        command.args(args).current_dir(self.dir.path());
        // These variables are for the tests; the program would warn about them.
        command.env_remove("MAE_LOG").env_remove("MAE_REFERENCE_DIR").env_remove("MAE_UPDATE_DOCS");
        // On a software GPU, full autotuning takes minutes.
        command.env("CUBECL_AUTOTUNE_LEVEL", "minimal");
        command
    }

    pub(crate) fn mae(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program, which must succeed. Returns stdout.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let output = self.mae(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must exit with `code`. Returns stderr.
    pub(crate) fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.mae(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        stderr
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// Runs the recipe, and requests a stop after `updates` updates. Returns how it ended.
    pub(crate) fn run_for(&self, updates: usize) -> JobEnd {
        self.run_with(updates, |stop| assert!(!stop.request()))
    }

    /// Runs the recipe, and calls `then` after `updates` updates. Returns how the run ended.
    pub(crate) fn run_with(
        &self,
        updates: usize,
        then: impl Fn(&StopFlag) + Send + Sync + 'static,
    ) -> JobEnd {
        let options = Options { missing_data: Missing::Refuse, gpus: |_| 0, hosts: 1 };
        let resolved = recipe::resolve(&self.path("r.toml"), &[], &[], &options).unwrap();
        let options = RunOptions {
            runs: self.path("runs"),
            fresh: false,
            break_lock: false,
            only: None,
            command_line: Vec::new(),
        };
        let (stop, made) = (StopFlag::default(), AtomicUsize::new(0));
        let asked = stop.clone();
        let observer = move |event: Event<'_>| {
            if let Event::Updated { .. } = event
                && made.fetch_add(1, Ordering::SeqCst) + 1 == updates
            {
                then(&asked);
            }
        };
        let hosts = Hosts::default();
        let runner = Runner { options: &options, stop: &stop, observer: Arc::new(observer), hosts };
        runner.run(&resolved).unwrap().0
    }
}

/// Makes a data set of three classes in `own/`, with 4 training and `val` validation pictures of each class, and a recipe
/// for it with the tables `more`.
pub(crate) fn own_pictures(val: u8, more: &str) -> Bench {
    let data = "format = \"imagefolder\"\npath = \"own\"";
    let recipe = TINY
        .replace("format = \"digits\"", data)
        .replace("batch_size = 96", "batch_size = 6")
        .replace("input_size = 8", "input_size = 8\nworkers = 1");
    let bench = Bench::new(&format!("{recipe}{more}"));
    let classes = [("cat", 40), ("dog", 120), ("owl", 220)];
    save_pictures(&bench, "own/train", &classes, 4);
    save_pictures(&bench, "own/val", &classes, val);
    bench
}

/// Writes `count` pictures of each class in `folder/<class>/`. The pictures of a class are the same in every folder.
pub(crate) fn save_pictures(bench: &Bench, folder: &str, classes: &[(&str, u8)], count: u8) {
    for (class, shade) in classes {
        let folder = bench.path(&format!("{folder}/{class}"));
        fs::create_dir_all(&folder).unwrap();
        for picture in 0..count {
            let pixel = |x: u32, y: u32| {
                image::Rgb([*shade, (x * 20) as u8, (y * u32::from(picture)) as u8])
            };
            let file = folder.join(format!("{picture}.png"));
            image::RgbImage::from_fn(12, 10, pixel).save(file).unwrap();
        }
    }
}

/// Writes a JPEG like a camera's: 4:2:0 subsampling, quality 90.
pub(crate) fn save_jpeg(path: &Path, image: &image::RgbImage) {
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_size(image.width() as usize, image.height() as usize);
    jpeg.set_quality(90.0);
    let mut jpeg = jpeg.start_compress(Vec::new()).unwrap();
    jpeg.write_scanlines(image.as_raw()).unwrap();
    mae::durable::write(path, &jpeg.finish().unwrap()).unwrap();
}

/// Returns the results of a run that must be reproducible: tables without times, weights byte for byte.
pub(crate) fn results(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    collect(run, run, &mut found);
    found.sort();
    assert!(found.len() > 5, "{}: no results", run.display());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            collect(root, &path, found);
        } else if name.ends_with("epochs.csv") {
            found.push((name, without_clocks(&fs::read_to_string(&path).unwrap()).into_bytes()));
        } else if let Some((folder, _)) = name.split_once("events.out.tfevents.") {
            found.push((format!("{folder}events"), without_wall_times(fs::read(&path).unwrap())));
        } else if !["provenance.json", "report.html", ".lock", "mae-manifest.jsonl"]
            .iter()
            .any(|timed| path.ends_with(timed))
        {
            let bytes = fs::read(&path).unwrap();
            found.push((name, if path.ends_with("meta.json") { Vec::new() } else { bytes }));
        }
    }
}

/// Clears the wall times and checksums of an event file.
///
/// A record has its length in 8 bytes, a checksum in 4, the event, and a checksum in 4. The event begins with a tag in 1 byte
/// and the wall time in 8.
fn without_wall_times(mut events: Vec<u8>) -> Vec<u8> {
    let mut begin = 0;
    while begin < events.len() {
        let length = u64::from_le_bytes(events[begin..begin + 8].try_into().unwrap()) as usize;
        let end = begin + 12 + length;
        events[begin + 13..begin + 21].fill(0);
        events[end..end + 4].fill(0);
        begin = end + 4;
    }
    events
}

fn without_clocks(table: &str) -> String {
    let clocks = ["images_per_s", "seconds", "data_wait_s"];
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let line = |line: &str| {
        let cells = line.split(',').zip(&header);
        cells
            .filter(|(_, head)| !clocks.contains(*head))
            .map(|(cell, _)| cell)
            .collect::<Vec<_>>()
            .join(",")
    };
    table.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the training losses of a job.
pub(crate) fn losses(bench: &Bench, job: &str) -> Vec<f64> {
    let cells = column(bench, &format!("runs/tiny/{job}/epochs.csv"), "train_loss");
    cells.iter().map(|cell| cell.parse().unwrap()).collect()
}

/// Returns the cells of a column of the table `file`.
pub(crate) fn column(bench: &Bench, file: &str, name: &str) -> Vec<String> {
    let mut rows = csv::Reader::from_path(bench.path(file)).unwrap();
    let column = rows.headers().unwrap().iter().position(|head| head == name).unwrap();
    rows.records().map(|row| row.unwrap()[column].to_owned()).collect()
}
