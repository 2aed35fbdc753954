//! The axis of a chart: its range, ticks and labels.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Width of a letter, as a fraction of the length of the horizontal axis.
const LETTER: f64 = 0.027;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlotAxis {
    pub(super) start: f64,
    pub(super) end: f64,
    /// Position and label of each tick, in ascending order.
    pub(super) ticks: Vec<(f64, String)>,
    /// With the exponent 3, the label `2` means 2000.
    pub(super) exponent: i32,
}

impl PlotAxis {
    /// Returns an axis for `values`, with about `most` ticks at round numbers.
    pub(super) fn numbers(values: &[f64], most: usize) -> Self {
        let (start, end) = padded(values, 0.06);
        Self::cut(start, end, step(end - start, most))
    }

    /// Like [`PlotAxis::numbers`], but the axis starts at 0.
    pub(super) fn from_zero(values: &[f64], most: usize) -> Self {
        let top = values.iter().copied().fold(0.0, f64::max);
        let end = if top > 0.0 { top * 1.06 } else { 1.0 };
        Self::cut(0.0, end, step(end, most))
    }

    /// Like [`PlotAxis::numbers`], but without ticks below 0 or above 100.
    pub(super) fn percent(values: &[f64], most: usize) -> Self {
        let (start, end) = padded(values, 0.06);
        // Leaves room for half a mark beyond 0 and 100.
        let (start, end) = (start.max(-3.0), end.min(100.0 + 0.06 * (100.0 - start)));
        let mut axis = Self::cut(start, end, step(end - start, most));
        axis.ticks.retain(|(tick, _)| (0.0..=100.0).contains(tick));
        axis
    }

    /// Returns an axis with about `most` ticks at whole numbers.
    pub(super) fn epochs(values: &[f64], most: usize) -> Self {
        let (start, end) = padded(values, 0.03);
        let step = step(end - start, most).max(1.0);
        let mut axis = Self::cut(start, end, step);
        // Also label the first epoch, even if it is not a round number.
        let first = values.iter().copied().fold(f64::INFINITY, f64::min);
        axis.ticks.retain(|(tick, _)| *tick >= first);
        let next = axis.ticks.first().map_or(f64::INFINITY, |(tick, _)| *tick);
        if first.is_finite() && next - first > 0.6 * step {
            axis.ticks.insert(0, (first, label(first, 1.0)));
        }
        axis
    }

    /// Returns an axis with a tick at each value. Leaves out ticks that would overlap.
    pub(super) fn at(values: &[f64]) -> Self {
        let (start, end) = padded(values, 0.08);
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for value in sorted.into_iter().rev() {
            let label = plain(value);
            let apart = |next: &(f64, String)| {
                let letters = (label.chars().count() + next.1.chars().count()) as f64 / 2.0 + 1.0;
                (next.0 - value) / (end - start) >= letters * LETTER
            };
            if ticks.last().is_none_or(apart) {
                ticks.push((value, label));
            }
        }
        ticks.reverse();
        Self { start, end, ticks, exponent: 0 }
    }

    /// Returns an axis with the labels `names` at 0, 1, 2 and so on.
    pub(super) fn names(names: &[String]) -> Self {
        let most = (1.0 / LETTER / names.len().max(1) as f64) as usize;
        let label = |name: &String| match name.chars().count() {
            n if n < most.max(3) => name.clone(),
            _ => name.chars().take(most.max(3) - 2).chain(['…']).collect(),
        };
        let ticks = names.iter().enumerate().map(|(i, name)| (i as f64, label(name))).collect();
        Self { start: -0.5, end: names.len() as f64 - 0.5, ticks, exponent: 0 }
    }

    fn cut(start: f64, end: f64, step: f64) -> Self {
        let first = (start / step - 1e-9).ceil() as i64;
        let last = (end / step + 1e-9).floor() as i64;
        let largest = start.abs().max(end.abs());
        let long = !(0.01..1e6).contains(&largest);
        let exponent = if long { largest.log10().floor() as i32 } else { 0 };
        let unit = 10_f64.powi(exponent);
        let tick = |i: i64| (i as f64 * step, label(i as f64 * (step / unit), step / unit));
        Self { start, end, ticks: (first..=last).map(tick).collect(), exponent }
    }

    pub(super) fn label(&self, value: f64) -> Option<&str> {
        let tick = self.ticks.iter().find(|(tick, _)| tick.total_cmp(&value).is_eq())?;
        Some(&tick.1)
    }

    /// Adds the power of 10 to the axis name, such as `rate, ×10⁻³`.
    pub(super) fn named(&self, name: &str) -> String {
        if self.exponent == 0 {
            return name.to_owned();
        }
        let raised = |c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
        };
        format!("{name}, ×10{}", self.exponent.to_string().chars().map(raised).collect::<String>())
    }
}

impl Ranged for PlotAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.start) / (self.end - self.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for PlotAxis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value).unwrap_or_default().to_owned()
    }
}

/// Returns the range of `values` with a margin at both ends. Each margin is `share` times the range.
fn padded(values: &[f64], share: f64) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return (0.0, 1.0);
    }
    let width = high - low;
    // Values that differ only by rounding count as equal.
    if width <= high.abs().max(low.abs()) * 1e-9 {
        let margin = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
        return (low - margin, high + margin);
    }
    (low - share * width, high + share * width)
}

/// Returns a round step that divides `width` into about `most` parts.
fn step(width: f64, most: usize) -> f64 {
    let rough = width / most.max(1) as f64;
    let decade = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * decade >= rough * 0.85);
    factor.unwrap_or(10.0) * decade
}

/// Formats a tick label with as many decimals as `step` has.
fn label(tick: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{tick:.digits$}")
}

/// Formats a number. Numbers below 0.001 get an exponent.
fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:e}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::PlotAxis;

    fn labels(axis: &PlotAxis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers_with_enough_digits() {
        assert_eq!(labels(&PlotAxis::numbers(&[0.2, 1.0], 5)), ["0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&PlotAxis::numbers(&[82.44, 83.48], 4)), ["82.5", "83.0", "83.5"]);
        let rate = PlotAxis::from_zero(&[1.5e-4], 4);
        assert_eq!(labels(&rate), ["0.0", "0.5", "1.0", "1.5"]);
        assert_eq!(rate.named("rate"), "rate, ×10⁻⁴");
        assert_eq!(PlotAxis::numbers(&[1.0, 3e12], 4).named("x"), "x, ×10¹²");
        assert_eq!(PlotAxis::numbers(&[1.0, 3.0], 4).named("x"), "x");
        assert_eq!(
            labels(&PlotAxis::percent(&[90.0, 100.0], 5)),
            ["90", "92", "94", "96", "98", "100"]
        );
        assert!(PlotAxis::percent(&[98.0], 5).end < 102.0, "there is nothing above 100");
    }

    #[test]
    fn epochs_have_ticks_at_whole_numbers_and_at_the_first() {
        assert_eq!(labels(&PlotAxis::epochs(&[1.0, 1600.0], 5)), ["1", "500", "1000", "1500"]);
        assert_eq!(labels(&PlotAxis::epochs(&[1.0, 2.0, 3.0], 6)), ["1", "2", "3"]);
        assert_eq!(labels(&PlotAxis::epochs(&[1.0], 6)), ["1"]);
        let kept = [800.0, 1000.0, 1100.0, 1600.0];
        assert_eq!(labels(&PlotAxis::at(&kept)), ["800", "1100", "1600"], "1000 has no room");
        let names = ["pixel", "const"].map(str::to_owned);
        assert_eq!(labels(&PlotAxis::names(&names)), ["pixel", "const"]);
        let long = vec!["rand-m9-mstd0.5-inc1".to_owned(); 3];
        assert_eq!(labels(&PlotAxis::names(&long))[0], "rand-m9-ms…");
    }

    #[test]
    fn an_axis_is_never_empty() {
        for values in [&[][..], &[0.0], &[5.0, 5.0], &[-3.0], &[1e-30, 1e30]] {
            for axis in
                [PlotAxis::numbers(values, 5), PlotAxis::from_zero(values, 5), PlotAxis::at(values)]
            {
                assert!(axis.start < axis.end, "{values:?}: {axis:?}");
                assert!(axis.ticks.len() <= 7, "{values:?}: {axis:?}");
                assert!(axis.ticks.iter().all(|(at, _)| (axis.start..=axis.end).contains(at)));
            }
        }
    }
}
