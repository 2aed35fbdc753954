//! `mae verify`: recorded numbers of the official code, Pillow, torchvision and timm, and tests that the comparison can fail.
//!
//! Cases live in `tests/golden/`. Set `MAE_REFERENCE_DIR` to check the cases of one more folder.

#![expect(clippy::unwrap_used, reason = "a case that cannot be read is a failed test")]

use super::program::{Bench, TINY};
use burn::tensor::Device;
use mae::verify::{self, Tolerances};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

fn golden() -> String {
    format!("{}/tests/golden", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_case_is_within_its_tolerance() {
    let mut checked = 0;
    let more = std::env::var_os("MAE_REFERENCE_DIR").map(PathBuf::from);
    for folder in [Some(golden().into()), more].into_iter().flatten() {
        for case in verify::find(&folder).unwrap() {
            let report = verify::run(&case, &Device::flex(), &Tolerances::CPU).unwrap();
            let worst = report.worst().unwrap();
            assert!(report.passed(), "{}: {worst:?}", case.display());
            for narrow in [Tolerances::BF16, Tolerances::FP16] {
                let half = verify::run(&case, &Device::flex(), &narrow).unwrap();
                let precision = narrow.precision;
                assert!(half.passed(), "{} in {precision}: {:?}", case.display(), half.worst());
            }
            checked += 1;
        }
    }
    assert!(checked >= 14, "{checked}");
}

#[test]
fn the_command_prints_a_table_and_json() {
    let bench = Bench::new(TINY);
    let case = format!("{}/mae-1-r50-pixel", golden());
    let text = bench.done(&["verify", &case]);
    for expected in
        ["grads.mask_token", "ok", "1 of 1 cases pass on cpu", "closest to its tolerance: "]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&bench.done(&["verify", &golden(), "--json"])).unwrap();
    assert_eq!(json["passed"], true);
    assert!(json["cases"].as_array().unwrap().len() >= 14);
    let error = bench.refused(&["verify", "."], 2);
    assert!(error.contains("contain a file `case.json`"), "{error}");
    let error = bench.refused(&["verify", &case, "--device", "cuda"], 2);
    assert!(error.contains("runtime.device = \"cuda\""), "{error}");
}

/// The float tensors of a case by name.
type Tensors = BTreeMap<String, Vec<f32>>;

/// Copies a case and changes its description and tensors.
fn altered(
    bench: &Bench,
    case: &str,
    describe: impl Fn(&mut serde_json::Value),
    change: impl Fn(&mut Tensors),
) -> String {
    let from = format!("{}/{case}", golden());
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(format!("{from}/case.json")).unwrap()).unwrap();
    describe(&mut json);
    let bytes = fs::read(format!("{from}/tensors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |view: &TensorView<'_>| -> Vec<f32> {
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let mut values: Tensors = file
        .iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        .map(|(name, view)| (name.to_owned(), floats(&view)))
        .collect();
    change(&mut values);
    let values: BTreeMap<String, Vec<u8>> = values
        .into_iter()
        .map(|(name, v)| (name, v.into_iter().flat_map(f32::to_le_bytes).collect()))
        .collect();
    let views = file.iter().filter_map(|(name, view)| {
        let float = view.dtype() == safetensors::Dtype::F32;
        let data = if float { values.get(name)? } else { view.data() };
        Some((name, TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap()))
    });
    let written = safetensors::serialize(views, None).unwrap();
    mae::durable::write(&bench.path("case/tensors.safetensors"), &written).unwrap();
    mae::durable::write(&bench.path("case/case.json"), json.to_string().as_bytes()).unwrap();
    "case".to_owned()
}

#[test]
fn an_error_of_a_thousandth_is_named_and_exits_with_1() {
    let bench = Bench::new(TINY);
    for (case, tensor) in [
        ("mae-1-r50-pixel", "grads.decoder_pred.bias"),
        ("mae-1-r50-pixel", "pred"),
        ("finetune-1", "after_3.head.weight"),
        ("linprobe-0", "eval_logits"),
        ("pos-embed", "pos_embed.48.4"),
        ("mixup", "targets.1"),
    ] {
        let folder = altered(
            &bench,
            case,
            |_| {},
            |tensors| {
                let values = tensors.get_mut(tensor).unwrap();
                let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
                values[0] += 1e-3 * largest;
            },
        );
        let output = bench.mae(&["verify", &folder]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{case}: {stderr}");
        assert!(stderr.contains(tensor), "{case}: {stderr}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("FAILED"));
    }
}

#[test]
fn an_unusable_case_is_an_error_and_never_passes() {
    let bench = Bench::new(TINY);
    let refused = |describe: &dyn Fn(&mut serde_json::Value), change: &dyn Fn(&mut Tensors)| {
        let folder = altered(&bench, "mae-1-r50-pixel", describe, change);
        bench.refused(&["verify", &folder], 2)
    };
    let same = |_: &mut serde_json::Value| {};
    for (error, expected) in [
        (refused(&|json| json["kind"] = "mae_backward".into(), &|_| {}), "unknown kind"),
        (refused(&|json| json["model"]["patch_size"] = 7.into(), &|_| {}), "multiple"),
        (refused(&|json| json["model"]["num_heads"] = 0.into(), &|_| {}), "multiple"),
        (refused(&|json| json["mask_ratio"] = "half".into(), &|_| {}), "`mask_ratio`"),
        (refused(&|json| json["mask_ratio"] = 1.5.into(), &|_| {}), "`mask_ratio`"),
        (
            refused(&same, &|tensors| drop(tensors.remove("latent"))),
            "the tensor `latent` is missing",
        ),
        (refused(&same, &|tensors| drop(tensors.remove("weights.norm.bias"))), "weights.norm.bias"),
        (refused(&|json| json["model"]["depth"] = 1.into(), &|_| {}), "do not use these"),
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
