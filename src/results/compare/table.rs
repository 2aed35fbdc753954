//! Reads a CSV table as runs: one with the columns of `accuracy.csv`, or one with those of `epochs.csv`.

use super::curve::CurvePoint;
use super::error::CompareError;
use super::log::Epochs;
use super::run::{ComparisonRow, Run, RunOrigin};
use super::spreadsheet::{CsvRow, CsvTable};
use crate::recipe::{self, KNN_COLUMN};
use crate::results::AccuracyRow;
use crate::results::accuracy::{COLUMNS, VAL_SKIPPED, is_measure};

/// Columns that only published tables have.
const ORIGIN: [&str; 4] = ["model", "variant", "value", "source"];
/// Columns that every `epochs.csv` has.
const EPOCHS: [&str; 2] = ["epoch", "train_loss"];
const HINT: &str = "use the columns of `accuracy.csv`. The table needs the column `pretrain_epoch` and at least one of the columns `finetune_top1` and `linprobe_top1`";

/// Reads a CSV table as runs.
///
/// A table with the columns of `epochs.csv` is one run. In a table with the columns of `accuracy.csv`, rows with the
/// same settings are one run. Settings are the columns before `pretrain_epoch`. A second row with the same pre-training
/// epoch starts another run.
pub(super) fn read_table(name: &str, place: &str, text: &str) -> Result<Vec<Run>, CompareError> {
    let read = || {
        let table = CsvTable::read(text, &["pretrain_epoch", "epoch"])?;
        if !table.has("pretrain_epoch") && EPOCHS.iter().all(|column| table.has(column)) {
            return read_epochs(&table)?.into_run(name, place).map(|run| vec![run]);
        }
        read_accuracy(name, place, &table)
    };
    read().map_err(|problem| CompareError::Table { place: place.to_owned(), problem, hint: HINT })
}

fn read_accuracy(name: &str, place: &str, table: &CsvTable) -> Result<Vec<Run>, String> {
    let (settings, measures) = check_header(table.header())?;
    let mut runs: Vec<Run> = Vec::new();
    for row in table.rows() {
        let cell = |column: &str| table.cell(row, column).to_owned();
        let mut cells = AccuracyRow::from_cells(|column| whole(column, table.cell(row, column)));
        cells.measures = measures.iter().map(|name| (name.clone(), cell(name))).collect();
        let skipped = || whole(VAL_SKIPPED, table.cell(row, VAL_SKIPPED));
        cells.val_skipped = table.has(VAL_SKIPPED).then(skipped);
        let line = row.line;
        let read = ComparisonRow::of(cells, cell("source"));
        let read = read.map_err(|problem| format!("line {line}: {problem}"))?;
        let settings = settings.iter().map(|key| (key.clone(), cell(key))).collect();
        add(&mut runs, one_row(name, place, settings, origin(table, row)), read);
    }
    if runs.is_empty() {
        return Err("the table has no rows".to_owned());
    }
    runs.iter_mut().for_each(Run::sort_rows);
    Ok(runs)
}

/// Changes `800.0` to `800` in columns of whole numbers. Some programs write whole numbers as floats.
fn whole(column: &str, cell: &str) -> String {
    let whole = column.ends_with("epoch") || ["annealed", VAL_SKIPPED].contains(&column);
    match cell.split_once('.') {
        Some((number, decimals)) if whole && decimals.bytes().all(|digit| digit == b'0') => {
            number.to_owned()
        }
        _ => cell.to_owned(),
    }
}

fn read_epochs(table: &CsvTable) -> Result<Epochs, String> {
    let mut epochs = Epochs { evaluated: table.has("val_acc1"), ..Epochs::default() };
    for row in table.rows() {
        let refuse = |column: &str, what: &str| {
            format!(
                "line {}: `{column}` is `{}`, expected {what}",
                row.line,
                table.cell(row, column)
            )
        };
        let number = |column: &str| match table.cell(row, column) {
            "" => Ok(None),
            cell => match cell.parse::<f64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(refuse(column, "a number")),
            },
        };
        let finite = |column: &str| Ok::<_, String>(number(column)?.filter(|n| n.is_finite()));
        let epoch = whole("epoch", table.cell(row, "epoch"));
        let epoch = epoch.parse().map_err(|_| refuse("epoch", "a whole number"))?;
        if number("train_loss")?.is_some_and(|loss| !loss.is_finite()) {
            epochs.not_finite.get_or_insert(epoch);
        }
        epochs.add(CurvePoint {
            epoch,
            lr: finite("lr")?,
            train_loss: finite("train_loss")?,
            val_loss: finite("val_loss")?,
            val_acc1: finite("val_acc1")?,
            val_acc5: finite("val_acc5")?,
            best_acc1: finite("best_acc1")?,
            best_epoch: finite("best_epoch")?,
            grad_norm: finite("grad_norm")?,
            images_per_s: finite("images_per_s")?,
            seconds: finite("seconds")?,
            data_wait_s: finite("data_wait_s")?,
        });
    }
    Ok(epochs)
}

/// Returns the columns with settings, and the accuracy columns of `[knn]` and `[robustness]`.
fn check_header(header: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
    let place = |column: &str| header.iter().position(|head| head == column);
    let Some(epoch) = place("pretrain_epoch") else {
        return Err("the column `pretrain_epoch` is missing".to_owned());
    };
    let has_measure = header.iter().skip(epoch).any(|head| is_measure(head));
    if place("finetune_top1").is_none() && place("linprobe_top1").is_none() && !has_measure {
        return Err("the columns `finetune_top1` and `linprobe_top1` are both missing".to_owned());
    }
    let (mut settings, mut measures) = (Vec::new(), Vec::new());
    for (index, head) in header.iter().enumerate() {
        let head = head.as_str();
        let is_known = COLUMNS.contains(&head) || ORIGIN.contains(&head) || head == VAL_SKIPPED;
        if head.is_empty() || is_known {
            continue;
        }
        if index > epoch {
            let near = recipe::nearest(head, COLUMNS.into_iter().chain(ORIGIN));
            if is_measure(head) && (near.is_none() || head == KNN_COLUMN) {
                measures.push(head.to_owned());
                continue;
            }
            let near = near.map_or_else(String::new, |near| format!(". Did you mean `{near}`?"));
            return Err(format!("unknown column `{head}`{near}"));
        }
        settings.push(head.to_owned());
    }
    Ok((settings, measures))
}

fn origin(table: &CsvTable, row: &CsvRow) -> Option<RunOrigin> {
    let cell = |column: &str| table.cell(row, column).to_owned();
    let origin =
        || RunOrigin { model: cell("model"), variant: cell("variant"), value: cell("value") };
    ORIGIN.iter().any(|column| table.has(column)).then(origin)
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

/// Adds `row` to a run with the name and series of `new` that lacks a row with this key.
///
/// Without such a run, adds `new` with this row.
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
    fn tables_that_spreadsheets_saved_have_the_same_results() {
        let saved = "pretrain.mask_ratio;pretrain_epoch;annealed;finetune_top1;finetune_run;\r\n\
            0,75;800.0;1.0;83,1;\"finetune/from-0800\";\r\n;;;;;\r\n";
        let runs = read_table("t", "t.csv", saved).unwrap();
        let row = &runs[0].rows[0];
        assert_eq!((row.key.epoch, row.finetune), (Some(800), Some(83.1)));
        assert_eq!(
            (row.key.annealed, runs[0].name.as_str()),
            (Some(true), "t/pretrain.mask_ratio=0.75")
        );
        let epochs =
            "epoch;lr;train_loss;val_loss;val_acc1\n1;1,5E-04;2,5;1,0;80,25\n2;1,5E-04;NaN;;\n";
        let runs = read_table("t", "linprobe/epochs.csv", epochs).unwrap();
        assert_eq!(
            (runs[0].rows[0].linprobe, runs[0].curves[0].points[0].lr),
            (Some(80.25), Some(1.5e-4))
        );
        assert_eq!(runs[0].remarks.len(), 2);
    }

    #[test]
    fn errors_in_a_table_name_the_line() {
        for (text, expected) in [
            ("", "t.csv: this is not an accuracy table: the column `pretrain_epoch` is missing"),
            ("pretrain_epoch,finetune_top1\n", "t.csv: the table has no rows"),
            ("pretrain_epoch,pretrain_loss\n8,1\n", "t.csv: the columns `finetune_top1`"),
            ("pretrain_epoch,finetune_top1,linprobe_top\n", "Did you mean `linprobe_top1`?"),
            (
                "pretrain_epoch,finetune_top1\n8,1\n9\n",
                "t.csv: line 3: found 1 cells, but the header has 2 cells",
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
            ("epoch,train_loss\n1,0.5\n2,x\n", "t.csv: line 3: `train_loss` is `x`"),
            ("epoch,train_loss\n0.5,0.5\n", "t.csv: line 2: `epoch` is `0.5`"),
            ("epoch,train_loss\n", "t.csv: the log contains no epochs"),
        ] {
            let error = error(text);
            assert!(error.contains(expected) && error.contains("\nhint: "), "{text}: {error}");
            // The same with the line ends of RFC 4180, CR LF.
            assert_eq!(self::error(&text.replace('\n', "\r\n")), error);
        }
    }
}
