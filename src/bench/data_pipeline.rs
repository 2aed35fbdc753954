//! Benchmark of the data pipeline: images per second, and the time to read, decode, resize and augment.

use crate::data::{LoadPart, LoadTimes};
use crate::infer::StopFlag;
use crate::recipe::ResolvedPoint;
use crate::shape::StageKind;
use crate::train::{self, TrainError};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time before the measurement. Meanwhile, threads start and file caches fill.
const WARM_UP: Duration = Duration::from_secs(1);

/// Result of `mae bench data`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DataBench {
    pub stage: String,
    pub decode: crate::recipe::Decode,
    /// Number of loader threads; 0 if the calling thread loads the images.
    pub workers: usize,
    pub batch_size: usize,
    pub images_per_s: f64,
    /// `images_per_s` divided by `workers`.
    pub images_per_s_per_worker: f64,
    pub images: usize,
    pub ms_per_image: LoadSplit,
    /// Resident memory of this process before and after the measurement, in bytes; `None` except on Linux.
    pub memory_bytes: [Option<u64>; 2],
}

/// Milliseconds that a loader thread spends on each part of loading one image.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LoadSplit {
    pub read: f64,
    pub decode: f64,
    pub resize: f64,
    pub augment: f64,
}

/// Measures for `seconds` how fast the training batches of `stage` are loaded.
///
/// Lists unreadable files in `bad_files.csv` in the folder `scratch`. Fails if the user stops the benchmark before the
/// first measured batch.
pub fn bench_data(
    point: &ResolvedPoint,
    stage: StageKind,
    seconds: f64,
    scratch: &Path,
    stop: &StopFlag,
) -> Result<DataBench, TrainError> {
    let plan = &point.plan;
    let (training, data) = super::measured(plan, stage)?;
    let loader = train::train_loader(plan, &data, stage, Some(scratch.join("bad_files.csv")))?;
    let begin = Instant::now();
    let mut counted: Option<(Instant, [Duration; 4], Option<u64>)> = None;
    let mut images = 0;
    for batch in (1..).flat_map(|epoch| loader.epoch(epoch, 0)) {
        let batch = batch?;
        if let Some((start, ..)) = &counted {
            images += batch.len();
            if start.elapsed().as_secs_f64() >= seconds || stop.requested() {
                break;
            }
        } else if begin.elapsed() >= WARM_UP {
            counted = Some((Instant::now(), sums(loader.times()), super::memory::of_process()));
        } else if stop.requested() {
            break;
        }
    }
    let Some((start, before, memory)) = counted.filter(|_| images > 0) else {
        return Err(TrainError::Setting {
            problem:
                "cannot measure the data pipeline: the measurement ended before the first batch"
                    .to_owned(),
            hint: "set a larger `--seconds`".to_owned(),
        });
    };
    let images_per_s = images as f64 / start.elapsed().as_secs_f64();
    let after = sums(loader.times());
    let ms =
        |part: usize| after[part].saturating_sub(before[part]).as_secs_f64() * 1e3 / images as f64;
    Ok(DataBench {
        stage: stage.to_string(),
        decode: plan.data.decode,
        workers: loader.workers(),
        batch_size: training.batch_size,
        images_per_s,
        images_per_s_per_worker: images_per_s / loader.workers().max(1) as f64,
        images,
        ms_per_image: LoadSplit { read: ms(0), decode: ms(1), resize: ms(2), augment: ms(3) },
        memory_bytes: [memory, super::memory::of_process()],
    })
}

fn sums(times: &LoadTimes) -> [Duration; 4] {
    [LoadPart::Read, LoadPart::Decode, LoadPart::Resize, LoadPart::Augment].map(|p| times.of(p))
}
