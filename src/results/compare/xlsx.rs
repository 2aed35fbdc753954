//! Writes a comparison as an Excel workbook with charts.

use super::charts;
use super::comparison::Comparison;
use super::curve::{Curve, CurvePoint};
use super::error::CompareError;
use super::sheet::{self, Sheet};
use crate::durable;
use crate::shape::StageKind;
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};
use std::path::Path;

/// Excel's limit for the name of a sheet, in characters.
const LONGEST_NAME: usize = 31;
const WIDEST: u32 = 320;

pub(super) fn write(path: &Path, comparison: &Comparison) -> Result<(), CompareError> {
    let bytes = workbook(comparison).map_err(|error| CompareError::Output {
        path: path.to_owned(),
        problem: format!("the comparison does not fit in an Excel workbook: {error}"),
        hint: "compare fewer runs, or use `--csv`",
    })?;
    durable::write_output(path, &bytes)
        .map_err(|source| CompareError::Io { path: path.into(), source })
}

fn workbook(comparison: &Comparison) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let summary = sheet::summary(comparison);
    let page = add(&mut book, "summary", &summary, 1)?;
    charts::accuracy(page, &summary, comparison)?;
    add(&mut book, "recipe differences", &sheet::differences(comparison), 1)?;
    if let Some(groups) = sheet::groups(comparison) {
        add(&mut book, "groups", &groups, 1)?;
    }
    for (index, run) in comparison.runs.iter().enumerate() {
        let jobs = |pretrain: bool| {
            let of = move |curve: &&Curve| (curve.stage == StageKind::Pretrain) == pretrain;
            run.curves.iter().filter(of).collect::<Vec<&Curve>>()
        };
        for (kind, curves) in [("pretrain", jobs(true)), ("jobs", jobs(false))] {
            if !curves.is_empty() {
                let name = name(index + 1, kind, &run.label);
                let sheet = epochs(&curves);
                let page = add(&mut book, &name, &sheet, 0)?;
                charts::epochs(page, &name, &sheet, &curves)?;
            }
        }
    }
    book.save_to_buffer()
}

/// Returns a sheet name that Excel allows, such as `2 jobs quickstart`.
fn name(number: usize, kind: &str, label: &str) -> String {
    let start = format!("{number} {kind} ");
    let allowed = |c: char| if "[]:*?/\\'".contains(c) || c.is_control() { '_' } else { c };
    let label: Vec<char> = label.chars().map(allowed).collect();
    // Excel counts UTF-16 units; some characters need two.
    let mut from = label.len();
    let mut left = LONGEST_NAME - start.len();
    while from > 0 && label[from - 1].len_utf16() <= left {
        from -= 1;
        left -= label[from].len_utf16();
    }
    format!("{start}{}", label[from..].iter().collect::<String>()).trim_end().to_owned()
}

fn epochs(curves: &[&Curve]) -> Sheet {
    type Get = fn(&CurvePoint) -> Option<f64>;
    let columns: [(&str, Get); 11] = [
        ("lr", |point| point.lr),
        ("train_loss", |point| point.train_loss),
        ("val_loss", |point| point.val_loss),
        ("val_acc1", |point| point.val_acc1),
        ("val_acc5", |point| point.val_acc5),
        ("best_acc1", |point| point.best_acc1),
        ("best_epoch", |point| point.best_epoch),
        ("grad_norm", |point| point.grad_norm),
        ("images_per_s", |point| point.images_per_s),
        ("seconds", |point| point.seconds),
        ("data_wait_s", |point| point.data_wait_s),
    ];
    let points = || curves.iter().flat_map(|curve| curve.points.iter().map(move |p| (curve, p)));
    let there: Vec<_> =
        columns.into_iter().filter(|(_, get)| points().any(|(_, p)| get(p).is_some())).collect();
    let mut header = vec!["run".to_owned(), "epoch".to_owned()];
    header.extend(there.iter().map(|(head, _)| (*head).to_owned()));
    let rows = points().map(|(curve, point)| {
        let values =
            there.iter().map(|(_, get)| get(point).map_or_else(String::new, |v| v.to_string()));
        [curve.dir.clone(), point.epoch.to_string()].into_iter().chain(values).collect()
    });
    Sheet { rows: rows.collect(), header }
}

/// Adds a worksheet whose header and first `columns` columns do not scroll.
fn add<'a>(
    book: &'a mut Workbook,
    name: &str,
    sheet: &Sheet,
    columns: u16,
) -> Result<&'a mut Worksheet, XlsxError> {
    let bold = Format::new().set_bold();
    // At least two decimals, at most four: 83.50, 83.664.
    let percent = Format::new().set_num_format("0.00##");
    let page = book.add_worksheet().set_name(name)?;
    for (column, head) in sheet.header.iter().enumerate() {
        page.write_string_with_format(0, column as u16, head, &bold)?;
    }
    for (index, row) in sheet.rows.iter().enumerate() {
        for (column, text) in row.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let (y, x, head) = (index as u32 + 1, column as u16, sheet.header[column].as_str());
            match sheet.number(index, column) {
                Some(number) if is_percent(head) => {
                    page.write_number_with_format(y, x, number, &percent)?
                }
                Some(number) => page.write_number(y, x, number)?,
                None => page.write_string(y, x, text)?,
            };
        }
    }
    page.set_freeze_panes(1, columns)?;
    if !sheet.rows.is_empty() {
        page.autofilter(0, 0, sheet.rows.len() as u32, sheet.header.len() as u16 - 1)?;
    }
    page.set_autofit_max_width(WIDEST).autofit();
    page.set_landscape().set_print_fit_to_pages(1, 0);
    Ok(page)
}

fn is_percent(head: &str) -> bool {
    let accuracy = head.contains("_top1") || head.contains("_top5") || head.contains("_acc");
    accuracy && !head.ends_with("_runs")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn sheet_names_are_allowed_in_excel() {
        assert_eq!(name(2, "jobs", "quickstart"), "2 jobs quickstart");
        let long = name(12, "pretrain", "demo/pretrain.mask_ratio=0.5,seed=[0]");
        assert!(long.chars().count() == 31 && long.ends_with("seed=_0_"), "{long}");
        assert!(name(1, "jobs", &"\u{1f9ea}".repeat(40)).encode_utf16().count() <= 31);
    }
}
