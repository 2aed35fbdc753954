//! Each published classification result of the paper names a recipe that repeats it, or is left out with a reason.

#![expect(clippy::unwrap_used, reason = "files of the repository")]

use mae::recipe::{Missing, Options, Plan, ResolvedPoint, resolve};
use mae::shape::StageKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of results of the authors' own models in each table and figure of the paper (arXiv 2111.06377), as (source, count).
///
/// Tables that repeat the numbers of others are not listed: Table 12 (Table 3), figure 8 (Table 3), ViT-L in Table 2 (Table 1).
const RESULTS: [(&str, usize); 16] = [
    ("section 3: about 0.5 below the loss on masked patches", 1),
    ("Fig. 5 mask ratio", 10),
    ("Table 1 decoder depth", 5),
    ("Table 1 decoder width", 5),
    ("Table 1 mask token", 2),
    ("Table 1 target", 2),
    ("Table 1 augmentation", 4),
    ("Table 1 masking", 4),
    ("Table 2 wall-clock time", 2),
    ("Fig. 7 schedule", 5),
    ("Table 3", 7),
    ("Fig. 9 partial fine-tuning", 9),
    ("Table 6 transfer", 20),
    ("Table 7 pixels", 3),
    ("A.2 training from scratch", 3),
    ("Table 13", 0), // robustness
];

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

/// Reads a table of `experiments/published/` as one map of cells for each row.
fn table(name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(experiments().join("published").join(name)).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

/// The cells that identify a published result.
fn key(row: &BTreeMap<String, String>) -> Vec<&str> {
    let cells = ["source", "model", "variant", "value", "pretrain_epoch"];
    cells.iter().map(|cell| row[*cell].as_str()).collect()
}

/// Returns whether a run has a job of `stage` that starts after this epoch of pre-training; 0 is a start from scratch.
fn has_job(plan: &Plan, stage: StageKind, epoch: usize) -> bool {
    let starts = match epoch {
        0 => [format!("{stage}/from-scratch"), String::new()],
        _ => [format!("{stage}/from-{epoch:04}"), format!("{stage}/from-epoch-{epoch:04}")],
    };
    plan.jobs().iter().any(|job| starts.contains(&job.dir))
}

/// Returns whether a point of a sweep has the swept value `point`, a `key=value`; without it, whether nothing is swept.
fn is_point(of: &ResolvedPoint, point: &str) -> bool {
    let mut swept =
        of.plan.swept.iter().map(|(key, value)| format!("{key}={}", value.trim_matches('"')));
    if point.is_empty() { swept.next().is_none() } else { swept.any(|value| value == point) }
}

#[test]
fn every_published_result_of_the_paper_names_a_recipe_and_a_point() {
    let recipes = table("mae-paper-recipes.csv");
    let results = table("mae-paper.csv");
    let options = Options { missing_data: Missing::Warn, gpus: |_| 0, hosts: 1 };
    for result in &results {
        let named: Vec<_> = recipes.iter().filter(|row| key(row) == key(result)).collect();
        let [named] = named[..] else { panic!("{} recipes for {result:?}", named.len()) };
        let path = experiments().join(&named["recipe"]);
        let resolved = resolve(&path, &[], &[], &options).unwrap();
        let points: Vec<_> =
            resolved.points.iter().filter(|point| is_point(point, &named["point"])).collect();
        assert!(!points.is_empty(), "{}: no point {:?}", named["recipe"], named["point"]);
        let epoch = result["pretrain_epoch"].parse().unwrap();
        for point in points {
            let plan = &point.plan;
            // The figure's value for 0 blocks is the linear probe of the same pre-training.
            let columns =
                [(StageKind::Finetune, "finetune_top1"), (StageKind::Linprobe, "linprobe_top1")];
            for (stage, _) in columns.iter().filter(|(_, column)| !result[*column].is_empty()) {
                assert!(has_job(plan, *stage, epoch), "{stage} from {epoch}: {named:?}");
            }
            let size = point.recipe.model.size.map(|size| serde_json::to_value(size).unwrap());
            assert_eq!(size.unwrap().as_str(), Some(result["model"].as_str()), "{named:?}");
        }
    }
    assert_eq!(recipes.len(), results.len(), "a recipe for a result that is not published");
}

#[test]
fn no_published_result_of_the_paper_is_forgotten() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in table("mae-paper.csv") {
        let source = row["source"].strip_prefix("arXiv 2111.06377, ").unwrap().to_owned();
        *counts.entry(source).or_default() += 1;
    }
    let expected = RESULTS.iter().filter(|(_, count)| *count > 0);
    let expected: BTreeMap<_, _> =
        expected.map(|(source, count)| ((*source).to_owned(), *count)).collect();
    assert_eq!(counts, expected);
    let left_out = table("mae-paper-left-out.csv");
    for (what, source) in [("PCA", "Table 1"), ("dVAE token", "Table 1"), ("dVAE token", "Table 7")]
    {
        assert!(
            left_out.iter().any(|row| row["what"] == what && row["source"].contains(source)),
            "{what} of {source} is neither published nor left out"
        );
    }
    for row in left_out {
        assert!(row["reason"].len() > 10 && row["source"].starts_with("arXiv"), "{row:?}");
    }
}
