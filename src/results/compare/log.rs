//! Reads `log.txt` of the official PyTorch code and its Paddle port: one JSON object per epoch.

use super::curve::{Curve, CurvePoint};
use super::error::CompareError;
use super::run::{ComparisonRow, Run};
use crate::results::{AccuracyRow, JobCells};
use crate::shape::StageKind;
use serde_json::Value;

const HINT: &str = "use a log of the official code: one JSON object per line, with `epoch`, and with `test_acc1` or `train_loss`";

/// Reads an official `log.txt` as a run with one row.
///
/// A log with accuracies belongs to fine-tuning, or to linear probing if the path contains `linprobe`. The row has the
/// last and the best top-1. A log without accuracies belongs to pre-training. The row has the last epoch and its loss.
pub(super) fn read_log(name: &str, place: &str, text: &str) -> Result<Run, CompareError> {
    let mut points: Vec<CurvePoint> = Vec::new();
    // A run in progress may have written only part of the last line.
    let whole = text.rfind('\n').map_or(text, |end| match text[end + 1..].trim_end() {
        rest if rest.ends_with('}') => text,
        _ => &text[..end],
    });
    for (index, line) in whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let point = point(line).map_err(|problem| CompareError::Table {
            place: format!("{place}:{}", index + 1),
            problem,
            hint: HINT,
        })?;
        // A resumed run writes the repeated epochs again.
        points.retain(|old| old.epoch < point.epoch);
        points.push(point);
    }
    let Some(last) = points.last() else {
        return Err(CompareError::Table {
            place: place.to_owned(),
            problem: "the log has no epochs".to_owned(),
            hint: HINT,
        });
    };
    let probe = ["linprobe", "linear_probe"].iter().any(|word| place.contains(word));
    let stage = match last.val_acc1 {
        None => StageKind::Pretrain,
        Some(_) if probe => StageKind::Linprobe,
        Some(_) => StageKind::Finetune,
    };
    let row = ComparisonRow::of(row(stage, &points, last), String::new())
        .map_err(|problem| CompareError::Table { place: place.to_owned(), problem, hint: HINT })?;
    let curve = Curve { stage, dir: stage.to_string(), points };
    Ok(Run {
        name: name.to_owned(),
        label: name.to_owned(),
        place: place.to_owned(),
        rows: vec![row],
        curves: vec![curve],
        ..Run::default()
    })
}

fn point(line: &str) -> Result<CurvePoint, String> {
    // Python writes NaN and infinity as words, which JSON does not allow.
    let words = [": NaN", ": Infinity", ": -Infinity"];
    let finite = words.iter().fold(line.to_owned(), |line, word| line.replace(word, ": null"));
    let value: Value = serde_json::from_str(&finite).map_err(|e| format!("not JSON: {e}"))?;
    let number = |key: &str| value[key].as_f64();
    let epoch = value["epoch"].as_u64().ok_or("the line has no `epoch`")?;
    let (train_loss, val_acc1) = (number("train_loss"), number("test_acc1"));
    if train_loss.is_none() && val_acc1.is_none() {
        return Err("the line has neither `train_loss` nor `test_acc1`".to_owned());
    }
    Ok(CurvePoint {
        epoch: epoch as usize + 1,
        lr: number("train_lr"),
        train_loss,
        val_loss: number("test_loss"),
        val_acc1,
        val_acc5: number("test_acc5"),
        ..CurvePoint::default()
    })
}

fn row(stage: StageKind, points: &[CurvePoint], last: &CurvePoint) -> AccuracyRow {
    let percent = |value: f64| format!("{value:.2}");
    // Of epochs with the same accuracy, the earliest is the best epoch, as in `accuracy.csv`.
    let best = points.iter().filter_map(|point| Some((point.val_acc1?, point.epoch)));
    let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let cells = JobCells {
        top1: last.val_acc1.map(percent).unwrap_or_default(),
        top5: last.val_acc5.map(percent).unwrap_or_default(),
        best_top1: best.map(|(top1, _)| percent(top1)).unwrap_or_default(),
        best_epoch: best.map(|(_, epoch)| epoch.to_string()).unwrap_or_default(),
        run: String::new(),
    };
    let mut row = AccuracyRow::default();
    match stage {
        StageKind::Pretrain => {
            row.pretrain_epoch = last.epoch.to_string();
            row.pretrain_loss =
                last.train_loss.map(|loss| format!("{loss:.5}")).unwrap_or_default();
        }
        StageKind::Finetune => row.finetune = cells,
        StageKind::Linprobe => row.linprobe = JobCells { best_epoch: String::new(), ..cells },
    }
    row
}

#[cfg(test)]
mod tests {
    use super::read_log;

    #[test]
    fn the_last_epoch_is_the_result_and_a_resumed_run_replaces_its_epochs() {
        let line = |epoch: usize, acc: f64| {
            format!(
                "{{\"train_lr\": 1e-3, \"train_loss\": 2.5, \"test_loss\": 1.0, \"test_acc1\": {acc}, \
                \"test_acc5\": 97.0, \"epoch\": {epoch}, \"n_parameters\": 86567656}}\n"
            )
        };
        let text = [line(0, 80.0), line(1, 85.0), line(1, 83.7), line(2, 83.664)].concat();
        let run = read_log("log.txt", "a/log.txt", &text).unwrap();
        let cells = &run.rows[0].cells.finetune;
        assert_eq!((run.rows[0].finetune, cells.top5.as_str()), (Some(83.66), "97.00"));
        assert_eq!((cells.best_top1.as_str(), cells.best_epoch.as_str()), ("83.70", "2"));
        assert_eq!(run.curves[0].points.len(), 3);
        let probe = read_log("log.txt", "linprobe/log.txt", &text).unwrap();
        assert_eq!((probe.rows[0].finetune, probe.rows[0].linprobe), (None, Some(83.66)));
    }

    #[test]
    fn a_pretraining_has_an_epoch_and_a_loss() {
        let text = "{\"train_lr\": 0.0, \"train_loss\": 0.41, \"epoch\": 799}\n";
        let run = read_log("log.txt", "log.txt", text).unwrap();
        assert_eq!((run.rows[0].key.epoch, run.rows[0].loss), (Some(800), Some(0.41)));
    }

    #[test]
    fn the_error_names_a_line_that_is_not_json() {
        let error = |text: &str| read_log("l", "l.txt", text).unwrap_err().to_string();
        let good = "{\"train_loss\": 0.41, \"epoch\": 0}\n";
        assert!(
            error(&format!("{good}\n{{\"train_loss\": oops}}\n"))
                .starts_with("cannot read l.txt:3: not JSON")
        );
        assert!(error("{\"epoch\": 1}").starts_with("cannot read l.txt:1: the line has neither"));
        assert!(error("\n").contains("no epochs"));
    }
}
