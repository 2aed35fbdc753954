//! Replicas: the worker threads that run the shards of a micro-batch.
//!
//! Each shard runs on its own fork of the module (fresh autodiff leaves over the same data: two
//! threads that share leaves deadlock inside Burn), single-threaded inside. Results come back in
//! shard order, so sums over shards do not depend on how many workers there are.

use super::TrainError;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

/// Images in a shard on the CPU. Part of a run's arithmetic: another size rounds differently.
pub const SHARD_IMAGES: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of worker threads; dropped, they end.
pub struct Replicas {
    queue: Option<mpsc::Sender<Job>>,
    workers: Vec<thread::JoinHandle<()>>,
}

impl Replicas {
    /// Starts `threads` workers (at least one).
    pub fn start(threads: usize) -> Self {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..threads.max(1)).map(|_| {
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || {
                loop {
                    let next = jobs.lock().expect("a worker never panics with the lock").recv();
                    match next {
                        Ok(job) => job(),
                        Err(mpsc::RecvError) => return,
                    }
                }
            })
        });
        Self { workers: workers.collect(), queue: Some(queue) }
    }

    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Runs `work` on every input, on whichever worker is free; gives the results in input order.
    ///
    /// A panic inside `work` becomes [`TrainError::Crashed`].
    pub fn map<I, T, F>(
        &self,
        inputs: impl IntoIterator<Item = I>,
        work: F,
    ) -> Result<Vec<T>, TrainError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(I) -> T + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let (done, results) = mpsc::channel();
        let mut count = 0;
        for (index, input) in inputs.into_iter().enumerate() {
            let (work, done) = (Arc::clone(&work), done.clone());
            let job = Box::new(move || {
                let result = catch_unwind(AssertUnwindSafe(|| work(input)));
                // The receiver is gone only if the caller already failed on another shard.
                let _ = done.send((index, result));
            });
            let queue = self.queue.as_ref().expect("the queue is open until drop");
            queue
                .send(job)
                .map_err(|_| TrainError::Crashed("the worker threads are gone".to_owned()))?;
            count += 1;
        }
        drop(done);
        let mut slots: Vec<Option<T>> = (0..count).map(|_| None).collect();
        for (index, result) in results {
            slots[index] = Some(result.map_err(|panic| TrainError::from_panic(&*panic))?);
        }
        Ok(slots.into_iter().map(|slot| slot.expect("every job reports once")).collect())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.queue = None;
        for worker in self.workers.drain(..) {
            // A worker only ends by itself, after its queue; there is nothing to report.
            let _ = worker.join();
        }
    }
}

/// Cuts `n` images into shards: ranges of at most [`SHARD_IMAGES`].
pub(super) fn shards(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n).step_by(SHARD_IMAGES).map(move |start| start..(start + SHARD_IMAGES).min(n))
}
