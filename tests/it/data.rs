//! Reproducible batches, checks of data sets before a run, and errors that name bad files.

#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::program::save_jpeg;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use mae::data::{
    Batch, CropRule, DataError, EvalTransform, ImagesSlice, Labels, Loader, Mixup, Picture, Pixels,
    Split, Stored, Targets, TrainTransform, open, picture, transform_picture,
};
use mae::random::Key;
use mae::recipe::{
    AugmentPlan, CropMode, DataPlan, EraseMode, ErasingPlan, Format, MixupMode, MixupPlan,
    Promised, Threads,
};
use mae::shape::StageKind;
use tempfile::TempDir;

pub(crate) fn plan(format: Format, path: &Path) -> DataPlan {
    DataPlan { format, path: path.to_owned(), ..DataPlan::of_pictures(16, [0.5; 3], [0.5; 3]) }
}

fn synthetic() -> DataPlan {
    let promised = Promised { num_classes: Some(5), train_images: Some(50), val_images: Some(21) };
    DataPlan { promised, ..plan(Format::Synthetic, Path::new("")) }
}

pub(crate) fn photo(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side * 3 / 4, |x, y| Rgb([(x * 9) as u8, (y * 7) as u8, (x ^ y) as u8]))
}

pub(crate) fn save(path: PathBuf, image: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image: DynamicImage = image.into();
    match ImageFormat::from_path(&path).unwrap() {
        ImageFormat::Jpeg => save_jpeg(&path, &image.into_rgb8()),
        format => image.save_with_format(path, format).unwrap(),
    }
}

pub(crate) fn folder(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        save(dir.path().join(file), photo(24));
    }
    dir
}

pub(crate) fn key() -> Key {
    Key { seed: 7, stage: StageKind::Finetune as u8, epoch: 0 }
}

/// Returns a loader with everything random: crop, flip, erasing, mixup.
fn training(plan: &DataPlan, workers: usize) -> Loader {
    let augment = augment([0.2, 1.0], true);
    let erasing = ErasingPlan { reprob: 0.5, remode: EraseMode::Pixel, recount: 2 };
    let transform = TrainTransform::new(plan, &augment, CropRule::TenTries).with_erasing(erasing);
    let mixup = MixupPlan {
        mixup: 0.8,
        cutmix: 1.0,
        cutmix_minmax: None,
        mixup_prob: 1.0,
        mixup_switch_prob: 0.5,
        mixup_mode: MixupMode::Batch,
    };
    let mixup = Mixup { plan: mixup, smoothing: 0.1, num_classes: 5 };
    let train = open(plan, Labels::Needed).unwrap().train;
    Loader::train(train, transform, Some(mixup), 12, Threads::Count(workers), key()).unwrap()
}

pub(crate) fn all(loader: &Loader, epoch: usize, first_micro_step: usize) -> Vec<Batch> {
    loader.epoch(epoch, first_micro_step).collect::<Result<_, _>>().unwrap()
}

pub(crate) fn error_of(plan: &DataPlan, labels: Labels) -> String {
    open(plan, labels).err().expect("refused").to_string()
}

pub(crate) fn augment(crop_scale: [f64; 2], hflip: bool) -> AugmentPlan {
    AugmentPlan { crop: CropMode::Resized, crop_scale, hflip, color_jitter: 0.0, aug_repeats: 1 }
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let inline = all(&training(&synthetic(), 0), 3, 0);
    assert_eq!(inline.len(), 4, "50 images are 4 whole batches of 12");
    assert!(inline == all(&training(&synthetic(), 1), 3, 0));
    assert!(inline == all(&training(&synthetic(), 5), 3, 0));
}

#[test]
fn a_resumed_epoch_continues_with_the_same_batches() {
    for workers in [0, 3] {
        let loader = training(&synthetic(), workers);
        assert!(all(&loader, 2, 0)[3..] == all(&loader, 2, 3));
        assert!(all(&loader, 2, 4).is_empty());
        assert!(all(&loader, 2, 9).is_empty());
    }
}

#[test]
fn epochs_differ_and_each_sees_an_image_once() {
    let loader = training(&synthetic(), 2);
    let samples = |epoch| -> Vec<u64> {
        all(&loader, epoch, 0).iter().flat_map(|batch| batch.samples.clone()).collect()
    };
    let (first, second) = (samples(1), samples(2));
    assert_ne!(first, second);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 48);
}

#[test]
fn evaluation_reads_every_image_once_in_order() {
    let plan = synthetic();
    for workers in [0, 3] {
        let val = open(&plan, Labels::Needed).unwrap().val.unwrap();
        let loader = Loader::eval(val, EvalTransform::new(&plan), 8, Threads::Count(workers));
        assert_eq!(loader.micro_steps(), 3);
        let batches = all(&loader, 1, 0);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8, 5]);
        let samples: Vec<u64> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
        assert_eq!(samples, (0..21).collect::<Vec<u64>>());
        assert_eq!(batches[2].images.len(), 5 * 3 * 16 * 16);
        assert_eq!(batches[2].targets, Targets::Hard(vec![1, 2, 3, 4, 0]));
    }
}

#[test]
fn fewer_images_than_a_batch_are_an_error_before_training() {
    let mut plan = synthetic();
    plan.promised.train_images = Some(3);
    let augment = augment([1.0, 1.0], false);
    let transform = TrainTransform::new(&plan, &augment, CropRule::TenTries);
    let train = open(&plan, Labels::Needed).unwrap().train;
    let error = Loader::train(train, transform, None, 4, Threads::Auto, key()).err().unwrap();
    assert!(error.to_string().starts_with("cannot fill a batch of 4 images"), "{error}");
}

/// A split whose pictures are slow to read. One of them may panic.
struct Slow {
    reads: AtomicUsize,
    panics_at: Option<usize>,
}

impl Split for Slow {
    fn len(&self) -> usize {
        10_000
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn read<'a>(&self, index: usize, _: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(self.panics_at != Some(index), "picture {index} is bad");
        std::thread::sleep(Duration::from_millis(1));
        let pixels = Pixels::F32(vec![0.5; 16 * 16]);
        Ok(Stored::Picture(Picture { width: 16, height: 16, channels: 1, pixels }))
    }

    fn name(&self, index: usize) -> PathBuf {
        format!("slow {index}").into()
    }

    fn holds_levels(&self) -> bool {
        false
    }
}

fn slow(panics_at: Option<usize>) -> (Arc<Slow>, Loader) {
    let split = Arc::new(Slow { reads: AtomicUsize::new(0), panics_at });
    let transform = EvalTransform::new(&synthetic());
    let loader = Loader::eval(split.clone(), transform, 32, Threads::Count(4));
    (split, loader)
}

#[test]
fn a_dropped_epoch_stops_its_workers() {
    let (split, loader) = slow(None);
    let mut epoch = loader.epoch(1, 0);
    epoch.next().unwrap().unwrap();
    let started = Instant::now();
    drop(epoch);
    assert!(started.elapsed() < Duration::from_secs(2));
    let reads = split.reads.load(Ordering::SeqCst);
    assert!(reads < 300, "{reads} pictures were read for one batch of 32");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(split.reads.load(Ordering::SeqCst), reads, "all workers have stopped");
}

#[test]
fn a_panic_in_a_worker_is_an_error_that_ends_the_epoch() {
    let (_, loader) = slow(Some(40));
    let results: Vec<_> = loader.epoch(1, 0).collect();
    assert_eq!(results.len(), 2);
    let error = results[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("picture 40 is bad"), "{error}");
}

#[test]
fn digits_are_resized_as_by_torch_and_only_normalized() {
    let mut plan = plan(Format::Digits, Path::new(""));
    let digits = open(&plan, Labels::Needed).unwrap();
    assert_eq!((digits.facts.train_images, digits.facts.val_images), (1437, 360));
    assert_eq!(digits.class_names[9], "9");
    plan.input_size = 8.into();
    let small = picture(&*open(&plan, Labels::Needed).unwrap().train, 5).unwrap();
    let large = picture(&*digits.train, 5).unwrap();
    let (Pixels::F32(small), Pixels::F32(large)) = (&small.pixels, &large.pixels) else {
        panic!("digits are floats")
    };
    // At twice the size, output pixel (3, 4) is at row 1.25 and column 1.75 of the source.
    let at = |y: usize, x: usize| small[y * 8 + x];
    let expected =
        0.75 * (0.25 * at(1, 1) + 0.75 * at(1, 2)) + 0.25 * (0.25 * at(2, 1) + 0.75 * at(2, 2));
    assert!((large[3 * 16 + 4] - expected).abs() < 1e-6);
    assert_eq!(large[0].to_bits(), small[0].to_bits(), "a corner pixel keeps its value");

    let augment = augment([1.0, 1.0], false);
    plan.input_size = 16.into();
    let transform = TrainTransform::new(&plan, &augment, CropRule::TenTries);
    let loader = Loader::train(digits.train, transform, None, 64, Threads::Auto, key()).unwrap();
    let batch = loader.epoch(1, 0).next().unwrap().unwrap();
    let place = loader.epoch(1, 0).flat_map(|b| b.unwrap().samples).position(|s| s == 5).unwrap();
    let batch = if place < 64 { batch } else { all(&loader, 1, place / 64).swap_remove(0) };
    let image = batch.shard(place % 64..place % 64 + 1).images;
    let normalized: Vec<f32> = large.iter().map(|v| (v - 0.5) / 0.5).collect();
    let expected = [&normalized[..], &normalized, &normalized].concat();
    assert_eq!(image, ImagesSlice::Values(&expected));
}

#[test]
fn float_pictures_can_be_cropped_too() {
    let plan = plan(Format::Digits, Path::new(""));
    let augment = augment([0.5, 1.0], true);
    let transform = TrainTransform::new(&plan, &augment, CropRule::SingleTry);
    let train = open(&plan, Labels::Needed).unwrap().train;
    let plain = EvalTransform::new(&plan).apply(&picture(&*train, 0).unwrap());
    let loader = Loader::train(train, transform, None, 1437, Threads::Auto, key()).unwrap();
    let batch = all(&loader, 1, 0).swap_remove(0);
    let at = batch.samples.iter().position(|sample| *sample == 0).unwrap();
    let ImagesSlice::Values(image) = batch.shard(at..at + 1).images else { panic!("floats") };
    assert_eq!(image.len(), 3 * 16 * 16);
    assert_eq!(image[..256], image[256..512], "channels stay equal");
    assert_ne!(image, plain);
}

#[test]
fn labels_are_positions_of_sorted_class_folders() {
    let dir = folder(&[
        "train/b/1.JPG",
        "train/b/0.png",
        "train/a/deep/2.jpeg",
        "val/a/1.jpg",
        "val/b/1.jpg",
    ]);
    fs::File::create(dir.path().join("train/a/notes.txt")).unwrap();
    fs::File::create(dir.path().join("train/a/.hidden.jpg")).unwrap();
    let data = open(&plan(Format::ImageFolder, dir.path()), Labels::Needed).unwrap();
    assert_eq!(data.class_names, ["a", "b"]);
    assert_eq!((0..3).map(|i| data.train.label(i)).collect::<Vec<_>>(), [0, 1, 1]);
    let png = picture(&*data.train, 1).unwrap();
    assert_eq!(png.pixels, Pixels::U8(photo(24).into_raw()));
    assert_eq!((data.facts.num_classes, data.facts.train_images, data.facts.val_images), (2, 3, 2));
}

#[test]
fn the_fingerprint_depends_on_names_and_sizes() {
    let dir = folder(&["train/a/1.png", "val/a/1.png"]);
    let fingerprint =
        || open(&plan(Format::ImageFolder, dir.path()), Labels::Needed).unwrap().fingerprint;
    let first = fingerprint();
    assert_eq!(first.len(), 64);
    save(dir.path().join("train/a/1.png"), photo(25));
    let resized = fingerprint();
    fs::rename(dir.path().join("val/a/1.png"), dir.path().join("val/a/2.png")).unwrap();
    assert!(first != resized && resized != fingerprint());
}

#[test]
fn pretraining_alone_accepts_any_folder_of_images() {
    let flat = folder(&["b.jpg", "a.png"]);
    let data = open(&plan(Format::ImageFolder, flat.path()), Labels::Unneeded).unwrap();
    assert_eq!((data.train.len(), data.train.label(0)), (2, 0));
    assert!(data.val.is_none() && data.class_names.is_empty());

    let with_train = folder(&["train/b.jpg", "train/sub/a.png", "other/c.png"]);
    let data = open(&plan(Format::ImageFolder, with_train.path()), Labels::Unneeded).unwrap();
    assert_eq!(data.train.len(), 2);

    let error = error_of(&plan(Format::ImageFolder, flat.path()), Labels::Needed);
    assert!(
        error
            .contains("train: the folder does not exist\nhint: put the images in `train/<class>/`"),
        "{error}"
    );
}

#[test]
fn an_invalid_folder_layout_is_an_error_with_the_reason() {
    let dir = folder(&["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/owl/1.jpg"]);
    let plan = plan(Format::ImageFolder, dir.path());
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("only in train/: `dog`; only in val/: `owl`"), "{error}");

    fs::rename(dir.path().join("val/owl"), dir.path().join("val/dog")).unwrap();
    fs::remove_file(dir.path().join("train/dog/1.jpg")).unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("these class folders contain no images: `dog`"), "{error}");

    save(dir.path().join("train/1.jpg"), photo(24));
    let error = error_of(&plan, Labels::Needed);
    assert!(
        error.contains("these class folders contain no images: `dog`"),
        "pictures beside the folders are ignored: {error}"
    );

    let empty = tempfile::tempdir().unwrap();
    let error = error_of(&DataPlan { path: empty.path().to_owned(), ..plan }, Labels::Unneeded);
    assert!(error.contains("the folder contains no images (jpg, png, webp, …)"), "{error}");
}

#[test]
fn errors_about_settings_name_the_key() {
    let mut promising = plan(Format::Digits, Path::new(""));
    promising.promised.train_images = Some(1281);
    let error = error_of(&promising, Labels::Needed);
    assert!(
        error.starts_with(
            "the recipe has `data.train_images = 1281`, but the data has 1437 training images"
        ),
        "{error}"
    );

    let dir = folder(&["1.jpg"]);
    let four = DataPlan { in_chans: 4, ..plan(Format::ImageFolder, dir.path()) };
    assert!(error_of(&four, Labels::Unneeded).contains("data.in_chans = 4"));
    let missing = plan(Format::ImageFolder, Path::new("/no/such/folder"));
    let error = error_of(&missing, Labels::Needed);
    assert!(error.starts_with("cannot use /no/such/folder: the folder does not exist"), "{error}");
}

#[test]
fn a_truncated_file_ends_the_epoch_with_an_error_that_names_it() {
    for (name, kept) in [("half.jpg", 0.6), ("half.png", 0.6), ("end.jpg", 0.999)] {
        let dir = folder(&["a.jpg", "b.jpg"]);
        let path = dir.path().join(name);
        save(path.clone(), photo(96));
        let bytes = fs::read(&path).unwrap();
        let kept = (bytes.len() as f64 * kept) as u64;
        fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();

        let plan = plan(Format::ImageFolder, dir.path());
        let split = open(&plan, Labels::Unneeded).unwrap().train;
        let loader = Loader::eval(split, EvalTransform::new(&plan), 1, Threads::Count(2));
        let results: Vec<_> = loader.epoch(1, 0).collect();
        assert_eq!(results.len(), 3);
        let error = results[2].as_ref().unwrap_err();
        assert!(matches!(error, DataError::BadImage { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn grey_models_see_luma_and_alpha_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("see-through.png");
    save(path.clone(), RgbaImage::from_pixel(16, 16, image::Rgba([10, 200, 30, 5])));
    let mut plan = plan(Format::ImageFolder, dir.path());
    let colour = transform_picture(&path, &plan).unwrap();
    let normalized = |level: f32| (level / 255.0 - 0.5) / 0.5;
    let expected = [10.0, 200.0, 30.0].map(|level| vec![normalized(level); 256]).concat();
    assert_eq!(colour, expected);
    (plan.in_chans, plan.mean, plan.std) = (1, vec![0.5], vec![0.5]);
    let grey = transform_picture(&path, &plan).unwrap();
    assert_eq!(grey, vec![normalized(124.0); 256]);
}

#[test]
fn synthetic_images_are_the_same_in_every_run_and_differ_between_splits() {
    let (first, second) =
        (open(&synthetic(), Labels::Needed).unwrap(), open(&synthetic(), Labels::Needed).unwrap());
    assert_eq!(picture(&*first.train, 7).unwrap(), picture(&*second.train, 7).unwrap());
    assert_ne!(picture(&*first.train, 7).unwrap(), picture(&*first.val.unwrap(), 7).unwrap());
    assert_eq!(first.fingerprint, second.fingerprint);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_a_loop_is_an_error() {
    let dir = folder(&["train/a/1.png", "elsewhere/1.png"]);
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("train/b")).unwrap();
    let plan = plan(Format::ImageFolder, dir.path());
    let data = open(&plan, Labels::Unneeded).unwrap();
    assert_eq!(data.class_names, ["a", "b"]);
    std::os::unix::fs::symlink(dir.path(), dir.path().join("train/b/loop")).unwrap();
    let error = error_of(&plan, Labels::Unneeded);
    assert!(error.contains("symbolic link that leads back"), "{error}");
}
