//! What the tables share: cells, boxes, and what their marks mean.

use super::text::escape;
use crate::results::AccuracyRow;
use crate::results::seeds::{Measured, is_inside, noise};
use std::fmt::Write as _;

/// What a cell shows, and whether it is among the best of its column.
#[derive(Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) mark: Mark,
    /// Its job is not at its end.
    pub(super) open: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    None,
    Best,
    /// Not to be told from the best.
    Near,
}

/// How a cell of the accuracy table is read.
pub(super) type Read = fn(&AccuracyRow) -> &str;

/// Marks and words, and what they mean.
const NOTES: [(&str, &str); 6] = [
    ("±", "Mean ± standard deviation over seeds."),
    ("★", "★ best of the rows that may be compared."),
    (
        "≈",
        "≈ not to be told from the best: the difference is inside the noise (two standard errors; of single runs at \
         least 0.2 points, and what the number of validation images resolves).",
    ),
    (ENDED, "<em>ended here</em>: the schedule ended at this epoch."),
    (
        MIDDLE,
        "<em>mid-schedule</em>: from the middle of a longer schedule, whose learning rate had not come down yet; \
         not to be compared with one that ended there.",
    ),
    ("…", "… its job is not at its end."),
];
const ENDED: &str = "ended here";
const MIDDLE: &str = "mid-schedule";

impl Mark {
    /// The mark of `own` among figures that may be compared with it.
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

/// Where a row starts from, already escaped, and what its schedule was.
pub(super) fn start_cells(start: &str, annealed: &str) -> String {
    let start = if start == "0" { "0 (scratch)" } else { start };
    let schedule = match annealed {
        "1" => ENDED,
        "0" => MIDDLE,
        _ => "<span class=\"none\">–</span>",
    };
    format!("<th scope=\"row\">{start}</th><td class=\"text\">{schedule}</td>")
}

/// A table in a box of its own that scrolls.
pub(super) fn boxed(name: &str, table: &str) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table>{table}</table></div>\n"
    )
}

/// The table with what the marks and words that are in it mean.
pub(super) fn explained(table: String) -> String {
    let mut html = table;
    let notes: Vec<&str> =
        NOTES.iter().filter(|(mark, _)| html.contains(mark)).map(|(_, meaning)| *meaning).collect();
    let _ = writeln!(html, "<p class=\"note\">{}</p>", notes.join(" "));
    html
}
