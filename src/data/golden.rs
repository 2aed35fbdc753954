//! Reading `tests/golden/data/`, for this module's tests.

use std::fs;
use std::path::PathBuf;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

pub(super) fn folder(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data").join(case)
}

/// The `case.json` of a case.
pub(super) fn description(case: &str) -> Value {
    let text = fs::read(folder(case).join("case.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Gives a case's tensors to `check`.
pub(super) fn with_tensors(case: &str, check: impl FnOnce(&SafeTensors<'_>)) {
    let bytes = fs::read(folder(case).join("tensors.safetensors")).unwrap();
    check(&SafeTensors::deserialize(&bytes).unwrap());
}

pub(super) fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    let (values, _) = tensor.data().as_chunks();
    values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The largest and the mean difference of levels, and the share of values that differ.
pub(super) fn differences(ours: &[u8], reference: &[u8]) -> (u8, f64, f64) {
    assert_eq!(ours.len(), reference.len());
    let each = || ours.iter().zip(reference).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    let differing = each().filter(|d| *d > 0).count();
    let n = ours.len() as f64;
    (each().max().unwrap_or(0), sum as f64 / n, differing as f64 / n)
}

/// Checks draws against recorded quantiles of as many draws: each within 5 standard errors of the two shares below it.
pub(super) fn assert_distributed(name: &str, draws: &[f64], reference: &Value) {
    let n = draws.len() as f64;
    for (p, quantile) in reference["quantiles"].as_object().unwrap() {
        let (p, quantile): (f64, f64) = (p.parse().unwrap(), quantile.as_f64().unwrap());
        let tolerance = 5.0 * (2.0 * p * (1.0 - p) / n).sqrt();
        // Sides are whole pixels, so many draws may be the quantile itself; it is recorded with 5 decimals.
        let below = draws.iter().filter(|d| **d < quantile - 1e-5).count() as f64 / n;
        let up_to = draws.iter().filter(|d| **d <= quantile + 1e-5).count() as f64 / n;
        assert!(
            below - tolerance <= p && p <= up_to + tolerance,
            "{name}: {below:.4} to {up_to:.4} of the draws are below {quantile}, expected {p}"
        );
    }
}
