//! Writes the state of a job on a separate thread, while training continues.

use super::job::JobDir;
use crate::checkpoint::TensorFile;
use crate::train::error::TrainError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Writes states on a background thread, one at a time.
///
/// Dropping this value waits until a running write is finished.
pub(super) struct StateWriter {
    dir: JobDir,
    /// Time between two saves; `None` saves only at the end of each epoch.
    every: Option<Duration>,
    /// Start time of the last save. Before the first save, start time of the job.
    last: Instant,
    running: Option<JoinHandle<Result<(), TrainError>>>,
}

impl StateWriter {
    pub(super) fn new(dir: JobDir, every: Option<Duration>) -> Self {
        Self { dir, every, last: Instant::now(), running: None }
    }

    /// Returns whether a save within the epoch is due.
    ///
    /// A save is due if the time `every` has passed since the last save. While a write is running, no save is due.
    /// Fails if the last write failed.
    pub(super) fn is_due(&mut self) -> Result<bool, TrainError> {
        if self.running.as_ref().is_some_and(|write| !write.is_finished()) {
            return Ok(false);
        }
        self.wait()?;
        Ok(self.every.is_some_and(|every| self.last.elapsed() >= every))
    }

    /// Waits for a running write, and then starts to write `state`.
    ///
    /// Keeps the existing state file as `previous-resume.safetensors`. Fails if the last write failed.
    pub(super) fn start(&mut self, state: TensorFile) -> Result<(), TrainError> {
        self.wait()?;
        self.last = Instant::now();
        let dir = self.dir.clone();
        self.running = Some(thread::spawn(move || {
            // Serializing, hashing and flushing a large model take long, and do not need the device.
            dir.keep_previous_state()?;
            Ok(state.write(&dir.resume_file())?)
        }));
        Ok(())
    }

    /// Waits for a running write. Fails if the write failed.
    pub(super) fn wait(&mut self) -> Result<(), TrainError> {
        match self.running.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            Some(Ok(written)) => written,
            None => Ok(()),
        }
    }

    /// Waits for a running write, and ignores its error.
    ///
    /// Without this wait, the write could continue after the run has unlocked its folder.
    pub(super) fn settle(&mut self) {
        if let Some(write) = self.running.take() {
            let _ = write.join();
        }
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::StateWriter;
    use crate::checkpoint::{Meta, TensorFile};
    use crate::train::step::job::JobDir;
    use std::path::Path;
    use std::time::Duration;

    pub(in crate::train::step) fn job(path: &Path) -> JobDir {
        let meta = Meta {
            stage: "pretrain".to_owned(),
            epoch: 0,
            from: String::new(),
            num_classes: 10,
            class_names: Vec::new(),
            recipe: String::new(),
        };
        JobDir { name: "pretrain".to_owned(), path: path.to_owned(), meta }
    }

    fn state(note: &str) -> TensorFile {
        TensorFile { note: note.to_owned(), ..TensorFile::default() }
    }

    #[test]
    fn the_last_two_states_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StateWriter::new(job(dir.path()), None);
        for update in ["1", "2", "3"] {
            writer.start(state(update)).unwrap();
        }
        writer.wait().unwrap();
        let note = |name: &str| TensorFile::read(&dir.path().join(name)).unwrap().note;
        assert_eq!(note("resume.safetensors"), "3");
        assert_eq!(note("previous-resume.safetensors"), "2");
    }

    #[test]
    fn the_run_gets_the_error_of_a_write_in_the_background() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("job");
        crate::durable::write(&folder, b"a file in the place of the folder").unwrap();
        let mut writer = StateWriter::new(job(&folder), Some(Duration::ZERO));
        writer.start(state("1")).unwrap();
        let error = writer.start(state("2")).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write") && error.contains("resume.safetensors"),
            "{error}"
        );
        writer.start(state("3")).unwrap();
        while !writer.running.as_ref().unwrap().is_finished() {
            std::thread::yield_now();
        }
        assert!(writer.is_due().is_err());
        assert!(writer.is_due().unwrap(), "an error is returned once");
    }

    #[test]
    fn saves_are_due_after_the_interval_or_never() {
        let dir = tempfile::tempdir().unwrap();
        let due = |every| StateWriter::new(job(dir.path()), every).is_due().unwrap();
        assert!(due(Some(Duration::ZERO)));
        assert!(!due(Some(Duration::MAX)) && !due(None));
    }
}
