//! Tests of the whole module: resolving a resolved recipe returns the same plan; later layers override earlier ones.

use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const RUNNING: Options = Options { missing_data: Missing::Refuse, gpus: |_| 4, hosts: 1 };

/// Writes a file into a new temporary folder. Returns the folder and the file path.
fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (folder, path)
}

fn resolved(text: &str, env: &[(String, String)], set: &[&str]) -> Resolved {
    let (_folder, path) = written("r.toml", text);
    let set: Vec<_> = set.iter().map(|arg| (*arg).to_owned()).collect();
    resolve(&path, env, &set, &RUNNING).unwrap_or_else(|errors| panic!("error: {errors}\n{text}"))
}

fn only(text: &str, set: &[&str]) -> ResolvedPoint {
    let mut points = resolved(text, &[], set).points;
    assert_eq!(points.len(), 1);
    points.remove(0)
}

const ALL_STAGES: &str =
    "[data]\nformat = 'synthetic'\n[pretrain]\n[finetune]\naa = ''\n[linprobe]\n";

#[test]
fn an_empty_recipe_has_the_official_defaults() {
    let plan = only(ALL_STAGES, &[]).plan;
    let (pretrain, finetune, linprobe) =
        (plan.pretrain.unwrap(), plan.finetune.unwrap(), plan.linprobe.unwrap());
    assert_eq!(plan.name, "r");
    assert_eq!((plan.model.embed_dim, plan.model.depth, plan.model.num_heads), (1024, 24, 16));
    assert_eq!((pretrain.training.epochs, pretrain.training.warmup_epochs), (400, 40));
    assert!((pretrain.training.lr - 1e-3 * 64.0 / 256.0).abs() < 1e-12);
    assert_eq!(pretrain.checkpoint_epochs, [400]);
    assert_eq!(
        pretrain.augment,
        AugmentPlan {
            crop: CropMode::Resized,
            crop_scale: [0.2, 1.0],
            hflip: true,
            color_jitter: 0.0,
            aug_repeats: 1,
        }
    );
    assert_eq!((finetune.training.epochs, finetune.clip_grad, finetune.mixup), (50, None, None));
    assert_eq!((finetune.betas, finetune.ema), ([0.9, 0.999], None));
    assert_eq!(finetune.from, [Source::Epoch(400)]);
    assert_eq!(finetune.erasing.unwrap().remode, EraseMode::Pixel);
    assert!(finetune.global_pool && !linprobe.global_pool);
    assert_eq!((linprobe.training.batch_size, linprobe.from), (512, vec![Source::Epoch(400)]));
    assert_eq!(plan.data.mean, [0.485, 0.456, 0.406]);
}

#[test]
fn a_stage_without_a_table_is_not_run() {
    let plan = only("data.format = 'digits'", &[]).plan;
    assert!(plan.pretrain.is_none() && plan.finetune.is_none() && plan.linprobe.is_none());
    assert_eq!(plan.jobs(), []);
}

#[test]
fn jobs_run_in_the_order_of_the_stages_and_of_from() {
    let set = [
        "pretrain.checkpoint_epochs=[100,20,100]",
        "finetune.from=[\"last\",\"scratch\",\"checkpoints\",400]",
    ];
    let dirs: Vec<_> = only(ALL_STAGES, &set).plan.jobs().into_iter().map(|job| job.dir).collect();
    let expected = [
        "pretrain",
        "finetune/from-0400",
        "finetune/from-scratch",
        "finetune/from-0020",
        "finetune/from-0100",
        "linprobe/from-0400",
    ];
    assert_eq!(dirs, expected);
}

#[test]
fn a_size_has_three_names_and_explicit_keys_override_it() {
    let model = |set: &[&str]| only(ALL_STAGES, set);
    let base = model(&["model.size=vit_base_patch16"]);
    for name in ["mae_vit_base_patch16", "mae_vit_base_patch16_dec512d8b"] {
        assert_eq!(model(&[&format!("model.size={name}")]), base);
    }
    assert_eq!(base.recipe.model.size, Some(ModelSize::Base));
    let shallow = model(&["model.size=vit_base_patch16", "model.depth=4"]);
    assert_eq!((shallow.plan.model.embed_dim, shallow.plan.model.depth), (768, 4));
    assert_eq!(
        shallow.recipe.model.size, None,
        "vit_base_patch16 has 12 blocks, so the size is no longer true"
    );
}

#[test]
fn the_higher_layer_decides_between_lr_and_blr() {
    let lr = |text: &str, set: &[&str]| only(text, set).plan.pretrain.unwrap().training.lr;
    let by_blr = format!("{ALL_STAGES}[pretrain.augment]\nhflip = false");
    assert!((lr(&by_blr, &["pretrain.lr=0.5"]) - 0.5).abs() < 1e-12);
    let by_lr = ALL_STAGES.replace("[pretrain]", "[pretrain]\nlr = 0.5");
    assert!((lr(&by_lr, &[]) - 0.5).abs() < 1e-12);
    let both = ["pretrain.blr=1", "pretrain.accum_iter=4", "runtime.devices=all"];
    assert!((lr(&by_lr, &both) - 4.0).abs() < 1e-12, "64 images x 4 micro-steps x 4 devices");
}

#[test]
fn integers_are_accepted_as_floats() {
    let plan = only(
        ALL_STAGES,
        &["pretrain.blr=1", "pretrain.augment.crop_scale=[1,1]", "data.std=[1,1,1]"],
    )
    .plan;
    assert_eq!(plan.data.std, [1.0, 1.0, 1.0]);
}

#[test]
fn extends_are_merged_depth_first_and_the_later_one_wins() {
    let (folder, path) = written("r.toml", "extends = ['a.toml', 'sub/b.toml']\nseed = 3");
    let write = |name: &str, text: &str| {
        std::fs::File::create(folder.path().join(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    write("a.toml", "extends = 'c.toml'\nseed = 1\nname = 'a'\n[pretrain]\nepochs = 60\n");
    write("sub/b.toml", "extends = '../c.toml'\nseed = 2\n[pretrain]\nbatch_size = 32\n");
    write("c.toml", "data.format = 'digits'\n[pretrain]\nepochs = 50\nbatch_size = 16\n");
    let plan = resolve(&path, &[], &[], &RUNNING).unwrap().points.remove(0).plan;
    let training = plan.pretrain.unwrap().training;
    assert_eq!((plan.seed, plan.name.as_str()), (3, "a"));
    assert_eq!(
        (training.epochs, training.batch_size),
        (50, 32),
        "the epochs of c.toml, through b.toml, override those of a.toml"
    );
}

#[test]
fn values_of_the_environment_and_of_set_become_strings_for_string_keys() {
    let env = [("MAE_NAME".to_owned(), "2024".to_owned()), ("MAE_SEED".to_owned(), "7".to_owned())];
    let plan = resolved(ALL_STAGES, &env, &["finetune.aa="]).points.remove(0).plan;
    assert_eq!((plan.name.as_str(), plan.seed), ("2024", 7));
    assert_eq!(only(ALL_STAGES, &["name=1e3"]).plan.name, "1e3");
}

#[test]
fn the_first_key_of_a_grid_changes_slowest() {
    let sweep = "[sweep]\nseed = [1, 2, 1]\n\"pretrain.blr\" = [1, 1.0, 5e-4]\n";
    let all = resolved(&format!("{ALL_STAGES}{sweep}"), &[], &["name=g"]);
    let names: Vec<_> = all.points.iter().map(|point| point.plan.name.as_str()).collect();
    let expected = [
        "seed=1,pretrain.blr=1.0",
        "seed=1,pretrain.blr=5e-4",
        "seed=2,pretrain.blr=1.0",
        "seed=2,pretrain.blr=5e-4",
    ];
    assert_eq!(names, expected.map(|point| format!("g/{point}")));
    assert_eq!(
        all.points[1].plan.swept,
        [("seed".to_owned(), "1".to_owned()), ("pretrain.blr".to_owned(), "5e-4".to_owned())]
    );
    assert_eq!(
        (all.name.as_str(), all.swept),
        ("g", vec!["seed".to_owned(), "pretrain.blr".to_owned()])
    );
}

#[test]
fn a_sweep_overrides_both_learning_rates() {
    let text = format!(
        "{}[sweep]\npretrain.lr = [0.25, 0.5]",
        ALL_STAGES.replace("[pretrain]", "[pretrain]\nblr = 1e-3")
    );
    let rates: Vec<_> = resolved(&text, &[], &[])
        .points
        .iter()
        .map(|point| (point.plan.pretrain.as_ref().unwrap().training.lr * 100.0).round())
        .collect();
    assert_eq!(rates, [25.0, 50.0]);
}

#[test]
fn differences_ignore_names_and_keys_that_can_change_on_resume() {
    let a = only(ALL_STAGES, &["name=a", "data.workers=3", "runtime.gradient_checkpointing=true"])
        .recipe;
    let b = only(
        ALL_STAGES,
        &["name=b", "runtime.threads=2", "pretrain.blr=5e-4", "data.num_classes=10"],
    )
    .recipe;
    let text = |key: &str, a: &str, b: &str| (key.to_owned(), a.to_owned(), b.to_owned());
    assert_eq!(
        differences(&a, &b),
        [text("pretrain.blr", "0.001", "5e-4"), text("data.num_classes", "not set", "10")]
    );
}

fn stage(name: &'static str) -> impl Strategy<Value = String> {
    let rate = prop_oneof![
        Just(String::new()),
        (1e-5..1.0_f64).prop_map(|lr| format!("lr = {lr:e}\n")),
        (1e-4..1.0_f64).prop_map(|blr| format!("blr = {blr}\n")),
    ];
    let numbers = (1..2000_usize, 0.0..=1.0_f64, 1..300_usize, 1..9_usize, 0.0..1e-9_f64);
    (numbers, rate, 0.01..0.5_f64, any::<bool>())
        .prop_map(move |(numbers, rate, low, hflip)| {
            let (epochs, warmup, batch_size, accum_iter, min_lr) = numbers;
            let warmup = (epochs as f64 * warmup) as usize;
            format!(
                "augment = {{ crop_scale = [{low}, 1], hflip = {hflip} }}\n\
             epochs = {epochs}\nwarmup_epochs = {warmup}\n\
             batch_size = {}\naccum_iter = {accum_iter}\nmin_lr = {min_lr:e}\n{rate}",
                2 * batch_size
            )
        })
        .prop_map(move |keys| format!("[{name}]\n{keys}"))
}

fn recipe_text() -> impl Strategy<Value = String> {
    let size =
        prop::sample::select(vec!["vit_tiny_patch16", "mae_vit_base_patch16", "vit_huge_patch14"]);
    let device = prop::sample::select(vec!["1", "3", "'all'"]);
    let finetune = prop_oneof![
        Just("mixup = 0.8\ncutmix_minmax = [0.1, 0.75]\nclip_grad = 2\n"),
        Just("from = ['last', 'scratch']\nmixup_mode = 'pair'\nreprob = 0\n"),
        Just("from = ['checkpoints', 'scratch', 'last']\n"),
    ];
    let sweep = prop_oneof![
        Just(""),
        Just("[sweep]\npretrain.mask_ratio = [0.5, 0.75]\nseed = [3, 4]\n"),
        Just(
            "[sweep]\npretrain.checkpoint_epochs = [[1], [1, 1]]\n\
             linprobe.from = ['scratch', ['last', 1]]\npretrain.lr = [2e-5]\n"
        ),
        Just(
            "[sweep]\ndata.path = ['a/b', 'a_b', 'A_b']\n\
             data.class_map = ['x', 'y\"']\nmodel.depth = [3]\n"
        ),
    ];
    let stages = (stage("pretrain"), stage("finetune"), stage("linprobe"));
    (size, device, finetune, sweep, stages, 0.01..0.99_f64, any::<u32>()).prop_map(
        |(size, devices, keys, sweep, (pretrain, finetune, linprobe), mask_ratio, seed)| {
            format!(
                "seed = {seed}\nruntime.devices = {devices}\nmodel.size = '{size}'\n\
                 [data]\nformat = 'imagefolder'\npath = '${{DATA}}'\n\
                 {pretrain}mask_ratio = {mask_ratio}\ncheckpoint_epochs = [1]\n{finetune}aa = ''\n{keys}\
                 {linprobe}{sweep}"
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_resolved_recipe_resolved_again_is_the_same_plan(
        text in recipe_text(),
        data in "[a-zé /\"'\\\\${}]{1,12}",
    ) {
        let first = resolved(&text, &[("DATA".to_owned(), data)], &[]);
        for point in &first.points {
            let text = recipe_toml(&point.recipe);
            prop_assert_eq!(&toml::from_str::<Recipe>(&text).unwrap(), &point.recipe);
            let again = only(&text, &[]);
            prop_assert_eq!(differences(&again.recipe, &point.recipe), []);
            prop_assert_eq!(&again, point);
        }
        let folders = first.points.iter().map(|point| point.plan.name.to_lowercase());
        let mut folders: Vec<_> = folders.collect();
        folders.sort();
        folders.dedup();
        prop_assert_eq!(folders.len(), first.points.len());
    }

    #[test]
    fn a_later_layer_wins(values in prop::array::uniform4(prop::option::of(40_usize..5000))) {
        let [base, file, env, set] = values;
        let table = |epochs: Option<usize>| {
            epochs.map(|n| format!("[pretrain]\nepochs = {n}\n")).unwrap_or_default()
        };
        let text = format!("data.format = 'digits'\n{}", table(base));
        let (_base_folder, base_path) = written("base.toml", &text);
        let extends = toml::Value::String(base_path.to_string_lossy().into_owned());
        let (_folder, path) = written("r.toml", &format!("extends = {extends}\n{}", table(file)));
        let env = env.map(|n| ("MAE_PRETRAIN__EPOCHS".to_owned(), n.to_string()));
        let env: Vec<_> = env.into_iter().collect();
        let set: Vec<_> = set.iter().map(|n| format!("pretrain.epochs={n}")).collect();
        let plan = resolve(&path, &env, &set, &RUNNING).unwrap().points.remove(0).plan;
        let last = values.into_iter().rev().flatten().next();
        prop_assert_eq!(plan.pretrain.map(|pretrain| pretrain.training.epochs), last);
    }
}
