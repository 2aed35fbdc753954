//! Batches of an epoch, in an order and with a content that depend on its key alone.

mod prefetch;

use std::ops::Range;
use std::sync::Arc;

use crate::random::{Key, NO_STAGE, Purpose};
use crate::recipe::Threads;

use super::bad_files::BadFiles;
use super::batch::{Batch, Targets};
use super::decode::OpenedImage;
use super::draw::permutation;
use super::error::DataError;
use super::evaluation::EvalTransform;
use super::frame::Frame;
use super::mixup::Mixup;
use super::split::Split;
use super::times::{LoadPart, LoadTimes};
use super::transform::TrainTransform;
use super::workers;
use prefetch::Prefetcher;

/// Where in a sample's name its repeat is: above any index.
const REPEAT: u32 = 40;

/// Gives the batches of any epoch from any micro-step on.
#[derive(Clone)]
pub struct Loader {
    work: Arc<LoaderShared>,
    /// 0 makes batches in the caller's thread.
    workers: usize,
}

#[derive(Clone)]
struct LoaderShared {
    split: Arc<dyn Split>,
    transform: Transform,
    batch_size: usize,
    share: Share,
    /// Whether images stay in whole levels.
    levels: bool,
    /// What training does about files that cannot be used; without it they are errors.
    bad_files: Option<Arc<BadFiles>>,
    times: LoadTimes,
}

/// Which batches of an epoch a loader gives: every `of`-th from `index` on. Each device that trains has a share.
#[derive(Debug, Clone, Copy)]
struct Share {
    index: usize,
    of: usize,
}

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one in a loader")]
enum Transform {
    Train {
        transform: TrainTransform,
        mixup: Option<Mixup>,
        /// Its `epoch` is replaced.
        key: Key,
    },
    Eval(EvalTransform),
}

impl Loader {
    /// Shuffled, augmented batches of exactly `batch_size` images; the rest of an epoch is left out.
    ///
    /// `key` gives seed and stage; its epoch is of no account. Fails where there are fewer than `batch_size` images.
    pub fn train(
        split: Arc<dyn Split>,
        transform: TrainTransform,
        mixup: Option<Mixup>,
        batch_size: usize,
        workers: Threads,
        key: Key,
    ) -> Result<Self, DataError> {
        if split.len() < batch_size {
            return Err(DataError::setting(
                format!(
                    "a micro-batch takes {batch_size} images, the training split has {}",
                    split.len()
                ),
                "an incomplete batch is dropped, so nothing would be trained: use a smaller batch_size",
            ));
        }
        Ok(Self::new(split, Transform::Train { transform, mixup, key }, batch_size, workers))
    }

    /// All images once, in order, as they are evaluated; the last batch may be smaller.
    pub fn eval(
        split: Arc<dyn Split>,
        transform: EvalTransform,
        batch_size: usize,
        workers: Threads,
    ) -> Self {
        Self::new(split, Transform::Eval(transform), batch_size, workers)
    }

    fn new(
        split: Arc<dyn Split>,
        transform: Transform,
        batch_size: usize,
        workers: Threads,
    ) -> Self {
        assert!(batch_size > 0, "recipe::resolve has refused a batch_size of 0");
        let workers = if split.is_cheap() { 0 } else { workers::count(workers) };
        let work = LoaderShared {
            levels: split.holds_levels() && transform.ends_in_levels(),
            split,
            transform,
            batch_size,
            share: Share { index: 0, of: 1 },
            bad_files: None,
            times: LoadTimes::default(),
        };
        Self { work: Arc::new(work), workers }
    }

    /// Lets another image take the place of one whose file cannot be used, as long as `bad_files` allows it.
    #[must_use]
    pub fn skipping_bad_files(self, bad_files: Arc<BadFiles>) -> Self {
        let work = LoaderShared { bad_files: Some(bad_files), ..(*self.work).clone() };
        Self { work: Arc::new(work), ..self }
    }

    /// What the time of all workers went into so far.
    pub fn times(&self) -> &LoadTimes {
        &self.work.times
    }

    /// The number of threads that make batches beside the caller's.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Gives a loader of the batches `index`, `of + index`, `2 of + index`, .. of each epoch, with its share of the workers.
    ///
    /// Together the `of` loaders give every batch once, each as this loader would.
    #[must_use]
    pub fn share(self, index: usize, of: usize) -> Self {
        assert!(index < of, "one of the shares");
        let work = LoaderShared { share: Share { index, of }, ..(*self.work).clone() };
        Self { work: Arc::new(work), workers: self.workers.div_ceil(of) }
    }

    /// Shares the workers with the loaders of `others` jobs that run at the same time.
    #[must_use]
    pub fn with_parallel_jobs(self, others: usize) -> Self {
        Self { workers: self.workers.div_ceil(1 + others), ..self }
    }

    /// The number of this loader's batches in an epoch.
    pub fn micro_steps(&self) -> usize {
        let LoaderShared { split, transform, batch_size, share, .. } = &*self.work;
        let all = match transform {
            Transform::Train { .. } => split.len() / batch_size,
            Transform::Eval(_) => split.len().div_ceil(*batch_size),
        };
        all.saturating_sub(share.index).div_ceil(share.of)
    }

    /// Gives the batches of `epoch` (from 1) from `first_micro_step` (from 0) on; nothing before it is read.
    ///
    /// Ends after the first error. Dropping it stops the workers and waits for what is in their hands.
    pub fn epoch(&self, epoch: usize, first_micro_step: usize) -> Epoch {
        let pass = Arc::new(EpochPass::new(Arc::clone(&self.work), epoch));
        let steps = first_micro_step..self.micro_steps();
        let making = match self.workers {
            0 => Making::Here,
            workers => Making::Prefetcher(Prefetcher::start(workers, &pass, steps.clone())),
        };
        Epoch { pass, steps, making }
    }
}

/// One pass over a split.
struct EpochPass {
    work: Arc<LoaderShared>,
    key: Key,
    /// Sample at each place; in evaluation the place itself.
    order: Option<Vec<u64>>,
}

impl EpochPass {
    fn new(work: Arc<LoaderShared>, epoch: usize) -> Self {
        match work.transform {
            Transform::Train { key, .. } => {
                let key = Key { epoch, ..key };
                let order = permutation(&mut key.rng(0, Purpose::Shuffle), work.split.len());
                Self { work, key, order: Some(order) }
            }
            Transform::Eval(_) => {
                let key = Key { seed: 0, stage: NO_STAGE, epoch };
                Self { work, key, order: None }
            }
        }
    }

    /// The number among all batches of the epoch.
    fn global(&self, micro_step: usize) -> usize {
        let Share { index, of } = self.work.share;
        micro_step * of + index
    }

    /// The places in the order that a micro-step covers.
    fn places(&self, micro_step: usize) -> Range<usize> {
        let start = self.global(micro_step) * self.work.batch_size;
        start..(start + self.work.batch_size).min(self.work.split.len())
    }

    /// The sample at a place: what names its random numbers, and its index in the split.
    fn sample(&self, place: usize) -> (u64, usize) {
        let Some(order) = &self.order else { return (place as u64, place) };
        let repeats = self.work.transform.repeats();
        let index = order[place / repeats];
        (index | ((place % repeats) as u64) << REPEAT, index as usize)
    }

    /// Makes the images at `places`, not mixed.
    fn make(&self, places: Range<usize>) -> Result<Batch, DataError> {
        let mut batch = self.work.empty(places.len());
        let mut buffer = Vec::new();
        for place in places {
            let (sample, index) = self.sample(place);
            self.add(&mut batch, &mut buffer, sample, index)?;
        }
        Ok(batch)
    }

    /// Adds the image of `index`; where its file cannot be used, and that is allowed, the next one that can.
    fn add(
        &self,
        batch: &mut Batch,
        buffer: &mut Vec<u8>,
        sample: u64,
        index: usize,
    ) -> Result<(), DataError> {
        let LoaderShared { split, bad_files, .. } = &*self.work;
        let mut last = None;
        for index in (index..split.len()).chain(0..index) {
            let Err(error) = self.work.add(batch, buffer, &self.key, sample, index) else {
                return Ok(());
            };
            let (Some(bad_files), Some((file, problem))) = (bad_files, error.bad_file()) else {
                return Err(error);
            };
            bad_files.note(file, &problem)?;
            last = Some(error);
        }
        Err(last.expect("a batch is made of images that there are"))
    }

    fn mix(&self, batch: &mut Batch, micro_step: usize) {
        if let Transform::Train { mixup: Some(mixup), transform, .. } = &self.work.transform {
            mixup.apply(batch, transform.frame.input_size, &self.key, self.global(micro_step));
        }
    }

    fn batch(&self, micro_step: usize) -> Result<Batch, DataError> {
        let mut batch = self.make(self.places(micro_step))?;
        self.mix(&mut batch, micro_step);
        Ok(batch)
    }
}

impl LoaderShared {
    fn empty(&self, images: usize) -> Batch {
        Batch {
            images: self.transform.frame().room(images, self.levels),
            targets: Targets::Hard(Vec::with_capacity(images)),
            samples: Vec::with_capacity(images),
        }
    }

    /// Adds picture `index` to a batch that is not mixed yet, with the random numbers of `sample`.
    fn add(
        &self,
        batch: &mut Batch,
        buffer: &mut Vec<u8>,
        key: &Key,
        sample: u64,
        index: usize,
    ) -> Result<(), DataError> {
        let Self { split, transform, times, .. } = self;
        let stored = times.time(LoadPart::Read, || split.read(index, buffer))?;
        let pushed =
            times.time(LoadPart::Decode, || OpenedImage::stored(stored)).and_then(|opened| {
                match transform {
                    Transform::Train { transform, .. } => {
                        transform.push(&mut batch.images, opened, key, sample, times)
                    }
                    Transform::Eval(transform) => transform.push(&mut batch.images, opened, times),
                }
            });
        pushed.map_err(|problem| DataError::bad_image(&split.name(index), problem))?;
        if let Targets::Hard(labels) = &mut batch.targets {
            labels.push(split.label(index));
        }
        batch.samples.push(sample);
        Ok(())
    }
}

impl Transform {
    fn frame(&self) -> &Frame {
        match self {
            Self::Train { transform, .. } => &transform.frame,
            Self::Eval(transform) => &transform.frame,
        }
    }

    fn ends_in_levels(&self) -> bool {
        match self {
            Self::Train { transform, mixup, .. } => mixup.is_none() && transform.ends_in_levels(),
            Self::Eval(_) => true,
        }
    }

    /// How often an epoch takes an image that it takes.
    fn repeats(&self) -> usize {
        match self {
            Self::Train { transform, .. } => transform.aug_repeats,
            Self::Eval(_) => 1,
        }
    }
}

/// The batches of an epoch.
pub struct Epoch {
    pass: Arc<EpochPass>,
    steps: Range<usize>,
    making: Making,
}

enum Making {
    /// Each batch when it is asked for.
    Here,
    Prefetcher(Prefetcher),
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let micro_step = self.steps.next()?;
        let batch = match &mut self.making {
            Making::Here => self.pass.batch(micro_step),
            Making::Prefetcher(ahead) => ahead.receive(),
        };
        if batch.is_err() {
            self.steps = 0..0;
        }
        Some(batch)
    }
}
