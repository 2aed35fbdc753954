//! Saves states and TensorBoard events on rank 0.
//!
//! During an update, [`Saves`] keeps a clone of the state before the update. The user may stop the run while an update
//! takes long. Another thread can then save the clone. Cloned tensors share their memory, so the clone copies no
//! values.

use super::rows::{OnNanRule, UnreadLosses};
use super::state::{Progress, TrainingState};
use super::state_writer::StateWriter;
use crate::infer::{DeviceError, LastUpdate, StopFlag};
use crate::results::{EpochRow, TensorBoard};
use crate::train::devices::Wire;
use crate::train::error::TrainError;
use burn::module::Module;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What all ranks of a job do after the backward pass of an update.
///
/// If the ranks want different actions, all ranks take the action that is last in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopRequest {
    Continue,
    /// Finish this update, save the state, and stop.
    AfterUpdate,
    /// Discard this update and stop. Another thread has already saved the state.
    SavedLate,
}

impl Wire for StopRequest {
    fn to_words(&self) -> Vec<u64> {
        vec![*self as u64]
    }

    fn from_words(words: &[u64]) -> Self {
        match words[0] {
            0 => Self::Continue,
            1 => Self::AfterUpdate,
            _ => Self::SavedLate,
        }
    }
}

/// The state after a complete update. Its latest losses are still on the device.
struct WholeUpdate<M> {
    state: TrainingState<M>,
    unread: UnreadLosses,
}

/// Whether a thread other than the job's thread can save the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Training,
    /// Another thread has saved the state. The job must not continue.
    SavedLate,
    /// Only the job's own thread may save the state.
    Closed,
}

struct Shared<M> {
    job: String,
    writer: StateWriter,
    board: TensorBoard,
    on_nan: OnNanRule,
    /// The state that another thread can save; `None` while the job changes the state.
    last: Option<WholeUpdate<M>>,
    phase: Phase,
    /// Why another thread could not save the state.
    failed: Option<TrainError>,
}

struct Inner<M> {
    shared: Mutex<Shared<M>>,
    changed: Condvar,
}

/// Saves the states and the TensorBoard events of a job.
///
/// Dropping this value waits until a running write is finished.
pub(super) struct Saves<M>(Arc<Inner<M>>);

impl<M: Module + 'static> Saves<M> {
    /// Registers with `stop`, so that another thread can save the state of `job`.
    pub(super) fn new(
        job: &str,
        writer: StateWriter,
        board: TensorBoard,
        on_nan: OnNanRule,
        stop: &StopFlag,
    ) -> Self {
        let (job, phase) = (job.to_owned(), Phase::Training);
        let (last, failed) = (None, None);
        let shared = Mutex::new(Shared { job, writer, board, on_nan, last, phase, failed });
        let inner = Arc::new(Inner { shared, changed: Condvar::new() });
        let weak = Arc::downgrade(&inner);
        stop.register(weak);
        Self(inner)
    }

    /// Returns whether it is time to save the state within the epoch.
    pub(super) fn is_due(&self) -> Result<bool, TrainError> {
        self.0.lock().writer.is_due()
    }

    /// Copies `state` from the device, and writes the copy in the background.
    pub(super) fn start(&self, state: &TrainingState<M>) -> Result<(), TrainError> {
        self.0.lock().start(state)
    }

    /// Waits until the last started save is on the disk.
    pub(super) fn wait(&self) -> Result<(), TrainError> {
        self.0.lock().writer.wait()
    }

    /// Allows other threads to save `state`. Call this after a complete update.
    pub(super) fn end_update(&self, state: &TrainingState<M>, unread: &UnreadLosses) {
        let last = WholeUpdate { state: state.clone(), unread: unread.clone() };
        self.0.lock().last = Some(last);
        self.0.changed.notify_all();
    }

    /// Prevents other threads from saving the state. Call this before the job changes the state.
    ///
    /// Returns false if another thread has already saved the state. The job must then end.
    pub(super) fn begin_update(&self) -> Result<bool, TrainError> {
        let mut shared = self.0.lock();
        shared.last = None;
        match shared.failed.take() {
            Some(error) => Err(error),
            None => Ok(shared.phase != Phase::SavedLate),
        }
    }

    /// Prevents other threads from saving the state until the job ends.
    ///
    /// Returns false if another thread has already saved the state.
    pub(super) fn close(&self) -> Result<bool, TrainError> {
        let is_left = self.begin_update()?;
        self.0.lock().phase = Phase::Closed;
        self.0.changed.notify_all();
        Ok(is_left)
    }

    /// Adds `(loss, learning rate)` of consecutive updates to TensorBoard.
    ///
    /// `first` is the number of the first of these updates.
    pub(super) fn board_updates(
        &self,
        epoch: usize,
        first: usize,
        updates: &[(f64, f64)],
    ) -> Result<(), TrainError> {
        Ok(self.0.lock().board.updates(epoch, first, updates)?)
    }

    /// Adds the last row of `rows` to TensorBoard.
    pub(super) fn board_epoch(&self, rows: &[EpochRow]) -> Result<(), TrainError> {
        Ok(self.0.lock().board.epoch(rows)?)
    }
}

impl<M> Drop for Saves<M> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.phase = Phase::Closed;
        shared.writer.settle();
        drop(shared);
        self.0.changed.notify_all();
    }
}

impl<M> Inner<M> {
    fn lock(&self) -> MutexGuard<'_, Shared<M>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Module> Shared<M> {
    fn start(&mut self, state: &TrainingState<M>) -> Result<(), TrainError> {
        self.board.flush()?;
        self.writer.start(state.to_host()?)
    }

    fn save_now(
        &mut self,
        WholeUpdate { mut state, mut unread }: WholeUpdate<M>,
    ) -> Result<(), TrainError> {
        let Progress { epoch, sums, .. } = state.progress;
        let (updates, skipped) = unread.read_into(&mut state.progress, &self.job, self.on_nan)?;
        state.optimizer.settle(skipped);
        self.board.updates(epoch, sums.updates + 1, &updates)?;
        self.start(&state)?;
        self.writer.wait()
    }
}

impl<M: Module + 'static> LastUpdate for Inner<M> {
    /// Saves the state after the last complete update. Waits only while the job changes or saves the state.
    fn save(&self) -> Result<bool, String> {
        let is_replaced = |shared: &mut Shared<M>| {
            shared.phase == Phase::Training && shared.failed.is_none() && shared.last.is_none()
        };
        let shared = self.changed.wait_while(self.lock(), is_replaced);
        let mut shared = shared.unwrap_or_else(PoisonError::into_inner);
        if shared.phase != Phase::Training {
            return Ok(false);
        }
        let Some(last) = shared.last.take() else { return Ok(false) };
        let saved = DeviceError::catch(|| shared.save_now(last)).map_err(TrainError::from);
        match saved.and_then(|saved| saved) {
            Ok(()) => {
                shared.phase = Phase::SavedLate;
                Ok(true)
            }
            Err(error) => {
                let text = error.to_string();
                shared.failed = Some(error);
                Err(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OnNanRule, Saves, StateWriter, TrainingState, UnreadLosses};
    use crate::infer::StopFlag;
    use crate::model::ProbeHead;
    use crate::optim::{Optimizer, Rule};
    use crate::results::{EpochSteps, TensorBoard};
    use crate::shape::{Precision, StageKind};
    use crate::train::step::state_writer::tests::job;
    use burn::tensor::Device;
    use std::path::Path;

    fn after_update(path: &Path, stop: &StopFlag) -> Saves<ProbeHead> {
        let head = ProbeHead::zeros(4, 2, Precision::Fp32, &Device::flex());
        let optimizer = Optimizer::new(Rule::Lars { momentum: 0.9 }, Vec::new(), Vec::new());
        let steps = EpochSteps { accum_iter: 1, micro_steps: 1 };
        let board = TensorBoard::open(path, StageKind::Linprobe, 0, steps, (1, 0)).unwrap();
        let rule = OnNanRule { skip_limit: None, updates_per_epoch: 9, rate: "blr" };
        let saves = Saves::new("linprobe", StateWriter::new(job(path), None), board, rule, stop);
        saves.end_update(&TrainingState::start(head, optimizer), &UnreadLosses::default());
        saves
    }

    #[test]
    fn others_save_a_job_until_it_saves_itself() {
        let (dir, stop) = (tempfile::tempdir().unwrap(), StopFlag::default());
        assert_eq!(stop.save_last_updates(), Ok(false), "no job is in training");
        let own = after_update(dir.path(), &stop);
        assert!(own.close().unwrap());
        assert_eq!(stop.save_last_updates(), Ok(false));
        assert!(!dir.path().join("resume.safetensors").exists());
        drop(own);
        let late = after_update(dir.path(), &stop);
        assert_eq!(stop.save_last_updates(), Ok(true));
        assert!(dir.path().join("resume.safetensors").exists());
        assert!(!late.begin_update().unwrap(), "the job must not update a state that is saved");
        assert!(!late.close().unwrap(), "the job must not save again");
    }

    #[test]
    fn a_job_that_others_cannot_save_fails_with_their_error() {
        let (dir, stop) = (tempfile::tempdir().unwrap(), StopFlag::default());
        crate::durable::write(&dir.path().join("resume.safetensors"), b"a state").unwrap();
        let in_the_way = dir.path().join("previous-resume.safetensors/x");
        crate::durable::write(&in_the_way, b"a folder in place of a file").unwrap();
        let job = after_update(dir.path(), &stop);
        let told = stop.save_last_updates().unwrap_err();
        assert_eq!(job.begin_update().unwrap_err().to_string(), told);
    }
}
