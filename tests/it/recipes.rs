//! Every recipe in `experiments/` resolves, and the schema file is current.

use std::path::{Path, PathBuf};

use mae::recipe::{Missing, Options, resolve, schema};
use mae::shape::StageKind;

const PLANNING: Options = Options { missing_data: Missing::Warn, gpus: |_| 0, hosts: 1 };

/// The recipes below `folder`.
fn recipes(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository");
    let entries = entries.map(|entry| entry.expect("readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| recipes(folder));
    below
        .chain(files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "toml")))
        .collect()
}

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

#[test]
fn every_recipe_resolves_and_names_its_schema() {
    let recipes = recipes(&experiments());
    assert!(recipes.len() >= 3, "{recipes:?}");
    for path in recipes {
        if let Err(errors) = resolve(&path, &[], &[], &PLANNING) {
            panic!("{}\nerror: {errors}", path.display());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        assert!(path.parent().unwrap().join(schema).exists(), "{}: no {schema}", path.display());
    }
}

#[test]
fn the_sweep_has_a_run_for_each_mask_ratio() {
    let path = experiments().join("quickstart_sweep.toml");
    let resolved = resolve(&path, &[], &[], &PLANNING).unwrap();
    let names: Vec<_> = resolved.points.iter().map(|point| point.plan.name.as_str()).collect();
    assert_eq!(
        names,
        ["0.25", "0.5", "0.75", "0.9"]
            .map(|ratio| format!("quickstart_sweep/pretrain.mask_ratio={ratio}"))
    );
    assert_eq!(
        (resolved.name.as_str(), resolved.swept.as_slice()),
        ("quickstart_sweep", ["pretrain.mask_ratio".to_owned()].as_slice())
    );
}

#[test]
fn the_published_recipes_have_the_official_batches_and_rates() {
    let path = experiments().join("vit_base_1600e_sweep.toml");
    let plan = &resolve(&path, &[], &[], &PLANNING).unwrap().points[0].plan;
    let numbers = StageKind::ALL.map(|stage| {
        let training = plan.training(stage).unwrap();
        (training.effective_batch_size, training.lr)
    });
    for ((batch, lr), (official, rate)) in
        numbers.into_iter().zip([(4096, 2.4e-3), (1024, 2e-3), (16_384, 6.4)])
    {
        assert_eq!(batch, official);
        assert!((lr - rate).abs() < 1e-12, "{lr}");
    }
}

/// The effective batch of each recipe is its `published_batch_size`. Recipes in `base/` are not complete, so they are skipped.
#[test]
fn an_unchanged_recipe_does_not_warn_about_its_batch() {
    for path in
        recipes(&experiments()).iter().filter(|path| !path.parent().unwrap().ends_with("base"))
    {
        let resolved = resolve(path, &[], &[], &PLANNING).unwrap();
        let warns = |warning: &&String| warning.contains("published result used");
        assert_eq!(resolved.warnings.iter().find(warns), None, "{}", path.display());
    }
}

/// `MAE_UPDATE_DOCS=1` writes the file, as `mae schema > experiments/recipe.schema.json` does.
#[test]
fn the_schema_file_is_current() {
    let path = experiments().join("recipe.schema.json");
    if std::env::var_os("MAE_UPDATE_DOCS").is_some() {
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        mae::durable::write(&path, text.as_bytes()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(file == schema(), "not current: mae schema > experiments/recipe.schema.json");
}
