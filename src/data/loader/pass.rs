//! One pass over a split: chooses the images of each batch, reads and transforms them.

use std::ops::Range;
use std::sync::Arc;

use crate::data::augment::evaluation::EvalTransform;
use crate::data::augment::frame::Frame;
use crate::data::augment::mixup::Mixup;
use crate::data::augment::transform::TrainTransform;
use crate::data::batch::{Batch, Targets};
use crate::data::decode::opened_image::OpenedImage;
use crate::data::draw::permutation;
use crate::data::error::DataError;
use crate::data::formats::split::Split;
use crate::data::recycled::Pools;
use crate::data::times::{LoadPart, LoadTimes};
use crate::random::{Key, NO_STAGE, Purpose};

use super::bad_files::BadFiles;

// A sample number holds the image index in the bits below this bit, and the repeat number above.
const REPEAT: u32 = 40;

#[derive(Clone)]
pub(super) struct LoaderShared {
    pub(super) split: Arc<dyn Split>,
    pub(super) transform: Transform,
    pub(super) batch_size: usize,
    pub(super) share: Share,
    /// Whether batches hold 8-bit values, which the device normalizes.
    pub(super) levels: bool,
    /// Collects unusable files. If `None`, an unusable file is an error.
    pub(super) bad_files: Option<Arc<BadFiles>>,
    pub(super) times: LoadTimes,
}

/// The batches that one device loads: every `of`-th batch of an epoch, starting with batch `index` (from 0).
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub index: usize,
    pub of: usize,
    /// Number of devices on this host, which divide the worker threads of the host.
    pub on_this_host: usize,
}

impl Share {
    /// All batches of an epoch, for training on a single device.
    pub const ALL: Self = Self { index: 0, of: 1, on_this_host: 1 };
}

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a loader has only one")]
pub(super) enum Transform {
    Train {
        transform: TrainTransform,
        mixup: Option<Mixup>,
        /// Random key with the seed and stage. [`EpochPass`] replaces the epoch of the key.
        key: Key,
    },
    Eval(EvalTransform),
}

/// One pass over the images of a split.
pub(super) struct EpochPass {
    pub(super) work: Arc<LoaderShared>,
    key: Key,
    /// Shuffled image indices; `None` for evaluation, which keeps the order.
    order: Option<Vec<u64>>,
    /// Reuses the memory of the chunks that workers load.
    chunks: Pools,
    /// Reuses the memory of whole batches.
    batches: Pools,
}

impl EpochPass {
    pub(super) fn new(work: Arc<LoaderShared>, epoch: usize) -> Self {
        let (key, order) = match work.transform {
            Transform::Train { key, .. } => {
                let key = Key { epoch, ..key };
                (key, Some(permutation(&mut key.rng(0, Purpose::Shuffle), work.split.len())))
            }
            Transform::Eval(_) => (Key { seed: 0, stage: NO_STAGE, epoch }, None),
        };
        Self { work, key, order, chunks: Pools::default(), batches: Pools::default() }
    }

    /// Converts the batch index on this device to the batch index in the epoch.
    fn global(&self, micro_step: usize) -> usize {
        let Share { index, of, .. } = self.work.share;
        micro_step * of + index
    }

    /// Returns the range of epoch positions that belong to batch `micro_step`.
    pub(super) fn places(&self, micro_step: usize) -> Range<usize> {
        let start = self.global(micro_step) * self.work.batch_size;
        start..(start + self.work.batch_size).min(self.work.split.len())
    }

    /// Returns (sample number, image index) for position `place` of the epoch.
    fn sample(&self, place: usize) -> (u64, usize) {
        let Some(order) = &self.order else { return (place as u64, place) };
        let repeats = self.work.transform.repeats();
        let index = order[place / repeats];
        (index | ((place % repeats) as u64) << REPEAT, index as usize)
    }

    /// Loads the images at the positions `places` of the epoch, without mixup.
    pub(super) fn make(&self, places: Range<usize>) -> Result<Batch, DataError> {
        let mut batch = self.work.empty(places.len(), &self.chunks);
        let mut buffer = Vec::new();
        for place in places {
            let (sample, index) = self.sample(place);
            self.add(&mut batch, &mut buffer, sample, index)?;
        }
        Ok(batch)
    }

    /// Adds image `index` to `batch`.
    ///
    /// If the file is unusable, adds the next usable image instead. Fails if too many files are unusable.
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
            let (Some(bad_files), Some(file)) = (bad_files, error.bad_file()) else {
                return Err(error);
            };
            bad_files.note(file, &error)?;
            last = Some(error);
        }
        Err(last.expect("a split with a batch has at least one image"))
    }

    /// Loads the images at the positions `places` of the epoch.
    ///
    /// Returns the unreadable images, as (image index, error).
    pub(super) fn unreadable(
        &self,
        places: Range<usize>,
    ) -> Result<Vec<(usize, DataError)>, DataError> {
        let mut batch = self.work.empty(places.len(), &self.chunks);
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for place in places {
            let (sample, index) = self.sample(place);
            match self.work.add(&mut batch, &mut buffer, &self.key, sample, index) {
                Err(error) if error.bad_file().is_some() => found.push((index, error)),
                done => done?,
            }
        }
        Ok(found)
    }

    /// Returns an empty batch with room for all images of batch `micro_step`.
    pub(super) fn empty(&self, micro_step: usize) -> Batch {
        self.work.empty(self.places(micro_step).len(), &self.batches)
    }

    pub(super) fn mix(&self, batch: &mut Batch, micro_step: usize) {
        if let Transform::Train { mixup: Some(mixup), transform, .. } = &self.work.transform {
            mixup.apply(batch, transform.frame.input_size, &self.key, self.global(micro_step));
        }
    }

    pub(super) fn batch(&self, micro_step: usize) -> Result<Batch, DataError> {
        let mut batch = self.make(self.places(micro_step))?;
        self.mix(&mut batch, micro_step);
        Ok(batch)
    }
}

impl LoaderShared {
    /// Returns an empty batch with room for `images` images.
    fn empty(&self, images: usize, pools: &Pools) -> Batch {
        Batch {
            images: self.transform.frame().room(images, self.levels, pools),
            targets: Targets::Hard(Vec::with_capacity(images)),
            samples: Vec::with_capacity(images),
        }
    }

    /// Augments image `index`, and adds the result to `batch`.
    ///
    /// `sample` determines the random numbers.
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
        pushed.map_err(|error| error.of(&split.name(index)))?;
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

    pub(super) fn ends_in_levels(&self) -> bool {
        match self {
            Self::Train { transform, mixup, .. } => mixup.is_none() && transform.ends_in_levels(),
            Self::Eval(_) => true,
        }
    }

    fn repeats(&self) -> usize {
        match self {
            Self::Train { transform, .. } => transform.aug_repeats,
            Self::Eval(_) => 1,
        }
    }
}
