//! The table of means over seeds.

use super::Report;
use super::cells::Cell;
use super::cells::Mark;
use super::cells::Read;
use super::cells::boxed;
use super::cells::explained;
use super::cells::start_cells;
use super::spread::Spread;
use super::spread::by_size;
use super::spread::inside_the_noise;
use super::spread::short;
use super::spread::spread;
use super::text::escape;
use std::fmt::Write as _;

/// One line of the table of means.
struct MeanRow {
    values: Vec<String>,
    epoch: String,
    annealed: String,
    runs: usize,
    /// Fine-tuned top-1, probed top-1, pre-training loss.
    figures: [Option<Spread>; 3],
}

const MEANS: [(&str, Read); 3] = [
    ("fine-tuned top-1 %", |row| &row.finetune.top1),
    ("linear probe top-1 %", |row| &row.linprobe.top1),
    ("pre-training loss", |row| &row.pretrain_loss),
];

/// The means and spreads of each group and starting point.
pub(super) fn means(report: &Report<'_>) -> String {
    let rows = mean_rows(report);
    let mut html = String::from("<thead><tr>");
    for (key, _) in &report.groups[0].values {
        let _ =
            write!(html, "<th scope=\"col\" title=\"{}\">{}</th>", escape(key), escape(short(key)));
    }
    html.push_str(
        "<th scope=\"col\">pre-training epochs</th><th scope=\"col\" class=\"text\">schedule</th>",
    );
    for (name, _) in MEANS {
        let _ = write!(html, "<th scope=\"col\">{name}</th>");
    }
    html.push_str("<th scope=\"col\">seeds</th></tr></thead><tbody>");
    for row in &rows {
        html.push_str("<tr>");
        for value in &row.values {
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html.push_str(&start_cells(&escape(&row.epoch), &row.annealed));
        for (place, figure) in row.figures.iter().enumerate() {
            // A loss depends on what is masked and how it is normalized: its best says nothing.
            let (digits, mark) =
                if place < 2 { (2, mark(&rows, row, place)) } else { (5, Mark::None) };
            let text = figure.map_or_else(String::new, |figure| in_words(figure, digits));
            html.push_str(&Cell { text, mark, open: false }.html());
        }
        let _ = writeln!(html, "<td>{}</td></tr>", row.runs);
    }
    html.push_str("</tbody>");
    explained(boxed("Means over seeds", &html))
}

fn in_words(s: Spread, digits: usize) -> String {
    match s.sd {
        Some(sd) => format!("{:.digits$} ± {sd:.digits$}", s.mean),
        None => format!("{:.digits$}", s.mean),
    }
}

fn mean_rows(report: &Report<'_>) -> Vec<MeanRow> {
    let mut rows = Vec::new();
    for group in &report.groups {
        let mut starts: Vec<(&str, &str)> = Vec::new();
        for row in group.runs.iter().flat_map(|run| &run.accuracy) {
            let start = (row.pretrain_epoch.as_str(), row.annealed.as_str());
            if !start.0.is_empty() && !starts.contains(&start) {
                starts.push(start);
            }
        }
        starts.sort_by(|a, b| by_size(a.0, b.0));
        for (epoch, annealed) in starts {
            let of = |cell: Read| {
                let rows = group.runs.iter().flat_map(|run| &run.accuracy);
                let same =
                    rows.filter(|row| row.pretrain_epoch == epoch && row.annealed == annealed);
                let values: Vec<f64> = same.filter_map(|row| cell(row).parse().ok()).collect();
                spread(&values)
            };
            let figures = MEANS.map(|(_, cell)| of(cell));
            rows.push(MeanRow {
                values: group.values.iter().map(|(_, value)| value.clone()).collect(),
                epoch: epoch.to_owned(),
                annealed: annealed.to_owned(),
                runs: figures.iter().flatten().map(|figure| figure.runs).max().unwrap_or(0),
                figures,
            });
        }
    }
    rows
}

fn mark(rows: &[MeanRow], row: &MeanRow, place: usize) -> Mark {
    let Some(own) = row.figures[place].filter(|_| !row.annealed.is_empty()) else {
        return Mark::None;
    };
    let comparable = rows.iter().filter(|other| other.annealed == row.annealed);
    let figures = comparable.filter_map(|other| other.figures[place]);
    let Some(best) = figures.max_by(|a, b| a.mean.total_cmp(&b.mean)) else { return Mark::None };
    if own.mean >= best.mean {
        Mark::Best
    } else if inside_the_noise(own, best) == Some(true) {
        Mark::Near
    } else {
        Mark::None
    }
}
