//! The stop flag. Ctrl-C sets the flag. Loops check the flag between steps.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A training job whose state any thread can save, even while the job computes its next update.
pub trait LastUpdate: Send + Sync {
    /// Saves the state after the last complete update, and ends the job.
    ///
    /// Returns false if the job saves its state itself.
    fn save(&self) -> Result<bool, String>;
}

/// Tells a run to stop. Clones share the flag.
#[derive(Clone, Default)]
pub struct StopFlag {
    shared: Arc<Shared>,
    /// Whether only a part of the run stops; see [`StopFlag::of_part`].
    part: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    requested: AtomicBool,
    jobs: Mutex<Vec<Weak<dyn LastUpdate>>>,
}

impl StopFlag {
    /// Sets the flag. Returns whether the flag was already set.
    pub fn request(&self) -> bool {
        self.shared.requested.swap(true, Ordering::SeqCst)
    }

    pub fn requested(&self) -> bool {
        self.shared.requested.load(Ordering::SeqCst) || self.part.load(Ordering::SeqCst)
    }

    /// Returns a flag for a part of the run. It is set if the run stops, or after its own [`StopFlag::stop_part`].
    #[must_use]
    pub fn of_part(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), part: Arc::default() }
    }

    /// Stops only the part of the run that has this flag.
    pub fn stop_part(&self) {
        self.part.store(true, Ordering::SeqCst);
    }

    /// Registers a job for [`StopFlag::save_last_updates`], until the job is dropped.
    pub fn register(&self, job: Weak<dyn LastUpdate>) {
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|job| job.strong_count() > 0);
        jobs.push(job);
    }

    /// Saves the last complete update of every training job, and ends these jobs.
    ///
    /// Does not wait for updates in progress. Returns true if all jobs are saved. Returns false if a job saves its
    /// state itself, or if no job is training.
    pub fn save_last_updates(&self) -> Result<bool, String> {
        let jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let jobs: Vec<_> = jobs.iter().filter_map(Weak::upgrade).collect();
        let mut all = !jobs.is_empty();
        for job in jobs {
            all &= job.save()?;
        }
        Ok(all)
    }
}

impl fmt::Debug for StopFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopFlag").field(&self.requested()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::StopFlag;

    #[test]
    fn a_part_stops_with_the_run_but_not_the_run_with_a_part() {
        let run = StopFlag::default();
        let [first, second] = [(); 2].map(|()| run.of_part());
        first.clone().stop_part();
        assert!(first.requested() && !second.requested() && !run.requested());
        second.request();
        assert!(run.requested() && run.of_part().requested());
    }
}
