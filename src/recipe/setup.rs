//! Derives the plans of `[data]`, `[model]` and `[runtime]`, and writes derived values back to the recipe.

use std::path::PathBuf;
use std::time::Duration;

use super::context::{Context, given};
use super::error::Problem;
use super::plan::{
    BadVal, DataPlan, DeviceKind, Format, ModelPlan, Promised, RuntimePlan, Threads,
};
use super::schema::{Checkpoint, Data, Model, Runtime};
use super::values::{All, Auto, Off, Or};
use super::{Missing, vars};
use crate::shape::ImageSize;

/// ImageNet's `[mean, std]` of the R, G and B channels, as in the official code.
pub const IMAGENET_MEAN_STD: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

pub(super) fn data(data: &mut Data, cx: &mut Context<'_>) -> DataPlan {
    let format = given(data.format.as_ref());
    let in_chans = given(data.in_chans.as_ref());
    let path = data_path(data, format, cx);
    let class_map = data.class_map.clone().and_then(|text| expanded("data.class_map", &text, cx));
    data.class_map = class_map.as_deref().map(vars::escape);

    let [imagenet_mean, imagenet_std] = IMAGENET_MEAN_STD;
    let natural = in_chans == 3 && format != Format::Digits;
    let default =
        |imagenet: [f64; 3]| if natural { imagenet.to_vec() } else { vec![0.5; in_chans] };
    let mean = data.mean.get_or_insert_with(|| default(imagenet_mean)).clone();
    let std = data.std.get_or_insert_with(|| default(imagenet_std)).clone();
    for (key, list) in [("data.mean", &mean), ("data.std", &std)] {
        if list.len() != in_chans {
            let relation = "needs one value per channel, but the recipe has";
            let hint =
                format!("write one value for each of the {in_chans} channels, or remove this key");
            cx.conflict((key, format!("{list:?}")), relation, ("data.in_chans", in_chans), hint);
        }
        if list.iter().any(|value| value.abs() > 1.0) {
            let why = "is out of range: each value must be from -1 to 1, because mae normalizes pixel values from 0 to 1";
            let hint = "divide the values by 255 if they describe pixel values from 0 to 255";
            cx.refuse(key, format!("{list:?}"), why, hint);
        }
    }
    let range = data.range.filter(|range| usable_range(*range, format, cx));
    DataPlan {
        format,
        path,
        input_size: given(data.input_size.as_ref()),
        in_chans,
        range,
        mean: mean.iter().map(|value| *value as f32).collect(),
        std: std.iter().map(|value| *value as f32).collect(),
        class_map: class_map.map(PathBuf::from),
        image_key: image_key(data, format, cx),
        workers: threads(data.workers.as_ref()),
        decode: given(data.decode.as_ref()),
        max_bad_fraction: given(data.max_bad_fraction.as_ref()),
        bad_val: given(data.bad_val.as_ref()),
        promised: Promised {
            num_classes: data.num_classes,
            train_images: data.train_images,
            val_images: data.val_images,
        },
    }
}

/// Returns false and adds a problem if `data.range` is invalid or unsupported by `format`.
fn usable_range(range: [f64; 2], format: Format, cx: &mut Context<'_>) -> bool {
    let found = || format!("{range:?}");
    let [low, high] = range;
    if low >= high || !low.is_finite() || !high.is_finite() {
        let why = "is not a valid range: expected [low, high] with low < high";
        let hint = "set the smallest and the largest pixel value of the data. `mae data check` prints both values";
        cx.refuse("data.range", found(), why, hint);
        return false;
    }
    let has_files = matches!(format, Format::ImageFolder | Format::WebDataset | Format::Parquet);
    if !has_files {
        let why =
            "is for the pixel values of image files, but this `data.format` has no image files";
        cx.refuse_with("data.range", &["data.format"], found(), why, "remove `data.range`");
    }
    has_files
}

/// Splits `data.image_key` at `;`. Returns the parts in lower case; empty if the recipe does not set the key.
fn image_key(data: &Data, format: Format, cx: &mut Context<'_>) -> Vec<String> {
    const KEY: &str = "data.image_key";
    let Some(text) = data.image_key.as_deref() else { return Vec::new() };
    let part = |part: &str| part.trim().trim_start_matches('.').to_lowercase();
    let keys: Vec<String> = text.split(';').map(part).collect();
    if keys.iter().any(String::is_empty) {
        let hint = "write file endings such as `depth.png`, or column names such as `image.bytes`, separated by `;`";
        cx.refuse(KEY, format!("{text:?}"), "contains an empty entry", hint);
    }
    if !matches!(format, Format::WebDataset | Format::Parquet) {
        let word = serde_json::to_value(format).unwrap_or_default();
        let hint = "remove `data.image_key`, because a sample of this format has only one image";
        let relation = "is for tar shards and parquet files, not for";
        cx.conflict((KEY, format!("{text:?}")), relation, ("data.format", word), hint);
    }
    keys
}

/// Returns the folder of the data set; an empty path if the format needs no files.
///
/// Adds a problem if `data.path` is missing.
fn data_path(data: &mut Data, format: Format, cx: &mut Context<'_>) -> PathBuf {
    if matches!(format, Format::Digits | Format::Synthetic) {
        data.path = None;
        return PathBuf::new();
    }
    let Some(text) = data.path.clone().filter(|text| !text.is_empty()) else {
        let origin = cx.origin(if data.path.is_some() { "data.path" } else { "data.format" });
        let word = serde_json::to_value(format).unwrap_or_default();
        let problem = Problem::Refused {
            found: String::new(),
            why: format!("is missing, but `data.format = {word}` needs a path"),
            hint: "write `path = …` in `[data]`, or use `--set data.path=PATH`. The formats \"digits\" and \
                   \"synthetic\" need no path"
                .to_owned(),
        };
        cx.add("data.path", &["data.format"], problem);
        if let Some(error) = cx.problems.last_mut().filter(|error| error.key == "data.path") {
            error.origin = origin;
        }
        return PathBuf::new();
    };
    match vars::expand(&text, cx.env) {
        Ok(path) => {
            data.path = Some(vars::escape(&path));
            PathBuf::from(path)
        }
        Err(var) if cx.options.missing_data == Missing::Warn => {
            let origin = cx.origin("data.path");
            cx.warnings.push(format!(
                "`data.path` needs the environment variable `{var}`, but this variable is not set ({origin})"
            ));
            PathBuf::from(text)
        }
        Err(var) => {
            cx.add("data.path", &[], Problem::UnsetVariable { var });
            PathBuf::from(text)
        }
    }
}

/// Replaces each `${VAR}` in `text`, which is the value of `key`.
///
/// If a variable is not set, adds a problem and returns `None`.
pub(super) fn expanded(key: &str, text: &str, cx: &mut Context<'_>) -> Option<String> {
    vars::expand(text, cx.env).map_err(|var| cx.add(key, &[], Problem::UnsetVariable { var })).ok()
}

pub(super) fn runtime(runtime: &mut Runtime, cx: &Context<'_>) -> RuntimePlan {
    let device = given(runtime.device.as_ref());
    let devices = match given(runtime.devices.as_ref()) {
        Or::Value(count) => count,
        Or::Word(All::All) if device == DeviceKind::Cpu => 1,
        Or::Word(All::All) => (cx.options.gpus)(device).max(1),
    };
    runtime.devices = Some(Or::Value(devices));
    let hosts = match given(runtime.hosts.as_ref()) {
        Or::Value(count) => count,
        Or::Word(Auto::Auto) => cx.options.hosts.max(1),
    };
    runtime.hosts = Some(Or::Value(hosts));
    RuntimePlan {
        device,
        devices,
        hosts,
        link_mbit: (1e3 * given(runtime.link_gbit.as_ref())).round().max(1.0) as u64,
        precision: given(runtime.precision.as_ref()),
        verify_device: given(runtime.verify_device.as_ref()),
        autotune: given(runtime.autotune.as_ref()),
        schedule: given(runtime.schedule.as_ref()),
        gradient_checkpointing: given(runtime.gradient_checkpointing.as_ref()),
        threads: threads(runtime.threads.as_ref()),
    }
}

/// Adds a problem for `bad_val = "skip"` on several hosts.
///
/// Only the first host knows which validation images are unreadable.
pub(super) fn refuse_skipping_on_hosts(
    data: &DataPlan,
    runtime: &RuntimePlan,
    cx: &mut Context<'_>,
) {
    if data.bad_val == BadVal::Skip && runtime.hosts > 1 {
        let hint = "train on one host. Or repair or remove the unreadable validation images, and then set `data.bad_val=stop`";
        let found = ("data.bad_val", "\"skip\"");
        cx.conflict(found, "is not supported with", ("runtime.hosts", runtime.hosts), hint);
    }
}

pub(super) fn save_every(checkpoint: &Checkpoint) -> Option<Duration> {
    match given(checkpoint.every_minutes.as_ref()) {
        Or::Value(minutes) => Some(Duration::from_secs_f64(60.0 * minutes)),
        Or::Word(Off::None) => None,
    }
}

fn threads(setting: Option<&Or<Auto, usize>>) -> Threads {
    match given(setting) {
        Or::Word(Auto::Auto) => Threads::Auto,
        Or::Value(count) => Threads::Count(count),
    }
}

pub(super) fn model(model: &mut Model, input_size: ImageSize, cx: &mut Context<'_>) -> ModelPlan {
    let size = given(model.size.as_ref()).encoder();
    let plan = ModelPlan {
        patch_size: *model.patch_size.get_or_insert(size.patch_size),
        embed_dim: *model.embed_dim.get_or_insert(size.embed_dim),
        depth: *model.depth.get_or_insert(size.depth),
        num_heads: *model.num_heads.get_or_insert(size.num_heads),
        mlp_ratio: given(model.mlp_ratio.as_ref()),
        norm_eps: given(model.norm_eps.as_ref()),
        decoder_embed_dim: given(model.decoder_embed_dim.as_ref()),
        decoder_depth: given(model.decoder_depth.as_ref()),
        decoder_num_heads: given(model.decoder_num_heads.as_ref()),
        encoder_mask_token: given(model.encoder_mask_token.as_ref()),
    };
    let same = (plan.patch_size, plan.embed_dim, plan.depth, plan.num_heads)
        == (size.patch_size, size.embed_dim, size.depth, size.num_heads);
    if !same {
        model.size = None; // an explicit dimension differs from this size
    }

    check_patches(input_size, plan.patch_size, cx);
    let encoder = (plan.embed_dim, plan.num_heads);
    check_width(["model.embed_dim", "model.num_heads"], encoder, plan.mlp_ratio, cx);
    let decoder = (plan.decoder_embed_dim, plan.decoder_num_heads);
    check_width(
        ["model.decoder_embed_dim", "model.decoder_num_heads"],
        decoder,
        plan.mlp_ratio,
        cx,
    );
    plan
}

/// Adds a problem if `patch_size` does not divide the image's height and width.
fn check_patches(input_size: ImageSize, patch_size: usize, cx: &mut Context<'_>) {
    let below = input_size.in_squares_of(patch_size).times(patch_size);
    if below == input_size {
        return;
    }
    let up = |side: usize| side.next_multiple_of(patch_size);
    let above = ImageSize { height: up(input_size.height), width: up(input_size.width) };
    let near = if below.area() == 0 { above.to_string() } else { format!("{below} or {above}") };
    let hint = format!("set `data.input_size` to {near}");
    let by = ("model.patch_size", patch_size);
    cx.conflict(("data.input_size", input_size), "is not a multiple of", by, hint);
}

fn check_width(
    [dim_key, heads_key]: [&str; 2],
    (dim, heads): (usize, usize),
    mlp_ratio: f64,
    cx: &mut Context<'_>,
) {
    if !dim.is_multiple_of(heads) {
        let fitting = (1..=dim.min(32)).filter(|heads| dim.is_multiple_of(*heads));
        let fitting = fitting.map(|heads| heads.to_string()).collect::<Vec<_>>().join(", ");
        let hint = format!("set `{heads_key}` to one of {fitting}");
        cx.conflict((dim_key, dim), "is not a multiple of", (heads_key, heads), hint);
    }
    if !dim.is_multiple_of(4) {
        let below = dim / 4 * 4;
        let near = if below == 0 { "4".to_owned() } else { format!("{below} or {}", below + 4) };
        let why = "is not a multiple of 4, as the sine-cosine position embedding requires";
        cx.refuse(dim_key, dim, why, format!("set `{dim_key}` to {near}"));
    }
    if (dim as f64 * mlp_ratio) < 1.0 {
        let relation = "is too small: the hidden width of the MLP would be 0 with";
        cx.conflict(
            ("model.mlp_ratio", mlp_ratio),
            relation,
            (dim_key, dim),
            "set `model.mlp_ratio` to the usual value 4.0",
        );
    }
}
