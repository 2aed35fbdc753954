//! Reads `log.txt` of the official PyTorch code and its Paddle port: one JSON object per epoch.

use super::curve::{Curve, CurvePoint};
use super::error::CompareError;
use super::run::{ComparisonRow, Run};
use crate::results::{AccuracyRow, JobCells};
use crate::shape::StageKind;
use serde_json::Value;

const HINT: &str = "use a log of the official code. Each line must be a JSON object with the key `epoch` and at least one of the keys `test_acc1` and `train_loss`";
/// A log belongs to a linear probe if its path contains one of these words.
const PROBE: [&str; 2] = ["linprobe", "linear_probe"];

/// The epochs of one training, read from a log or from `epochs.csv`.
#[derive(Default)]
pub(super) struct Epochs {
    pub(super) points: Vec<CurvePoint>,
    /// Whether any epoch has a validation result, including NaN.
    pub(super) evaluated: bool,
    /// The first epoch whose training loss is NaN or infinite.
    pub(super) not_finite: Option<usize>,
    /// Notes to the user, such as `line 3 is incomplete`.
    pub(super) remarks: Vec<String>,
}

/// Reads a `log.txt` of the official code as a run with one row.
///
/// A log without accuracies is a pre-training. A log with accuracies is a linear probe if its path contains `linprobe`,
/// otherwise a fine-tuning.
pub(super) fn read_log(name: &str, place: &str, text: &str) -> Result<Run, CompareError> {
    let mut epochs = Epochs::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        // A process that was killed wrote only part of a line. A resumed run continues on the same line.
        let whole = match line.rfind('{') {
            Some(start) if start > 0 && parse(line).is_err() => &line[start..],
            _ => line,
        };
        let refuse = |problem| {
            let place = format!("{place}:{}", index + 1);
            CompareError::Table { place, problem, hint: HINT }
        };
        if whole.len() < line.len() || line.starts_with('{') && !line.ends_with('}') {
            epochs.remarks.push(format!("line {} is incomplete", index + 1));
        }
        if line.starts_with('{') && !whole.ends_with('}') {
            continue;
        }
        let value = parse(whole).map_err(refuse)?;
        epochs.evaluated |= ["test_loss", "test_acc1"].iter().any(|key| value.get(key).is_some());
        let point = point(&value).map_err(refuse)?;
        if value.get("train_loss").is_some_and(Value::is_null) {
            epochs.not_finite.get_or_insert(point.epoch);
        }
        epochs.add(point);
    }
    let refuse = |problem| CompareError::Table { place: place.to_owned(), problem, hint: HINT };
    epochs.into_run(name, place).map_err(refuse)
}

impl Epochs {
    /// Adds an epoch. Removes older results of this epoch and of later epochs.
    ///
    /// A resumed run writes some epochs twice.
    pub(super) fn add(&mut self, point: CurvePoint) {
        self.points.retain(|old| old.epoch < point.epoch);
        self.points.push(point);
    }

    /// Returns a run with one row. `place` is the path of the log or table.
    ///
    /// On failure, returns a description of the problem.
    pub(super) fn into_run(mut self, name: &str, place: &str) -> Result<Run, String> {
        let stage = match self.evaluated {
            false => StageKind::Pretrain,
            true if PROBE.iter().any(|word| place.contains(word)) => StageKind::Linprobe,
            true => StageKind::Finetune,
        };
        let end = self.points.last().ok_or("the log contains no epochs")?.epoch;
        let evaluated = self.points.iter().rfind(|point| point.val_acc1.is_some());
        if let Some(last) = evaluated.filter(|last| last.epoch < end) {
            self.remarks.push(format!("the last accuracy is from epoch {} of {end}", last.epoch));
        }
        if let Some(first) = self.not_finite {
            self.remarks.push(format!("the training loss is NaN or infinite in epoch {first}"));
        }
        let row = ComparisonRow::of(row(stage, &self.points), String::new())?;
        let curve = Curve { stage, dir: stage.to_string(), points: self.points };
        Ok(Run {
            name: name.to_owned(),
            label: name.to_owned(),
            place: place.to_owned(),
            rows: vec![row],
            curves: vec![curve],
            remarks: self.remarks,
            ..Run::default()
        })
    }
}

/// Parses a line of JSON. Replaces NaN and infinity, which JSON does not allow, by null.
fn parse(line: &str) -> Result<Value, String> {
    let mut json = line.to_owned();
    for word in ["-Infinity", "Infinity", "NaN"] {
        for before in [": ", ":"] {
            json = json.replace(&format!("{before}{word}"), ": null");
        }
    }
    serde_json::from_str(&json).map_err(|e| format!("not JSON: {e}"))
}

fn point(value: &Value) -> Result<CurvePoint, String> {
    let number = |key: &str| value[key].as_f64();
    let epoch = value["epoch"].as_u64().ok_or("the line has no key `epoch`")?;
    if value.get("train_loss").is_none() && value.get("test_acc1").is_none() {
        return Err("the line has neither the key `train_loss` nor the key `test_acc1`".to_owned());
    }
    Ok(CurvePoint {
        epoch: epoch as usize + 1,
        lr: number("train_lr"),
        train_loss: number("train_loss"),
        val_loss: number("test_loss"),
        val_acc1: number("test_acc1"),
        val_acc5: number("test_acc5"),
        ..CurvePoint::default()
    })
}

fn row(stage: StageKind, points: &[CurvePoint]) -> AccuracyRow {
    let percent = |value: f64| format!("{value:.2}");
    let evaluated = || points.iter().filter_map(|point| Some((point.val_acc1?, point)));
    let last = evaluated().next_back();
    // Of epochs with the same accuracy, the earliest is the best epoch, as in `accuracy.csv`.
    let best = evaluated().reduce(|best, next| if next.0 > best.0 { next } else { best });
    let cells = JobCells {
        top1: last.map(|(top1, _)| percent(top1)).unwrap_or_default(),
        top5: last.and_then(|(_, point)| point.val_acc5).map(percent).unwrap_or_default(),
        best_top1: best.map(|(top1, _)| percent(top1)).unwrap_or_default(),
        best_epoch: best.map(|(_, point)| point.epoch.to_string()).unwrap_or_default(),
        run: String::new(),
    };
    let mut row = AccuracyRow::default();
    match stage {
        StageKind::Pretrain => {
            let last = points.last();
            row.pretrain_epoch = last.map(|point| point.epoch.to_string()).unwrap_or_default();
            row.pretrain_loss = last
                .and_then(|point| point.train_loss)
                .map(|loss| format!("{loss:.5}"))
                .unwrap_or_default();
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
    fn the_stage_is_known_from_all_lines_and_not_from_the_last() {
        let line = |epoch: usize, test: &str| {
            format!("{{\"train_loss\": 2.5, {test}\"epoch\": {epoch}}}\n")
        };
        let text = [line(3, ""), line(4, "\"test_acc1\": 82.0, "), line(5, "")].concat();
        let run = read_log("log.txt", "log.txt", &text).unwrap();
        assert_eq!((run.rows[0].finetune, run.rows[0].key.epoch), (Some(82.0), None));
        assert_eq!(run.remarks, ["the last accuracy is from epoch 5 of 6"]);
        let text = text.replace("2.5", "NaN").replace("82.0", "NaN");
        let run = read_log("log.txt", "log.txt", &text).unwrap();
        assert_eq!((run.rows[0].finetune, run.rows[0].loss), (None, None));
        assert_eq!(run.curves[0].stage, crate::shape::StageKind::Finetune);
        assert_eq!(run.remarks, ["the training loss is NaN or infinite in epoch 4"]);
    }

    #[test]
    fn incomplete_lines_of_a_killed_run_are_left_out() {
        let line = |epoch: usize| format!("{{\"train_loss\": 0.5, \"epoch\": {epoch}}}");
        let text = [
            &line(0),
            "\n{\"train_loss\": 0.4",
            &line(1),
            "\n{\"train_lo\n",
            &line(2),
            "\n{\"tr\0",
        ];
        let run = read_log("log.txt", "log.txt", &text.concat()).unwrap();
        let epochs: Vec<usize> = run.curves[0].points.iter().map(|point| point.epoch).collect();
        assert_eq!(epochs, [1, 2, 3]);
        assert_eq!(run.remarks, [2, 3, 5].map(|line| format!("line {line} is incomplete")));
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
        assert!(error("\n").contains("the log contains no epochs"));
    }
}
