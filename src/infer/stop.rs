//! The stop flag. Ctrl-C sets the flag, and loops check the flag between steps.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A training job whose state another thread can save before the process stops.
///
/// The saved state is the state after the last completed update. Any thread may call [`LastUpdate::save`], even during
/// the next update.
pub trait LastUpdate: Send + Sync {
    /// Saves the state after the last completed update, and ends the job.
    ///
    /// Returns true if this call saved the state. Returns false if the job saves its state itself.
    fn save(&self) -> Result<bool, String>;
}

/// A flag that stops a run. Clones share the flag.
#[derive(Clone, Default)]
pub struct StopFlag(Arc<Shared>);

#[derive(Default)]
struct Shared {
    requested: AtomicBool,
    jobs: Mutex<Vec<Weak<dyn LastUpdate>>>,
}

impl StopFlag {
    /// Sets the flag. Returns whether the flag was already set.
    pub fn request(&self) -> bool {
        self.0.requested.swap(true, Ordering::SeqCst)
    }

    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Registers a job for [`StopFlag::save_last_updates`].
    ///
    /// Dropping the job also removes the registration.
    pub fn register(&self, job: Weak<dyn LastUpdate>) {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|job| job.strong_count() > 0);
        jobs.push(job);
    }

    /// Saves the last completed update of every training job, and ends these jobs.
    ///
    /// This does not wait for updates in progress. Returns true if all jobs are saved and ended. Returns false if a job
    /// saves its state itself, or if no job is training.
    pub fn save_last_updates(&self) -> Result<bool, String> {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
