//! Reads a CSV table with the columns of `accuracy.csv`.

use super::error::CompareError;
use super::run::{ComparisonRow, Run, RunOrigin};
use crate::recipe;
use crate::results::AccuracyRow;
use crate::results::accuracy::{COLUMNS, csv_problem, line_of};
use crate::text::cell_text;

/// The columns that only a published table has.
const ORIGIN: [&str; 4] = ["model", "variant", "value", "source"];
const HINT: &str = "use the columns of `accuracy.csv`: at least `pretrain_epoch`, and `finetune_top1` or `linprobe_top1`";

/// Reads a CSV table as runs.
///
/// `name` is the table's name in the output. Errors show the path `place`. The columns before `pretrain_epoch` are
/// settings. Rows with the same settings, model, variant and value belong to one run.
pub(super) fn read_table(name: &str, place: &str, text: &str) -> Result<Vec<Run>, CompareError> {
    let refuse = |problem: String| {
        let place = place.to_owned();
        CompareError::Table { place, problem, hint: HINT }
    };
    let text = text.trim_start_matches('\u{feff}');
    let broken = |e: csv::Error| refuse(csv_problem(text, &e));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(broken)?;
    let header: csv::StringRecord = header.iter().map(cell_text).collect();
    let settings = check_header(&header).map_err(refuse)?;
    let mut runs: Vec<Run> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let cell = |column: &str| {
            let place = header.iter().position(|head| head == column);
            place.map_or_else(String::new, |place| cell_text(record[place].trim()).to_owned())
        };
        let row = ComparisonRow::of(AccuracyRow::from_cells(cell), cell("source")).map_err(
            |problem| {
                let line = record.position().map_or(0, |position| line_of(text, position));
                refuse(format!("line {line}: {problem}"))
            },
        )?;
        let settings = settings.iter().map(|key| (key.clone(), cell(key))).collect();
        add(&mut runs, one_row(name, place, settings, origin(&header, &cell)), row);
    }
    if runs.is_empty() {
        return Err(refuse("the table has no rows".to_owned()));
    }
    runs.iter_mut().for_each(Run::sort_rows);
    Ok(runs)
}

/// Checks the header and returns the names of the setting columns.
fn check_header(header: &csv::StringRecord) -> Result<Vec<String>, String> {
    let place = |column: &str| header.iter().position(|head| head == column);
    let Some(epoch) = place("pretrain_epoch") else {
        return Err(
            "this is not an accuracy table: the column `pretrain_epoch` is missing".to_owned()
        );
    };
    if place("finetune_top1").is_none() && place("linprobe_top1").is_none() {
        return Err("the columns `finetune_top1` and `linprobe_top1` are both missing".to_owned());
    }
    let mut settings = Vec::new();
    for (index, head) in header.iter().enumerate() {
        if place(head) != Some(index) {
            return Err(format!("the column `{head}` appears twice"));
        }
        if COLUMNS.contains(&head) || ORIGIN.contains(&head) {
            continue;
        }
        if index > epoch {
            let near = recipe::nearest(head, COLUMNS.into_iter().chain(ORIGIN));
            let near = near.map_or_else(String::new, |near| format!(". Did you mean `{near}`?"));
            return Err(format!("unknown column `{head}`{near}"));
        }
        settings.push(head.to_owned());
    }
    Ok(settings)
}

fn origin(header: &csv::StringRecord, cell: &impl Fn(&str) -> String) -> Option<RunOrigin> {
    let published = header.iter().any(|head| ORIGIN.contains(&head));
    published.then(|| RunOrigin {
        model: cell("model"),
        variant: cell("variant"),
        value: cell("value"),
    })
}

fn one_row(
    name: &str,
    place: &str,
    settings: Vec<(String, String)>,
    origin: Option<RunOrigin>,
) -> Run {
    let mut run = Run { name: name.to_owned(), place: place.to_owned(), ..Run::default() };
    let parts: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !parts.is_empty() {
        run.name = format!("{name}/{}", parts.join(","));
    }
    run.label = origin.as_ref().map_or_else(|| run.name.clone(), |o| o.label(&run.name));
    run.swept = settings.iter().map(|(key, _)| key.clone()).collect();
    run.settings = settings;
    run.origin = origin;
    run
}

/// Adds `row` to the run that matches `new`. If no run matches, adds `new` with this row.
fn add(runs: &mut Vec<Run>, new: Run, row: ComparisonRow) {
    let fits = |run: &&mut Run| {
        let same = run.name == new.name
            && match (&run.origin, &new.origin) {
                (Some(a), Some(b)) => a.is_series_of(b),
                (a, b) => a == b,
            };
        same && run.rows.iter().all(|old| old.key != row.key)
    };
    match runs.iter_mut().find(fits) {
        Some(run) => run.rows.push(row),
        None => runs.push(Run { rows: vec![row], ..new }),
    }
}

#[cfg(test)]
mod tests {
    use super::read_table;

    fn error(text: &str) -> String {
        read_table("t", "t.csv", text).unwrap_err().to_string()
    }

    #[test]
    fn rows_with_the_same_settings_form_a_run() {
        let text = "pretrain.mask_ratio,pretrain_epoch,annealed,finetune_top1\n\
            0.5,0,,80.00\n0.5,8,1,90.00\n0.75,8,1,91.00\n0.75,0,,\n";
        let runs = read_table("t", "t.csv", text).unwrap();
        assert_eq!(runs.iter().map(|run| run.rows.len()).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(runs[1].name, "t/pretrain.mask_ratio=0.75");
        assert_eq!(runs[1].rows[0].key.epoch, Some(0), "rows are sorted by epoch");
        assert_eq!(runs[1].rows[0].finetune, None);
    }

    #[test]
    fn errors_in_a_table_name_the_line() {
        for (text, expected) in [
            ("", "t.csv: this is not an accuracy table"),
            ("pretrain_epoch,finetune_top1\n", "t.csv: the table has no rows"),
            ("pretrain_epoch,pretrain_loss\n8,1\n", "t.csv: the columns `finetune_top1`"),
            ("pretrain_epoch,finetune_top1,linprobe_top\n", "Did you mean `linprobe_top1`?"),
            (
                "pretrain_epoch,finetune_top1\n8,1\n9\n",
                "t.csv: line 3: found 1 cells, but the header has 2",
            ),
            (
                "pretrain_epoch,finetune_top1\n8,83.6 %\n",
                "t.csv: line 2: `finetune_top1` is `83.6 %`",
            ),
            ("pretrain_epoch,finetune_top1\n8,nan\n", "t.csv: line 2: `finetune_top1` is `nan`"),
            ("pretrain_epoch,finetune_top1\n8.5,1\n", "t.csv: line 2: `pretrain_epoch` is `8.5`"),
            (
                "pretrain_epoch,annealed,finetune_top1\n8,yes,1\n",
                "t.csv: line 2: `annealed` is `yes`",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(expected) && error.contains("\nhint: "), "{text}: {error}");
            // The same with the line ends of RFC 4180, CR LF.
            assert_eq!(self::error(&text.replace('\n', "\r\n")), error);
        }
    }
}
