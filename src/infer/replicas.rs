//! Replicas: the worker threads that run the shards of a micro-batch.
//!
//! Each shard runs on its own fork of the module (fresh autodiff leaves over the same data: two
//! threads that share leaves deadlock inside Burn), single-threaded inside. Results come back in
//! shard order, so sums over shards do not depend on how many workers there are. A micro-batch of one shard needs no worker.

use super::error::DeviceError;
use std::ops::Range;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// Images in a shard on the CPU. Part of a run's arithmetic: another size rounds differently.
pub const SHARD_IMAGES: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of worker threads; dropped, they end. Without any, the calling thread does the work.
pub struct Replicas {
    queue: Option<mpsc::Sender<Job>>,
    workers: Vec<thread::JoinHandle<()>>,
    /// Most images in a shard.
    shard_images: usize,
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
        Self { workers: workers.collect(), queue: Some(queue), shard_images: SHARD_IMAGES }
    }

    /// One replica that takes a micro-batch whole, on the calling thread: a GPU, which is best touched from one thread.
    pub fn whole() -> Self {
        Self { workers: Vec::new(), queue: None, shard_images: usize::MAX }
    }

    /// Cuts `n` images into shards.
    pub fn shards(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = self.shard_images.min(n.max(1));
        (0..n).step_by(size).map(move |start| start..(start + size).min(n))
    }

    pub fn threads(&self) -> usize {
        self.workers.len().max(1)
    }

    /// Runs `work` on every input, on whichever worker is free; gives the results in input order.
    ///
    /// A panic inside `work` becomes [`DeviceError::Crashed`].
    pub fn map<I, T, F>(
        &self,
        inputs: impl IntoIterator<Item = I>,
        work: F,
    ) -> Result<Vec<T>, DeviceError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(I) -> T + Send + Sync + 'static,
    {
        let Some(queue) = &self.queue else {
            let run = |input| DeviceError::catch(|| work(input));
            return inputs.into_iter().map(run).collect();
        };
        let work = Arc::new(work);
        let (done, results) = mpsc::channel();
        let mut count = 0;
        for (index, input) in inputs.into_iter().enumerate() {
            let (work, done) = (Arc::clone(&work), done.clone());
            let job = Box::new(move || {
                let result = DeviceError::catch(|| work(input));
                // The receiver is gone only if the caller already failed on another shard.
                let _ = done.send((index, result));
            });
            queue
                .send(job)
                .map_err(|_| DeviceError::Crashed("the worker threads are gone".to_owned()))?;
            count += 1;
        }
        drop(done);
        let mut slots: Vec<Option<T>> = (0..count).map(|_| None).collect();
        for (index, result) in results {
            slots[index] = Some(result?);
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
