//! The crew: a thread for each device of a run, which alone touches it.
//!
//! GPU drivers keep a stream and a pool of memory for each thread, so the threads live as long as the runner: a job finds
//! the memory that the one before it gave back.

use super::TrainError;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

type Task = Box<dyn FnOnce() + Send>;
type Member = (mpsc::Sender<Task>, thread::JoinHandle<()>);

/// Threads by the index of their device; dropped, they end. One device needs no thread but the caller's.
pub(super) struct Crew {
    members: Vec<Member>,
}

impl Crew {
    pub(super) fn start(devices: usize) -> Self {
        let threads = if devices > 1 { devices } else { 0 };
        let members = (0..threads).map(|_| {
            let (queue, tasks) = mpsc::channel::<Task>();
            let thread = thread::spawn(move || tasks.into_iter().for_each(|task| task()));
            (queue, thread)
        });
        Self { members: members.collect() }
    }

    /// Runs `work` on the first device's thread.
    pub(super) fn first<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Result<T, TrainError> {
        match self.members.get(..1) {
            Some(first) => Self::on(first, move |_| work()).remove(0),
            None => guarded(0, &|_| work()),
        }
    }

    /// Runs `work` of the device's index for the first `devices` of them at the same time; gives what came of each.
    ///
    /// A panic inside `work` becomes [`TrainError::Crashed`].
    pub(super) fn all<T: Send + 'static>(
        &self,
        devices: usize,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        match self.members.get(..devices) {
            Some(members) if devices > 1 => Self::on(members, work),
            _ => vec![guarded(0, &work)],
        }
    }

    fn on<T: Send + 'static>(
        members: &[Member],
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        let work = Arc::new(work);
        let results = members.iter().enumerate().map(|(index, (queue, _))| {
            let (done, result) = mpsc::channel();
            let work = Arc::clone(&work);
            // A task that cannot be sent drops `done`, which the receiver sees.
            let _ = queue.send(Box::new(move || drop(done.send(guarded(index, &*work)))));
            result
        });
        let results: Vec<_> = results.collect();
        let gone = || TrainError::Crashed("a device's thread is gone".to_owned());
        results.into_iter().map(|r| r.recv().unwrap_or_else(|_| Err(gone()))).collect()
    }
}

fn guarded<T>(
    index: usize,
    work: &impl Fn(usize) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    catch_unwind(AssertUnwindSafe(|| work(index)))
        .unwrap_or_else(|panic| Err(TrainError::from_panic(&*panic)))
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (queue, thread) in self.members.drain(..) {
            drop(queue);
            // Panics of tasks were caught; there is nothing to report.
            let _ = thread.join();
        }
    }
}
