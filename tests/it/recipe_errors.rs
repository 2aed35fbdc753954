//! The errors of a wrong recipe: each names the problem, the place, and how to fix it.

use std::fs;
use std::path::Path;

use super::program::{Bench, TINY};
use mae::recipe::{Missing, Options, Resolved, resolve};

const RUNNING: Options = Options { missing_data: Missing::Refuse, gpus: |_| 0, hosts: 1 };
const PLANNING: Options = Options { missing_data: Missing::Warn, gpus: |_| 0, hosts: 1 };

/// A valid pre-training on digits.
const FINE: &str =
    "[data]\nformat = \"digits\"\ninput_size = 16\n[model]\npatch_size = 4\n[pretrain]\n";

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("a fresh folder is writable");
}

/// Writes `files` into a new folder and resolves the first one. In the error, `DIR` replaces the folder.
fn outcome(
    files: &[(&str, &str)],
    env: &[(&str, &str)],
    set: &[&str],
    options: &Options,
) -> Result<Resolved, String> {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    let env: Vec<_> =
        env.iter().map(|(var, value)| ((*var).to_owned(), (*value).to_owned())).collect();
    let set: Vec<_> = set.iter().map(|arg| (*arg).to_owned()).collect();
    let named = folder.path().display().to_string();
    resolve(&folder.path().join(files[0].0), &env, &set, options)
        .map_err(|errors| format!("error: {errors}").replace(&named, "DIR"))
}

fn errors(text: &str) -> String {
    outcome(&[("r.toml", text)], &[], &[], &RUNNING).expect_err("this recipe is wrong")
}

fn errors_with(text: &str, set: &[&str]) -> String {
    outcome(&[("r.toml", text)], &[], set, &RUNNING).expect_err("these arguments are wrong")
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    insta::assert_snapshot!(errors(&format!("{FINE}mask_ration = 0.5")), @r#"
        error: unknown key `pretrain.mask_ration`
          --> DIR/r.toml:7
          hint: did you mean `mask_ratio`?
        "#);
    insta::assert_snapshot!(errors(&format!("{FINE}[finetune]\nfrom = 'last'\naa = ''\nmask_ratio = 0.5")), @r#"
        error: unknown key `finetune.mask_ratio`
          --> DIR/r.toml:10
          hint: did you mean `pretrain.mask_ratio`?
        "#);
    insta::assert_snapshot!(errors(&format!("{FINE}[pretrian]\nepochs = 3")), @r#"
        error: unknown key `pretrian`
          --> DIR/r.toml:7
          hint: did you mean `pretrain`?
        "#);
    insta::assert_snapshot!(errors(&format!("'pretrain.epochs' = 3\n{FINE}")), @r#"
        error: unknown key `pretrain.epochs`
          --> DIR/r.toml:1
          hint: remove the quotes, because a dot inside quotes is part of the name
        "#);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "modle = 3\n[data]\nformat = 'digit'\n[pretrain]\n\
                epochs = 10\nbatch_size = 0\nnorm_pix_loss = 'true'\n";
    insta::assert_snapshot!(errors_with(text, &["pretrain.augment.hflip=1"]), @r#"
        error: unknown key `modle`
          --> DIR/r.toml:1
          hint: did you mean `model`?
        error: `data.format = "digit"`: expected one of "digits", "imagefolder", "webdataset", "parquet", "cifar10", "cifar100", "synthetic"
          --> DIR/r.toml:3
          hint: did you mean `"digits"`?
        error: `pretrain.batch_size = 0`: expected a whole number from 1 to 1000000
          --> DIR/r.toml:6
        error: `pretrain.norm_pix_loss = "true"`: expected true or false
          --> DIR/r.toml:7
          hint: did you mean `true`?
        error: `pretrain.augment.hflip = 1`: expected true or false
          --> --set pretrain.augment.hflip=1
          hint: did you mean `true`?
        error: `pretrain.warmup_epochs = 40` is more than `pretrain.epochs = 10`
          --> the built-in defaults (`pretrain.warmup_epochs`)
          --> DIR/r.toml:5 (`pretrain.epochs`)
          hint: use `--set pretrain.warmup_epochs=1` to warm up for a tenth of the epochs
        "#);
}

#[test]
fn a_syntax_error_has_its_line() {
    insta::assert_snapshot!(errors("name = 'x'\n[pretrain\nepochs = 3"), @r#"
        error: cannot parse the recipe: unclosed table, expected `]`
          --> DIR/r.toml:2
        "#);
    insta::assert_snapshot!(errors("seed = 1\nseed = 2"), @r#"
        error: cannot parse the recipe: duplicate key (at `seed`)
          --> DIR/r.toml:2
        "#);
}

#[test]
fn a_missing_file_names_the_recipe_that_extends_it() {
    insta::assert_snapshot!(errors("\nextends = ['base.toml']"), @r#"
        error: cannot read the recipe in `extends`: DIR/base.toml: No such file or directory (os error 2)
          --> DIR/r.toml:2
        "#);
    let gone =
        resolve(Path::new("no/such.toml"), &[], &[], &RUNNING).expect_err("there is no such file");
    insta::assert_snapshot!(gone, @r#"
        cannot read the recipe: No such file or directory (os error 2)
          --> no/such.toml
        "#);
}

#[test]
fn a_cycle_shows_its_chain() {
    let files = [("a.toml", "extends = 'b.toml'"), ("b.toml", "seed = 1\nextends = ['a.toml']")];
    insta::assert_snapshot!(outcome(&files, &[], &[], &RUNNING).unwrap_err(), @r#"
        error: `extends` is circular: DIR/a.toml -> DIR/b.toml -> DIR/a.toml
          --> DIR/b.toml:2
          hint: remove one of these files from `extends`
        "#);
    let own = outcome(&[("a.toml", "extends = 'a.toml'")], &[], &[], &RUNNING).unwrap_err();
    insta::assert_snapshot!(own, @r#"
        error: `extends` is circular: DIR/a.toml -> DIR/a.toml
          --> DIR/a.toml:1
          hint: remove one of these files from `extends`
        "#);
}

#[test]
fn an_unset_variable_stops_a_run_and_warns_a_plan() {
    let files = [("r.toml", "[data]\npath = '${NO_SUCH_DIR}/x'\n")];
    insta::assert_snapshot!(outcome(&files, &[], &[], &RUNNING).unwrap_err(), @r#"
        error: `data.path` needs the environment variable `NO_SUCH_DIR`, but this variable is not set
          --> DIR/r.toml:2
          hint: set `NO_SUCH_DIR`, or pass the path with `--set data.path=PATH`
        "#);
    let planned = outcome(&files, &[], &[], &PLANNING).expect("a plan needs no data");
    assert!(
        planned.warnings[0].starts_with("`data.path` needs the environment variable `NO_SUCH_DIR`")
    );
    let set = outcome(&files, &[("NO_SUCH_DIR", "/d")], &[], &RUNNING).expect("it is set");
    assert_eq!(set.points[0].plan.data.path, Path::new("/d/x"));
    insta::assert_snapshot!(errors("data.format = 'digits'\ndata.class_map = '${NO_SUCH_DIR}'"), @r#"
        error: `data.class_map` needs the environment variable `NO_SUCH_DIR`, but this variable is not set
          --> DIR/r.toml:2
          hint: set `NO_SUCH_DIR`, or pass the path with `--set data.class_map=PATH`
        "#);
}

#[test]
fn a_missing_data_path_is_refused() {
    insta::assert_snapshot!(errors("\n[data]\nformat = 'webdataset'"), @r#"
        error: `data.path` is missing, but `data.format = "webdataset"` needs a path
          --> DIR/r.toml:3
          hint: write `path = …` in `[data]`, or use `--set data.path=PATH`. The formats "digits" and "synthetic" need no path
        "#);
    insta::assert_snapshot!(errors("name = 'x'"), @r#"
        error: `data.path` is missing, but `data.format = "imagefolder"` needs a path
          --> the built-in defaults
          hint: write `path = …` in `[data]`, or use `--set data.path=PATH`. The formats "digits" and "synthetic" need no path
        "#);
}

#[test]
fn values_of_the_environment_and_of_set_name_their_layer() {
    let files = [("r.toml", FINE)];
    let env = [("MAE_PRETRAIN__BLR", "-1e-3"), ("MAE_PRETRAIN__EPOCH", "3"), ("MAE_HOME", "/")];
    insta::assert_snapshot!(outcome(&files, &env, &[], &RUNNING).unwrap_err(), @r#"
        error: `pretrain.blr = -0.001`: expected a finite number of at least 0
          --> environment variable MAE_PRETRAIN__BLR
        "#);
    let warned = outcome(&files, &env[1..], &[], &RUNNING).expect("an unknown variable only warns");
    insta::assert_snapshot!(warned.warnings.join("\n"), @r#"
        mae ignores the environment variable `MAE_PRETRAIN__EPOCH`, because it matches no recipe key. Did you mean `MAE_PRETRAIN__EPOCHS`?
        mae ignores the environment variable `MAE_HOME`, because it matches no recipe key
        "#);
    let set = ["runtime.device=cuad", "pretrain.epochs", "a b=3", "extends=x"];
    insta::assert_snapshot!(errors_with(FINE, &set), @r#"
        error: `pretrain.epochs` has no value
          --> --set pretrain.epochs
          hint: write `--set KEY=VALUE`
        error: `a b` is not a recipe key
          --> --set a b=3
          hint: write `--set KEY=VALUE` with a dotted key, as in `--set pretrain.epochs=10`
        error: `extends` works only in recipe files
          --> --set extends=x
          hint: write this key in a recipe file
        "#);
    insta::assert_snapshot!(errors_with(FINE, &set[..1]), @r#"
        error: `runtime.device = "cuad"`: expected one of "auto", "cpu", "cuda", "vulkan", "wgpu"
          --> --set runtime.device=cuad
          hint: did you mean `"cuda"`?
        "#);
}

#[test]
fn conflicts_name_both_keys_and_both_places() {
    insta::assert_snapshot!(errors(&format!("{FINE}epochs = 10")), @r#"
        error: `pretrain.warmup_epochs = 40` is more than `pretrain.epochs = 10`
          --> the built-in defaults (`pretrain.warmup_epochs`)
          --> DIR/r.toml:7 (`pretrain.epochs`)
          hint: use `--set pretrain.warmup_epochs=1` to warm up for a tenth of the epochs
        "#);
    insta::assert_snapshot!(errors(&format!("{FINE}lr = 1.5e-4\nblr = 1e-3")), @r#"
        error: `pretrain.lr = 1.5e-4` cannot be combined with `pretrain.blr = 0.001`
          --> DIR/r.toml:7 (`pretrain.lr`)
          --> DIR/r.toml:8 (`pretrain.blr`)
          hint: remove `lr` or `blr`: `lr` is the learning rate itself, and `blr` is the learning rate for 256 images
        "#);
    insta::assert_snapshot!(errors(&format!("{FINE}epochs = 100\ncheckpoint_epochs = [20, 100, 400]")), @r#"
        error: `pretrain.checkpoint_epochs = [20, 100, 400]` has epochs above `pretrain.epochs = 100`
          --> DIR/r.toml:8 (`pretrain.checkpoint_epochs`)
          --> DIR/r.toml:7 (`pretrain.epochs`)
          hint: use `--set 'pretrain.checkpoint_epochs=[20,100]'`
        "#);
    let model = "data.format = 'digits'\n[model]\nembed_dim = 98\nnum_heads = 3\n\
                 decoder_embed_dim = 10\ndecoder_num_heads = 4\n";
    insta::assert_snapshot!(errors(model), @r#"
        error: `model.embed_dim = 98` is not a multiple of `model.num_heads = 3`
          --> DIR/r.toml:3 (`model.embed_dim`)
          --> DIR/r.toml:4 (`model.num_heads`)
          hint: set `model.num_heads` to one of 1, 2, 7, 14
        error: `model.embed_dim = 98` is not a multiple of 4, as the sine-cosine position embedding requires
          --> DIR/r.toml:3
          hint: set `model.embed_dim` to 96 or 100
        error: `model.decoder_embed_dim = 10` is not a multiple of `model.decoder_num_heads = 4`
          --> DIR/r.toml:5 (`model.decoder_embed_dim`)
          --> DIR/r.toml:6 (`model.decoder_num_heads`)
          hint: set `model.decoder_num_heads` to one of 1, 2, 5, 10
        error: `model.decoder_embed_dim = 10` is not a multiple of 4, as the sine-cosine position embedding requires
          --> DIR/r.toml:5
          hint: set `model.decoder_embed_dim` to 8 or 12
        "#);
    insta::assert_snapshot!(errors("data.format = 'digits'\ndata.input_size = 30"), @r#"
        error: `data.input_size = 30` is not a multiple of `model.patch_size = 16`
          --> DIR/r.toml:2 (`data.input_size`)
          --> the built-in defaults (`model.patch_size`)
          hint: set `data.input_size` to 16 or 32
        "#);
    insta::assert_snapshot!(errors("[data]\nformat = 'digits'\nmean = [0.5]\nstd = [1, 1, 0]"), @r#"
        error: `data.mean = [0.5]` needs one value per channel, but the recipe has `data.in_chans = 3`
          --> DIR/r.toml:3 (`data.mean`)
          --> the built-in defaults (`data.in_chans`)
          hint: write one value for each of the 3 channels, or remove this key
        error: `data.std = [1, 1, 0]`: expected a list of values, each a finite number from 0.000001 to 1000000
          --> DIR/r.toml:4
        "#);
    insta::assert_snapshot!(errors(&format!("{FINE}min_lr = 0.1")), @r#"
        error: `pretrain.min_lr = 0.1` is more than the peak learning rate 2.5e-4 (from `pretrain.blr`)
          --> DIR/r.toml:7
          hint: use `--set pretrain.min_lr=0`, or a higher `pretrain.blr`
        "#);
}

#[test]
fn a_mask_that_keeps_or_hides_nothing_is_refused() {
    insta::assert_snapshot!(errors(&format!("{FINE}mask_ratio = 0.95")), @r#"
        error: `pretrain.mask_ratio = 0.95` hides all 16 patches of an image
          --> DIR/r.toml:7
          hint: lower `model.patch_size` or raise `data.input_size`, so that an image has more patches
        "#);
    insta::assert_snapshot!(errors_with(FINE, &["model.patch_size=16", "pretrain.mask_ratio=1e-20"]), @r#"
        error: `pretrain.mask_ratio = 1e-20` hides no patch of an image (number of patches: 1)
          --> --set pretrain.mask_ratio=1e-20
          hint: lower `model.patch_size` or raise `data.input_size`, so that an image has more patches
        "#);
    for outside in ["0", "1", "1.5", "-0.5", "nan", "inf"] {
        let message = errors(&format!("{FINE}mask_ratio = {outside}"));
        assert!(message.contains("expected a finite number above 0 and below 1"), "{message}");
    }
}

#[test]
fn numbers_outside_their_range_are_refused() {
    let stages = format!("{FINE}[finetune]\naa = ''\n[linprobe]\n");
    for set in [
        "pretrain.epochs=0",
        "pretrain.batch_size=0",
        "pretrain.accum_iter=0",
        "pretrain.epochs=1.5",
        "pretrain.checkpoint_epochs=[0]",
        "pretrain.blr=nan",
        "pretrain.lr=-1",
        "pretrain.weight_decay=inf",
        "finetune.weight_decay=-0.1",
        "finetune.layer_decay=0",
        "finetune.drop_path=1",
        "finetune.smoothing=1",
        "finetune.reprob=1.1",
        "finetune.mixup_prob=-0.1",
        "finetune.mixup_switch_prob=2",
        "finetune.mixup=-1",
        "finetune.cutmix=nan",
        "finetune.cutmix_minmax=[0.2]",
        "finetune.cutmix_minmax=[-0.1,0.5]",
        "finetune.cutmix_minmax=[0.5,0.5]",
        "finetune.clip_grad=0",
        "finetune.recount=0",
        "finetune.from=[]",
        "finetune.augment.crop_scale=[0,1]",
        "linprobe.augment.crop_scale=[0.5,0.2]",
        "pretrain.augment.crop_scale=[0.5,1.5]",
        "data.mean=[nan,0,0]",
        "data.std=[0,1,1]",
        "data.in_chans=0",
        "data.workers=0",
        "data.workers=many",
        "runtime.threads=0",
        "runtime.devices=0",
        "runtime.device=tpu",
        "runtime.precision=fp8",
        "data.format=tfrecord",
        "model.size=vit_giant",
        "model.mlp_ratio=0",
        "seed=-1",
        "finetune.mixup_mode=half",
        "finetune.remode=noise",
        "pretrain=3",
        "finetune.from=[0]",
        "linprobe.blr=1e999",
    ] {
        let key = set.split_once('=').expect("each is key=value").0;
        let message = errors_with(&stages, &[set]);
        assert!(message.starts_with(&format!("error: `{key} = ")), "{set}: {message}");
        assert!(message.contains(&format!("--> --set {set}")), "{set}: {message}");
        assert_eq!(message.matches("error: ").count(), 1, "{set} alone is wrong: {message}");
    }
}

#[test]
fn invalid_folder_names_are_refused() {
    for name in [
        "''",
        "' '",
        "'a/b'",
        "'a\\b'",
        "'..'",
        "'a..b'",
        "'.hidden'",
        "\"a\\u0007\"",
        "'a:b'",
        "'a?'",
        "'a.'",
        "' a'",
    ] {
        let message = errors(&format!("name = {name}\n{FINE}"));
        assert!(
            message.contains("DIR/r.toml:1") && message.starts_with("error: `name = "),
            "{message}"
        );
    }
    insta::assert_snapshot!(errors(&format!("name = '../x'\n{FINE}")), @r#"
        error: `name = "../x"` is not a valid folder name: it contains '/'
          --> DIR/r.toml:1
          hint: use letters, digits, `_`, `-` and `.`, because the name becomes a folder name
        "#);
}

#[test]
fn a_source_that_will_not_exist_is_refused() {
    let probe = |from: &str| {
        format!("{FINE}epochs = 100\ncheckpoint_epochs = [50]\n[linprobe]\nfrom = {from}\n")
    };
    insta::assert_snapshot!(errors(&probe("80")), @r#"
        error: `linprobe.from = 80` is an epoch without a checkpoint
          --> DIR/r.toml:10
          hint: use one of the epochs [50, 100], or add this epoch to `pretrain.checkpoint_epochs`
        "#);
    insta::assert_snapshot!(errors(&probe("'scrach'")), @r#"
        error: `linprobe.from = "scrach"` does not exist
          --> DIR/r.toml:10
          hint: did you mean `"scratch"`?
        "#);
    insta::assert_snapshot!(errors(&probe("['50', 'some/vit.pth']")), @r#"
        error: `linprobe.from = "50"` does not exist
          --> DIR/r.toml:10
          hint: did you mean the epoch `50`, without quotes?
        error: `linprobe.from = "some/vit.pth"` does not exist
          --> DIR/r.toml:10
          hint: check the path, which is relative to the current directory
        "#);
    insta::assert_snapshot!(errors("[data]\nformat = 'digits'\n[linprobe]\n[finetune]\nfrom = [3, 'checkpoints']\naa = ''"), @r#"
        error: `finetune.from = 3` needs checkpoints of this run, but the recipe has no `[pretrain]`
          --> DIR/r.toml:5
          hint: add `[pretrain]`, or set `finetune.from` to "scratch" or a checkpoint file
        error: `finetune.from = "checkpoints"` needs checkpoints of this run, but the recipe has no `[pretrain]`
          --> DIR/r.toml:5
          hint: add `[pretrain]`, or set `finetune.from` to "scratch" or a checkpoint file
        error: `linprobe.from = "last"` needs checkpoints of this run, but the recipe has no `[pretrain]`
          --> the built-in defaults
          hint: add `[pretrain]`, or set `linprobe.from` to "scratch" or a checkpoint file
        "#);
    let planned = outcome(&[("r.toml", &probe("'vit.pth'"))], &[], &[], &PLANNING)
        .expect("a plan needs no file");
    assert!(planned.warnings[0].contains("does not exist"), "{:?}", planned.warnings);
}

#[test]
fn impossible_mixing_settings_are_refused() {
    let finetune = |keys: &str| format!("{FINE}[finetune]\naa = ''\nbatch_size = 31\n{keys}\n");
    insta::assert_snapshot!(errors(&finetune("mixup = 0.8")), @r#"
        error: `finetune.batch_size = 31` must be even to form pairs of images for `finetune.mixup_mode = "batch"`
          --> DIR/r.toml:9 (`finetune.batch_size`)
          --> the built-in defaults (`finetune.mixup_mode`)
          hint: use `--set finetune.batch_size=32`
        "#);
    insta::assert_snapshot!(errors(&finetune("cutmix_minmax = [0.8, 0.2]")), @r#"
        error: `finetune.batch_size = 31` must be even to form pairs of images for `finetune.mixup_mode = "batch"`
          --> DIR/r.toml:9 (`finetune.batch_size`)
          --> the built-in defaults (`finetune.mixup_mode`)
          hint: use `--set finetune.batch_size=32`
        error: `finetune.cutmix_minmax = [0.8, 0.2]` allows no CutMix box: the side of a box would be at least 12 and less than 3 pixels
          --> DIR/r.toml:10
          hint: set [low, high] with low < high, such as [0.2, 0.8], or set "none"
        "#);
    outcome(&[("r.toml", &finetune("mixup = 0.8\nmixup_mode = 'elem'"))], &[], &[], &RUNNING)
        .expect("mixup_mode = elem allows an odd batch size");
    outcome(&[("r.toml", &finetune(""))], &[], &[], &RUNNING)
        .expect("without mixing, an odd batch size is valid");
}

#[test]
fn an_invalid_randaugment_policy_names_its_section() {
    let aa = |policy: &str| format!("{FINE}[finetune]\naa = '{policy}'");
    insta::assert_snapshot!(errors(&aa("rand-m9-mstd0.5-ink1")), @r#"
        error: `finetune.aa = "rand-m9-mstd0.5-ink1"` is not a valid RandAugment policy: `ink1` is invalid, expected `m`, `n`, `mstd`, `inc` or `w` and a number
          --> DIR/r.toml:8
          hint: set the official policy "rand-m9-mstd0.5-inc1", or set "" to disable RandAugment
        "#);
    insta::assert_snapshot!(errors(&aa("augmix-m5")), @r#"
        error: `finetune.aa = "augmix-m5"` is not a valid RandAugment policy: the policy must start with `rand`
          --> DIR/r.toml:8
          hint: set the official policy "rand-m9-mstd0.5-inc1", or set "" to disable RandAugment
        "#);
    outcome(&[("r.toml", &format!("{FINE}[finetune]"))], &[], &[], &RUNNING)
        .expect("the official policy is the default");
    let grey =
        format!("{FINE}[finetune]").replace("input_size = 16", "input_size = 16\nin_chans = 2");
    insta::assert_snapshot!(errors(&grey), @r#"
        error: `finetune.aa = "rand-m9-mstd0.5-inc1"` needs images with 1 or 3 channels
          --> the built-in defaults
          hint: use `--set finetune.aa=""` to train without RandAugment
        "#);
}

#[test]
fn a_training_that_would_never_update_is_refused() {
    insta::assert_snapshot!(errors_with(FINE, &["data.train_images=100", "pretrain.accum_iter=2"]), @r#"
        error: `pretrain.batch_size = 64` is too large: one update of pretrain needs 128 images (`batch_size` 64 x `accum_iter` 2 x devices), but an epoch has only 100 images
          --> the built-in defaults
          hint: lower `batch_size` or `accum_iter`
        "#);
}

#[test]
fn keys_that_cannot_be_swept_are_refused() {
    let sweep = |keys: &str| format!("{FINE}epochs = 50\n[sweep]\n{keys}\n");
    insta::assert_snapshot!(errors(&sweep("\"pretrain.mask_ratoi\" = [0.5]\nname = ['a']\nseed = []\n\"pretrain.blr\" = 3")), @r#"
        error: unknown key `sweep.pretrain.mask_ratoi`
          --> DIR/r.toml:9
          hint: did you mean `pretrain.mask_ratio`?
        error: `sweep.name` cannot be swept: `name` is not a setting of a run
          --> DIR/r.toml:10
        error: `sweep.seed = []`: expected a list of one or more values, each a whole number of at least 0
          --> DIR/r.toml:11
        error: `sweep.pretrain.blr = 3`: expected a list of one or more values, each a finite number of at least 0
          --> DIR/r.toml:12
        "#);
    insta::assert_snapshot!(errors(&sweep("\"pretrain.epochs\" = [30, 50, 60]\nfinetune.blr = [1e-3]")), @r#"
        error: `sweep.finetune.blr` sweeps `[finetune]`, but the recipe has no `[finetune]`
          --> DIR/r.toml:10
          hint: add `[finetune]`, or remove this key from `[sweep]`
        error: `pretrain.warmup_epochs = 40` is more than `pretrain.epochs = 30`
          --> the built-in defaults (`pretrain.warmup_epochs`)
          --> DIR/r.toml:9 (`pretrain.epochs`)
          hint: use `--set pretrain.warmup_epochs=3` to warm up for a tenth of the epochs
        "#);
    insta::assert_snapshot!(errors_with(&sweep("\"pretrain.mask_ratio\" = [0.5, 0.75]"), &["pretrain.mask_ratio=0.6"]), @r#"
        error: `sweep.pretrain.mask_ratio` sweeps a key that --set pretrain.mask_ratio=0.6 also sets
          --> DIR/r.toml:9
          hint: remove one of the two settings, or use `--set 'sweep.pretrain.mask_ratio=[0.6]'` to run only this value
        "#);
    let seeds = (0..101).map(|seed| seed.to_string()).collect::<Vec<_>>().join(",");
    insta::assert_snapshot!(errors(&sweep(&format!("seed = [{seeds}]\ndata.workers = [{}]", &seeds[2..]))), @r#"
        error: `sweep` has 10100 combinations of values, but the limit is 10000
          --> DIR/r.toml:8
          hint: sweep fewer keys or values
        "#);
}

#[test]
fn unreadable_validation_images_are_not_skipped_on_several_hosts() {
    let set = ["data.bad_val=skip", "runtime.hosts=2"];
    insta::assert_snapshot!(errors_with(FINE, &set), @r#"
        error: `data.bad_val = "skip"` is not supported with `runtime.hosts = 2`
          --> --set data.bad_val=skip (`data.bad_val`)
          --> --set runtime.hosts=2 (`runtime.hosts`)
          hint: train on one host. Or repair or remove the unreadable validation images, and then set `data.bad_val=stop`
        "#);
}

#[test]
fn a_refused_value_never_takes_the_defaults_with_it() {
    for set in [
        &["name=50"][..],
        &["name=[]"],
        &["pretrain=1", "pretrain.augment.hflip=false"],
        &["data=-9223372036854775808"],
        &["data=1", "data.input_size=8"],
        &["model=\"\"", "model.depth=2"],
        &["runtime=false", "runtime.threads=1"],
        &["pretrain=\"\"\"x\"\"\""],
        &["finetune.augment=3", "finetune.augment.hflip=true"],
        &["seed={}"],
    ] {
        let bench = Bench::new(TINY);
        let mut args = vec!["plan", "r.toml"];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        let output = bench.mae(&args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!error.contains("panicked"), "{set:?}: {error}");
        assert!(matches!(output.status.code(), Some(0 | 2)), "{set:?}: {error}");
    }
}
