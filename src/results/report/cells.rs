//! Table cells, scroll boxes and the explanation of marks in the HTML report.

use super::text::escape;
use crate::results::AccuracyRow;
use crate::results::seeds::{Measured, is_inside, noise};
use std::fmt::Write as _;

#[derive(Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) mark: Mark,
    /// Whether the job that measures the value is unfinished.
    pub(super) open: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    None,
    /// The best value of a column.
    Best,
    /// A value whose difference from the best value may be chance.
    Near,
}

/// A function that returns one cell of a row.
pub(super) type Read = fn(&AccuracyRow) -> &str;

const NOTES: [(&str, &str); 6] = [
    ("±", "Mean ± standard deviation over seeds."),
    ("★", "★ marks the best of the comparable rows."),
    (
        "≈",
        "≈ marks rows whose difference to the best row is within the noise. The noise is two standard errors over the \
         seeds or on the validation images. For a single run, a difference of at most 0.2 points is also noise.",
    ),
    (ENDED, "<em>ended here</em>: the schedule ended at this epoch."),
    (
        MIDDLE,
        "<em>mid-schedule</em>: the checkpoint is from the middle of a longer schedule, when the learning rate was still \
         high. Do not compare such a row with the end of a schedule.",
    ),
    ("…", "… the job has not finished."),
];
const ENDED: &str = "ended here";
const MIDDLE: &str = "mid-schedule";

impl Mark {
    /// Returns the mark of the value `own` in a column with the values `figures`.
    pub(super) fn among(
        own: Measured,
        figures: impl Iterator<Item = Measured>,
        val_images: Option<usize>,
    ) -> Self {
        match figures.max_by(|a, b| a.mean.total_cmp(&b.mean)) {
            Some(best) if own.mean >= best.mean => Self::Best,
            Some(best) if is_inside(best.mean - own.mean, noise(&best, &own, val_images)) => {
                Self::Near
            }
            _ => Self::None,
        }
    }
}

impl Cell {
    pub(super) fn html(&self) -> String {
        if self.text.is_empty() {
            return "<td><span class=\"none\">–</span></td>".to_owned();
        }
        let text = escape(&self.text);
        let wait = if self.open { " <span class=\"wait\">…</span>" } else { "" };
        match self.mark {
            Mark::None => format!("<td>{text}{wait}</td>"),
            Mark::Best => format!("<td class=\"best\"><span>★</span>{text}{wait}</td>"),
            Mark::Near => format!("<td class=\"near\"><span>≈</span>{text}{wait}</td>"),
        }
    }
}

/// Returns two HTML cells: the checkpoint, and `ended here` or `mid-schedule`.
///
/// The caller must escape `start` for HTML.
pub(super) fn start_cells(start: &str, annealed: &str) -> String {
    let start = if start == "0" { "0 (scratch)" } else { start };
    let schedule = match annealed {
        "1" => ENDED,
        "0" => MIDDLE,
        _ => "<span class=\"none\">–</span>",
    };
    format!("<th scope=\"row\">{start}</th><td class=\"text\">{schedule}</td>")
}

/// Puts an HTML table into a scroll box.
pub(super) fn boxed(name: &str, table: &str) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table>{table}</table></div>\n"
    )
}

/// Adds an explanation of each mark in `table`, such as `★`.
pub(super) fn explained(table: String) -> String {
    let mut html = table;
    let notes: Vec<&str> =
        NOTES.iter().filter(|(mark, _)| html.contains(mark)).map(|(_, meaning)| *meaning).collect();
    let _ = writeln!(html, "<p class=\"note\">{}</p>", notes.join(" "));
    html
}
