//! The tables of the page.

use super::Report;
use super::about::JobState;
use super::about::jobs;
use super::about::point_name;
use super::spread::Spread;
use super::spread::by_size;
use super::spread::inside_the_noise;
use super::spread::short;
use super::spread::spread;
use super::spread::swept;
use super::text::escape;
use super::text::utc;
use crate::runs::AccuracyRow;
use crate::runs::Provenance;
use std::fmt::Write as _;

/// What a cell shows, and whether it is among the best of its column.
#[derive(Default)]
struct Cell {
    text: String,
    mark: Mark,
    /// Its job is not at its end.
    open: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Mark {
    #[default]
    None,
    Best,
    /// Not to be told from the best.
    Near,
}

/// One column of results: its heading, and its cell in a row.
type Column = (&'static str, fn(&AccuracyRow) -> &str);

const FINETUNE: [Column; 4] = [
    ("top-1 %", |row| &row.finetune.top1),
    ("top-5 %", |row| &row.finetune.top5),
    ("best top-1 %", |row| &row.finetune.best_top1),
    ("in epoch", |row| &row.finetune.best_epoch),
];
const LINPROBE: [Column; 3] = [
    ("top-1 %", |row| &row.linprobe.top1),
    ("top-5 %", |row| &row.linprobe.top5),
    ("best top-1 %", |row| &row.linprobe.best_top1),
];

/// Why rows are kept apart.
const SCHEDULE: &str = "A row whose schedule <em>ended here</em> and one from the <em>middle of a longer schedule</em>, \
     whose learning rate had not come down yet, are not to be compared with each other.";

/// The accuracy table of a run, or of every point of a sweep.
pub(super) fn accuracy(report: &Report<'_>) -> String {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for run in report.points {
        let jobs = jobs(run);
        let mut values: Vec<String> = swept(run).into_iter().map(|(_, value)| value).collect();
        values.truncate(if report.is_sweep { values.len() } else { 0 });
        for row in &run.accuracy {
            let open = |dir: &str| {
                jobs.iter().any(|job: &JobState| job.dir == dir && job.epoch > 0 && !job.done())
            };
            rows.push(Row {
                swept: values.clone(),
                row,
                open: [open(&row.finetune.run), open(&row.linprobe.run)],
            });
        }
    }
    if rows.is_empty() {
        return "<p>No fine-tuning and no probe: there are no accuracies.</p>\n".to_owned();
    }
    rows.sort_by(|a, b| {
        let pairs = a.swept.iter().zip(&b.swept);
        pairs
            .map(|(a, b)| by_size(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let keys: Vec<String> = match report.is_sweep {
        true => swept(&report.points[0]).into_iter().map(|(key, _)| key).collect(),
        false => Vec::new(),
    };
    // Over seeds the means are what is compared; the best of single runs is luck.
    let html = table(&keys, &rows, !report.has_seeds());
    let open = rows.iter().any(|row| row.open.contains(&true));
    let open =
        if open { " <span class=\"wait\">…</span> its job is not at its end." } else { "" };
    let best = if report.has_seeds() { "" } else { "★ best of the rows that may be compared. " };
    let note = format!("<p class=\"note\">{best}{SCHEDULE}{open}</p>\n");
    if report.has_seeds() {
        format!(
            "{}<details><summary>Every run, {} rows</summary>{html}{note}</details>\n",
            means(report),
            rows.len()
        )
    } else {
        html + &note
    }
}

struct Row<'a> {
    swept: Vec<String>,
    row: &'a AccuracyRow,
    /// Of the fine-tuning and the probe: begun, and not at its end.
    open: [bool; 2],
}

fn table(keys: &[String], rows: &[Row<'_>], marks: bool) -> String {
    let used = |columns: &[Column]| {
        rows.iter().any(|row| columns.iter().any(|(_, cell)| !cell(row.row).is_empty()))
    };
    let groups: [(&str, &[Column], usize); 2] =
        [("fine-tuned", &FINETUNE, 0), ("linear probe", &LINPROBE, 1)];
    let groups: Vec<_> = groups.into_iter().filter(|(_, columns, _)| used(columns)).collect();
    let mut head = String::new();
    for key in keys {
        let _ = write!(
            head,
            "<th rowspan=\"2\" scope=\"col\" title=\"{}\">{}</th>",
            escape(key),
            escape(short(key))
        );
    }
    head.push_str("<th rowspan=\"2\" scope=\"col\">pre-training epochs</th><th rowspan=\"2\" scope=\"col\">its schedule</th>");
    for (name, columns, _) in &groups {
        let _ = write!(head, "<th colspan=\"{}\" scope=\"colgroup\">{name}</th>", columns.len());
    }
    head.push_str("<th rowspan=\"2\" scope=\"col\">pre-training loss</th></tr><tr>");
    for (heading, _) in groups.iter().flat_map(|(_, columns, _)| *columns) {
        let _ = write!(head, "<th scope=\"col\">{heading}</th>");
    }
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for value in &row.swept {
            let _ = write!(body, "<td>{}</td>", escape(value));
        }
        body.push_str(&start_cells(row.row));
        for (_, columns, job) in &groups {
            for (heading, cell) in *columns {
                let ranked = marks && heading.ends_with('%');
                let mark =
                    if ranked && is_best(rows, row.row, *cell) { Mark::Best } else { Mark::None };
                let text = cell(row.row).to_owned();
                body.push_str(
                    &Cell { open: row.open[*job] && heading.starts_with("top"), text, mark }.html(),
                );
            }
        }
        let _ = writeln!(
            body,
            "{}</tr>",
            Cell { text: row.row.pretrain_loss.clone(), ..Cell::default() }.html()
        );
    }
    boxed("Accuracy table", &format!("<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"))
}

/// Where a row starts from, and what its schedule was.
fn start_cells(row: &AccuracyRow) -> String {
    let start = match row.pretrain_epoch.as_str() {
        "0" => "0 (scratch)".to_owned(),
        "" => {
            let dirs = [&row.finetune.run, &row.linprobe.run];
            let name = dirs.into_iter().find_map(|dir| dir.rsplit_once("from-"));
            name.map_or_else(String::new, |(_, name)| escape(name))
        }
        epoch => escape(epoch),
    };
    format!("<th scope=\"row\">{start}</th><td class=\"text\">{}</td>", schedule(&row.annealed))
}

fn schedule(annealed: &str) -> &'static str {
    match annealed {
        "1" => "ended here",
        "0" => "middle of a longer schedule",
        _ => "<span class=\"none\">–</span>",
    }
}

/// Whether no row that may be compared with this one has a larger value; a start from scratch is not compared.
fn is_best(rows: &[Row<'_>], row: &AccuracyRow, cell: fn(&AccuracyRow) -> &str) -> bool {
    let Ok(own) = cell(row).parse::<f64>() else { return false };
    let comparable = rows.iter().filter(|other| other.row.annealed == row.annealed);
    let mut values = comparable.filter_map(|other| cell(other.row).parse::<f64>().ok());
    !row.annealed.is_empty() && values.all(|other| other <= own)
}

impl Cell {
    fn html(&self) -> String {
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

/// One line of the table of means.
struct MeanRow {
    values: Vec<String>,
    epoch: String,
    annealed: String,
    runs: usize,
    /// Fine-tuned top-1, probed top-1, pre-training loss.
    figures: [Option<Spread>; 3],
}

const MEANS: [(&str, fn(&AccuracyRow) -> &str); 3] = [
    ("fine-tuned top-1 %", |row| &row.finetune.top1),
    ("linear probe top-1 %", |row| &row.linprobe.top1),
    ("pre-training loss", |row| &row.pretrain_loss),
];

/// Means and spreads over seeds.
fn means(report: &Report<'_>) -> String {
    let rows = mean_rows(report);
    let keys: Vec<&str> = report.groups[0].values.iter().map(|(key, _)| short(key)).collect();
    let mut html = String::from("<thead><tr>");
    for key in keys
        .iter()
        .copied()
        .chain(["pre-training epochs", "its schedule", "seeds"])
        .chain(MEANS.map(|(name, _)| name))
    {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(key));
    }
    html.push_str("</tr></thead><tbody>");
    let mut near = false;
    for row in &rows {
        html.push_str("<tr>");
        for value in &row.values {
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        let start = if row.epoch == "0" { "0 (scratch)" } else { &row.epoch };
        let _ = write!(
            html,
            "<th scope=\"row\">{}</th><td class=\"text\">{}</td><td>{}</td>",
            escape(start),
            schedule(&row.annealed),
            row.runs
        );
        for (place, figure) in row.figures.iter().enumerate() {
            let digits = if place < 2 { 2 } else { 5 };
            let mark = if place < 2 { mark(&rows, row, place) } else { Mark::None };
            near |= mark == Mark::Near;
            html.push_str(
                &Cell {
                    text: figure.map_or_else(String::new, |s| in_words(s, digits)),
                    mark,
                    open: false,
                }
                .html(),
            );
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>");
    let near = if near {
        " ≈ the difference from the best is inside the noise: less than twice its standard error."
    } else {
        ""
    };
    format!(
        "{}<p class=\"note\">Mean ± standard deviation over seeds. ★ best mean of the rows that may be compared.{near} {SCHEDULE}</p>\n",
        boxed("Means over seeds", &html)
    )
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
            let of = |cell: fn(&AccuracyRow) -> &str| {
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

/// Where the numbers come from, a column a run.
pub(super) fn provenance(report: &Report<'_>) -> String {
    let facts: [(&str, fn(&Provenance) -> String); 11] = [
        ("version", |p| p.version.clone()),
        ("commit", |p| p.commit.clone()),
        ("command line", |p| p.command_line.join(" ")),
        ("device", |p| p.device.clone()),
        ("devices", |p| p.devices.to_string()),
        ("precision", |p| p.precision.clone()),
        ("CPU threads", |p| p.threads.to_string()),
        ("seed", |p| p.seed.to_string()),
        ("fingerprint of the data", |p| p.data_fingerprint.clone()),
        ("last start", |p| utc(p.started_unix_s)),
        ("end", |p| p.finished_unix_s.map_or_else(String::new, utc)),
    ];
    let runs: Vec<_> =
        report.points.iter().filter_map(|run| Some((run, run.provenance.as_ref()?))).collect();
    if runs.is_empty() {
        return "<p>No provenance yet: the run has not begun.</p>\n".to_owned();
    }
    let mut html = String::new();
    if report.is_sweep {
        html.push_str("<thead><tr><td></td>");
        for (run, _) in &runs {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&point_name(run)));
        }
        html.push_str("</tr></thead>");
    }
    html.push_str("<tbody>");
    for (name, fact) in facts {
        let _ = write!(html, "<tr><th scope=\"row\">{name}</th>");
        let values: Vec<String> = runs.iter().map(|(_, provenance)| fact(provenance)).collect();
        // What all points share is said once.
        let same = values.iter().all(|value| *value == values[0]);
        let shown = if same { &values[..1] } else { &values[..] };
        for value in shown {
            let span = if same { runs.len() } else { 1 };
            let value = if value.is_empty() {
                "<span class=\"none\">–</span>".to_owned()
            } else {
                escape(value)
            };
            let _ = write!(html, "<td class=\"text\" colspan=\"{span}\">{value}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>");
    boxed("Provenance", &html)
}

/// A table in a box of its own that scrolls.
fn boxed(name: &str, table: &str) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table>{table}</table></div>\n"
    )
}
