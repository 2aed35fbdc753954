//! Compares tensors and collects the results of a case.

use std::path::PathBuf;

/// How a difference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Absolute difference divided by the tensor's largest expected value.
    Relative,
    /// Absolute difference.
    Absolute,
}

/// The comparison of one tensor.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ReportRow {
    pub tensor: String,
    /// Largest absolute difference; infinite if the lengths differ or a value is NaN.
    pub max_abs: f64,
    /// Largest absolute difference, divided by the tensor's largest expected value.
    pub max_rel: f64,
    /// Whether `tolerance` limits `max_abs` or `max_rel`.
    pub measure: Measure,
    pub tolerance: f64,
    pub passed: bool,
}

impl ReportRow {
    /// Returns the difference divided by `tolerance`. The comparison fails if the result is above 1.
    pub fn excess(&self) -> f64 {
        let found = match self.measure {
            Measure::Relative => self.max_rel,
            Measure::Absolute => self.max_abs,
        };
        match (found > 0.0, self.tolerance > 0.0) {
            (false, _) => 0.0,
            (true, true) => found / self.tolerance,
            (true, false) => f64::INFINITY,
        }
    }
}

/// All comparisons of one case.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CaseReport {
    pub path: PathBuf,
    pub kind: String,
    pub rows: Vec<ReportRow>,
}

impl CaseReport {
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }

    /// Returns the comparison with the largest [`ReportRow::excess`].
    pub fn worst(&self) -> Option<&ReportRow> {
        self.rows.iter().max_by(|a, b| a.excess().total_cmp(&b.excess()))
    }
}

/// Compares tensors, and collects the results of a case.
#[derive(Default)]
pub(super) struct TensorComparison {
    pub rows: Vec<ReportRow>,
}

impl TensorComparison {
    /// Compares `got` with `expected`. `tolerance` is a fraction of the largest expected value.
    pub(super) fn relative(
        &mut self,
        tensor: impl Into<String>,
        got: &[impl Into<f64> + Copy],
        expected: &[impl Into<f64> + Copy],
        tolerance: f64,
    ) {
        self.add(tensor.into(), got, expected, Measure::Relative, tolerance);
    }

    /// Compares `got` with `expected`. `tolerance` is an absolute difference.
    pub(super) fn absolute(
        &mut self,
        tensor: impl Into<String>,
        got: &[impl Into<f64> + Copy],
        expected: &[impl Into<f64> + Copy],
        tolerance: f64,
    ) {
        self.add(tensor.into(), got, expected, Measure::Absolute, tolerance);
    }

    fn add(
        &mut self,
        tensor: String,
        got: &[impl Into<f64> + Copy],
        expected: &[impl Into<f64> + Copy],
        measure: Measure,
        tolerance: f64,
    ) {
        let pairs = got.iter().zip(expected).map(|(a, b)| ((*a).into(), (*b).into()));
        let mut max_abs = if got.len() == expected.len() { 0f64 } else { f64::INFINITY };
        for (a, b) in pairs {
            let difference: f64 = a - b;
            max_abs =
                max_abs.max(if difference.is_nan() { f64::INFINITY } else { difference.abs() });
        }
        let largest = expected.iter().fold(0f64, |m, v| m.max((*v).into().abs()));
        let max_rel = max_abs / largest.max(1e-12);
        let mut row = ReportRow { tensor, max_abs, max_rel, measure, tolerance, passed: false };
        row.passed = row.excess() <= 1.0;
        self.rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::TensorComparison;

    #[test]
    fn nan_and_different_lengths_never_pass() {
        let mut comparison = TensorComparison::default();
        comparison.relative("near", &[1.0, 2.0], &[1.0, 2.000_001], 1e-6);
        comparison.relative("far", &[1.0, 2.0], &[1.0, 2.001], 1e-5);
        comparison.absolute("nan", &[f64::NAN], &[0.0], 1e9);
        comparison.absolute("short", &[1.0], &[1.0, 1.0], 1e9);
        comparison.absolute("exact", &[1.0], &[1.0], 0.0);
        let passed: Vec<bool> = comparison.rows.iter().map(|row| row.passed).collect();
        assert_eq!(passed, [true, false, false, false, true]);
    }
}
