//! A thread pool that runs numbered jobs in advance. The consumer takes the results in order.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::data::error::DataError;
use crate::recipe::Threads;

/// A thread pool that runs numbered jobs. Dropping the pool waits for running jobs.
pub(in crate::data) struct Workers<T> {
    shared: Arc<SharedQueue<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct SharedQueue<T> {
    state: Mutex<QueueState<T>>,
    changed: Condvar,
    /// Maximum number of jobs that are running, or finished but not taken.
    window: usize,
    end: usize,
}

struct QueueState<T> {
    /// Index of the next job to start.
    begin: usize,
    /// Index of the job whose result the caller takes next.
    take: usize,
    done: BTreeMap<usize, Result<T, DataError>>,
    stopped: bool,
}

/// Returns the number of worker threads. `Auto` means the number of CPU cores.
pub(in crate::data) fn count(threads: Threads) -> usize {
    match threads {
        Threads::Count(count) => count,
        Threads::Auto => thread::available_parallelism().map_or(1, usize::from),
    }
}

impl<T: Send + 'static> Workers<T> {
    /// Starts `threads` threads that run the jobs numbered `jobs`.
    ///
    /// `window` limits the number of jobs that are running, or finished but not taken.
    pub(in crate::data) fn start(
        threads: usize,
        window: usize,
        jobs: Range<usize>,
        work: impl Fn(usize) -> Result<T, DataError> + Send + Sync + 'static,
    ) -> Self {
        let threads = threads.max(1);
        let state = QueueState {
            begin: jobs.start,
            take: jobs.start,
            done: BTreeMap::new(),
            stopped: false,
        };
        let shared = Arc::new(SharedQueue {
            state: Mutex::new(state),
            changed: Condvar::new(),
            window: window.max(threads),
            end: jobs.end,
        });
        let work = Arc::new(work);
        let spawn = |_| {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            thread::spawn(move || shared.serve(&*work))
        };
        Self { threads: (0..threads).map(spawn).collect(), shared }
    }

    /// Waits for the result of the next job, in job order.
    ///
    /// Panics if all results have been taken.
    pub(in crate::data) fn take(&mut self) -> Result<T, DataError> {
        let mut state = self.shared.lock();
        assert!(state.take < self.shared.end, "take() was called after the last job");
        loop {
            let job = state.take;
            if let Some(result) = state.done.remove(&job) {
                state.take += 1;
                self.shared.changed.notify_all();
                return result;
            }
            state = self.shared.wait(state);
        }
    }
}

impl<T> SharedQueue<T> {
    fn serve(&self, work: &(impl Fn(usize) -> Result<T, DataError> + ?Sized)) {
        while let Some(job) = self.next() {
            let result = guarded(|| work(job));
            self.lock().done.insert(job, result);
            self.changed.notify_all();
        }
    }

    /// Waits until the next job may start, and returns the job index. Returns `None` if no job is left.
    fn next(&self) -> Option<usize> {
        let mut state = self.lock();
        while !state.stopped && state.begin < self.end {
            if state.begin < state.take + self.window {
                state.begin += 1;
                return Some(state.begin - 1);
            }
            state = self.wait(state);
        }
        None
    }

    /// Locks the state. A panic in another thread leaves the state valid.
    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, QueueState<T>>) -> MutexGuard<'a, QueueState<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // The thread does not panic, because `guarded` turns panics of jobs into errors.
            drop(thread.join());
        }
    }
}

/// Runs `work`, and converts a panic to an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> DataError {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    DataError::Panicked { message: message.unwrap_or("no message").to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order() {
        let mut workers = Workers::start(4, 6, 3..40, |job| {
            thread::sleep(Duration::from_micros((job % 3) as u64 * 300));
            Ok(job)
        });
        assert!((3..40).all(|job| workers.take().unwrap() == job));
    }

    #[test]
    fn no_job_starts_outside_the_window() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let mut workers = Workers::start(2, 5, 0..1000, move |job| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(job)
        });
        workers.take().unwrap();
        thread::sleep(Duration::from_millis(50));
        drop(workers);
        assert_eq!(begun.load(Ordering::SeqCst), 6);
    }

    #[test]
    fn a_panic_becomes_an_error_of_this_job_only() {
        let mut workers = Workers::start(2, 4, 0..3, |job| {
            assert!(job != 1, "job {job} is bad");
            Ok(job)
        });
        assert_eq!(workers.take().unwrap(), 0);
        assert!(workers.take().unwrap_err().to_string().contains("panicked: job 1 is bad"));
        assert_eq!(workers.take().unwrap(), 2);
    }
}
