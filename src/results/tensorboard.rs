//! The `tensorboard/` folder of a job: an event file with the official tags, and `log.txt`.
//!
//! TensorBoard can read the event file during the job. A resumed job continues the same file. The job repeats the
//! updates after the last saved state, so it first removes their events.

mod events;

use super::epochs::EpochRow;
use super::error::RunError;
use crate::durable::{self, AppendedFile};
use crate::shape::StageKind;
use events::TfEvent;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// TensorBoard searches for files with this name prefix.
const EVENTS: &str = "events.out.tfevents.";
/// Length of an epoch on TensorBoard's horizontal axis, as in the official code.
const PER_EPOCH: f64 = 1000.0;

/// Numbers of micro-steps, which determine TensorBoard's horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochSteps {
    /// Number of micro-steps per update.
    pub accum_iter: usize,
    /// Number of micro-steps per epoch.
    pub micro_steps: usize,
}

/// Writes the event file and `log.txt` in the `tensorboard/` folder of a job.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    path: PathBuf,
    file: AppendedFile,
    /// The open `log.txt`; `None` until this process writes its first line.
    log: Option<AppendedFile>,
    steps: EpochSteps,
    loss_tag: &'static str,
    n_parameters: usize,
}

impl TensorBoard {
    /// Opens the folder `tensorboard/` in the job folder `job`.
    ///
    /// The last argument is the epoch and the update after which the job resumes, both counted from 1. Later events are
    /// removed.
    pub fn open(
        job: &Path,
        stage: StageKind,
        n_parameters: usize,
        steps: EpochSteps,
        (epoch, updates): (usize, usize),
    ) -> Result<Self, RunError> {
        let folder = job.join("tensorboard");
        durable::create_folders(&folder).map_err(RunError::io(&folder))?;
        let path = event_file(&folder)?;
        let old = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(RunError::io(&path)(error)),
        };
        let kept = kept(&old, epoch, updates);
        if kept.is_empty() {
            durable::write_unchecked(&path, &TfEvent::version(now()).record())
                .map_err(RunError::io(&path))?;
        } else if kept.len() < old.len() {
            durable::write_unchecked(&path, kept).map_err(RunError::io(&path))?;
        }
        let file = AppendedFile::open(&path).map_err(RunError::io(&path))?;
        let loss_tag = if stage == StageKind::Pretrain { "train_loss" } else { "loss" };
        Ok(Self { folder, path, file, log: None, steps, loss_tag, n_parameters })
    }

    /// Writes the loss and the learning rate of consecutive updates in `epoch`.
    ///
    /// `updates` is a list of (loss, learning rate). `first` is the number of the first update in this list. Epochs and
    /// updates count from 1.
    pub fn updates(
        &mut self,
        epoch: usize,
        first: usize,
        updates: &[(f64, f64)],
    ) -> Result<(), RunError> {
        let EpochSteps { accum_iter, micro_steps } = self.steps;
        // A skipped update has no loss.
        let finite = updates.iter().zip(first..).filter(|((loss, _), _)| loss.is_finite());
        let events = finite.map(|((loss, lr), update)| {
            // The micro-step that ends with this update, counted from 0 as in the official loop.
            let micro_step = update * accum_iter - 1;
            let x = (micro_step as f64 / micro_steps as f64 + (epoch - 1) as f64) * PER_EPOCH;
            TfEvent::scalars(now(), x as i64, &[(self.loss_tag, *loss), ("lr", *lr)])
        });
        let bytes: Vec<u8> = events.flat_map(|event| event.record()).collect();
        self.append(&bytes)
    }

    /// Writes the last epoch to `log.txt`, and the validation results of this epoch to the event file.
    ///
    /// `rows` are all epochs of the job. The first call in a process writes all of `log.txt` again.
    pub fn epoch(&mut self, rows: &[EpochRow]) -> Result<(), RunError> {
        if let Some((row, validation)) = rows.last().and_then(|row| Some((row, row.validation?))) {
            let perf = [
                ("perf/test_acc1", validation.acc1),
                ("perf/test_acc5", validation.acc5),
                ("perf/test_loss", validation.loss),
            ];
            self.append(&TfEvent::scalars(now(), row.epoch as i64 - 1, &perf).record())?;
        }
        self.flush()?;
        let path = self.folder.join("log.txt");
        if let (Some(log), Some(row)) = (&mut self.log, rows.last()) {
            let line = log_line(row, self.n_parameters) + "\n";
            return log.append(line.as_bytes()).map_err(RunError::io(&path));
        }
        // The first epoch of this start rewrites the file, to remove lines of an interrupted start.
        let lines: String =
            rows.iter().map(|row| log_line(row, self.n_parameters) + "\n").collect();
        durable::write_unchecked(&path, lines.as_bytes()).map_err(RunError::io(&path))?;
        let log = AppendedFile::open(&path).map_err(RunError::io(&path))?;
        self.log = Some(log);
        Ok(())
    }

    /// Flushes the event file to the disk.
    pub fn flush(&self) -> Result<(), RunError> {
        self.file.flush().map_err(RunError::io(&self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        // One write call, so that a reader sees whole records.
        self.file.append(bytes).map_err(RunError::io(&self.path))
    }
}

/// Returns the line of an epoch in `log.txt`. Epochs count from 0 there.
fn log_line(row: &EpochRow, n_parameters: usize) -> String {
    let mut line = serde_json::Map::new();
    let mut put = |key: &str, value: f64| line.insert(key.to_owned(), value.into());
    put("train_lr", row.lr);
    put("train_loss", row.train_loss);
    if let Some(validation) = row.validation {
        put("test_loss", validation.loss);
        put("test_acc1", validation.acc1);
        put("test_acc5", validation.acc5);
    }
    line.insert("epoch".to_owned(), (row.epoch - 1).into());
    line.insert("n_parameters".to_owned(), n_parameters.into());
    serde_json::Value::Object(line).to_string()
}

/// Returns the path of the existing event file, or a path for a new file.
fn event_file(folder: &Path) -> Result<PathBuf, RunError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        // A network file system may show a new folder of another host late.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(RunError::io(folder)(error)),
    };
    let names = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut old: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(EVENTS)).collect();
    old.sort();
    let new = || format!("{EVENTS}{}.mae", now() as u64).into();
    Ok(folder.join(old.pop().unwrap_or_else(new)))
}

/// Returns the start of an event file, up to update number `updates` of `epoch`.
fn kept(bytes: &[u8], epoch: usize, updates: usize) -> &[u8] {
    let (done, begin) = (epoch as i64 - 1, (epoch as f64 - 1.0) * PER_EPOCH);
    let (mut end, mut of_this_epoch) = (0, 0);
    for (event, next) in events::read(bytes) {
        let keeps = match event.is_of_an_epoch() {
            _ if event.is_version() => true,
            true => event.step < done,
            false if (event.step as f64) < begin => true,
            false => {
                of_this_epoch += 1;
                of_this_epoch <= updates
            }
        };
        if !keeps {
            break;
        }
        end = next;
    }
    &bytes[..end]
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{EpochSteps, TensorBoard, event_file, events};
    use crate::results::{EpochRow, Validation};
    use crate::shape::StageKind;
    use std::path::Path;

    fn open(job: &Path, place: (usize, usize)) -> TensorBoard {
        let steps = EpochSteps { accum_iter: 2, micro_steps: 8 };
        TensorBoard::open(job, StageKind::Finetune, 12, steps, place).unwrap()
    }

    fn row(epoch: usize) -> EpochRow {
        let validation =
            Validation { loss: 0.5, acc1: 50.0, acc5: 99.0, best_acc1: 50.0, best_epoch: 1 };
        EpochRow {
            epoch,
            lr: 0.25,
            train_loss: 1.5,
            grad_norm: 1.0,
            validation: Some(validation),
            images_per_s: 1.0,
            seconds: 1.0,
            data_wait_s: 0.0,
            skipped_updates: None,
            val_skipped: None,
            loss_scale: None,
        }
    }

    fn read(job: &Path) -> Vec<(i64, String, f32)> {
        let file = std::fs::read_dir(job.join("tensorboard")).unwrap();
        let mut files: Vec<_> = file.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "mae"));
        assert_eq!(files.len(), 1);
        let bytes = std::fs::read(&files[0]).unwrap();
        let events: Vec<_> = events::read(&bytes).map(|(event, _)| event).collect();
        events.iter().flat_map(events::TfEvent::values).collect()
    }

    #[test]
    fn updates_use_the_official_axis_and_epochs_count_from_0() {
        let job = tempfile::tempdir().unwrap();
        let mut board = open(job.path(), (1, 0));
        board.updates(1, 1, &[(2.0, 0.1), (1.0, 0.2)]).unwrap();
        board.updates(1, 3, &[(0.5, 0.3), (0.25, 0.4)]).unwrap();
        board.epoch(&[row(1)]).unwrap();
        let losses: Vec<_> =
            read(job.path()).into_iter().filter(|(_, tag, _)| tag == "loss").collect();
        // int((micro_step / 8 + 0) * 1000) for the micro-steps 1, 3, 5 and 7.
        let expected = [(125, 2.0), (375, 1.0), (625, 0.5), (875, 0.25)];
        assert_eq!(losses, expected.map(|(x, loss)| (x, "loss".to_owned(), loss)));
        assert!(read(job.path()).contains(&(0, "perf/test_acc1".to_owned(), 50.0)));
        let log = std::fs::read_to_string(job.path().join("tensorboard/log.txt")).unwrap();
        assert_eq!(
            log,
            "{\"train_lr\":0.25,\"train_loss\":1.5,\"test_loss\":0.5,\"test_acc1\":50.0,\"test_acc5\":99.0,\
             \"epoch\":0,\"n_parameters\":12}\n"
        );
    }

    #[test]
    fn updates_after_the_last_save_are_not_repeated_after_a_kill() {
        let job = tempfile::tempdir().unwrap();
        let all = [(4.0, 0.1), (3.0, 0.1), (2.0, 0.1), (1.0, 0.1)];
        let mut board = open(job.path(), (1, 0));
        board.updates(1, 1, &all).unwrap();
        board.epoch(&[row(1)]).unwrap();
        board.updates(2, 1, &all[..3]).unwrap();
        let mut whole = open(job.path(), (2, 1));
        whole.updates(2, 2, &all[1..]).unwrap();
        whole.epoch(&[row(1), row(2)]).unwrap();
        let resumed = read(job.path());
        let other = tempfile::tempdir().unwrap();
        let mut board = open(other.path(), (1, 0));
        for epoch in [1, 2] {
            board.updates(epoch, 1, &all).unwrap();
            board.epoch(&[row(epoch)]).unwrap();
        }
        assert_eq!(resumed, read(other.path()));
    }

    #[test]
    fn a_folder_that_is_not_visible_yet_has_no_event_file() {
        let job = tempfile::tempdir().unwrap();
        let folder = job.path().join("tensorboard");
        assert_eq!(event_file(&folder).unwrap().parent(), Some(folder.as_path()));
    }

    #[test]
    fn an_incomplete_record_is_removed() {
        let job = tempfile::tempdir().unwrap();
        let mut board = open(job.path(), (1, 0));
        board.updates(1, 1, &[(2.0, 0.1)]).unwrap();
        let whole = read(job.path());
        board.append(&[24, 0, 0]).unwrap();
        drop(open(job.path(), (1, 1)));
        assert_eq!(read(job.path()), whole);
        let mut board = open(job.path(), (1, 1));
        board.updates(1, 2, &[(1.0, 0.1)]).unwrap();
        assert_eq!(read(job.path()).len(), 4);
    }
}
