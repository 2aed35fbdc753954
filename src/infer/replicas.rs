//! Worker threads for the shards of a micro-batch. Each thread has its own replica of the model.
//!
//! For a small model, each thread computes its own shard. For a large model, all threads compute one shard together:
//! they share the work inside each operation. This saves memory. A single shard is also computed by all threads. Both
//! ways give the same bits.
//!
//! A replica shares the parameter values of the model, but has its own autodiff leaves. Two threads with the same
//! leaves would deadlock in Burn. Results come back in shard order, so sums do not depend on the number of threads.

use super::error::DeviceError;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

/// Number of images in a shard on the CPU.
///
/// A different number changes the rounding of sums, and so the results of a run.
pub const SHARD_IMAGES: usize = 16;

/// A model with at least this many parameter values counts as large.
const LARGE_MODEL: usize = 8_000_000;

type Job = Box<dyn FnOnce() + Send>;

/// Worker threads that compute the shards of a micro-batch.
///
/// On a GPU, there are no worker threads: the calling thread computes the whole micro-batch. Dropping this value ends
/// the threads.
pub struct Replicas {
    queue: Option<mpsc::Sender<Job>>,
    workers: Vec<thread::JoinHandle<()>>,
    /// Threads that share the work inside an operation. They start when first used.
    pool: OnceLock<rayon_core::ThreadPool>,
    shard_images: usize,
}

impl Replicas {
    /// Starts `threads` worker threads, but at least one.
    pub fn start(threads: usize) -> Self {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..threads.max(1)).map(|_| {
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || {
                loop {
                    let next =
                        jobs.lock().expect("a worker never panics while it holds the lock").recv();
                    match next {
                        Ok(job) => job(),
                        Err(mpsc::RecvError) => return,
                    }
                }
            })
        });
        Self {
            workers: workers.collect(),
            pool: OnceLock::new(),
            queue: Some(queue),
            shard_images: SHARD_IMAGES,
        }
    }

    /// Starts no worker threads, for a GPU: the calling thread computes each micro-batch as one shard.
    pub fn whole() -> Self {
        Self { workers: Vec::new(), pool: OnceLock::new(), queue: None, shard_images: usize::MAX }
    }

    /// Returns the index range of each shard, for a batch of `n` images.
    pub fn shards(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = self.shard_images.min(n.max(1));
        (0..n).step_by(size).map(move |start| start..(start + size).min(n))
    }

    /// Returns whether the calling thread computes each micro-batch as one shard, as on a GPU.
    pub fn is_whole(&self) -> bool {
        self.workers.is_empty()
    }

    pub fn threads(&self) -> usize {
        self.workers.len().max(1)
    }

    /// Returns whether all threads compute one shard together.
    ///
    /// This is true on the CPU if the model is large or if `n` images fit into one shard. `params` is the number of
    /// parameter values of the model.
    pub fn share_operations(&self, params: usize, n: usize) -> bool {
        !self.is_whole() && (is_large(params) || n <= self.shard_images)
    }

    /// Runs `work` so that all threads share the work inside each operation.
    ///
    /// On a GPU, only the calling thread runs `work`. A panic becomes [`DeviceError::Crashed`].
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, DeviceError> {
        if self.is_whole() {
            return DeviceError::catch(work);
        }
        if self.pool.get().is_none() {
            let threads = rayon_core::ThreadPoolBuilder::new().num_threads(self.threads()).build();
            let failed = |error| DeviceError::Crashed(format!("cannot start threads: {error}"));
            // If another thread was faster, keep the pool of that thread.
            let _ = self.pool.set(threads.map_err(failed)?);
        }
        let pool = self.pool.get().expect("the pool was just set");
        pool.install(|| DeviceError::catch(work))
    }

    /// Runs `work` on every input, and returns the results in input order.
    ///
    /// The next free worker thread takes each input. A panic becomes [`DeviceError::Crashed`].
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
                // Sending fails only after an error of another shard, when the caller has already returned.
                let _ = done.send((index, result));
            });
            queue
                .send(job)
                .map_err(|_| DeviceError::Crashed("the worker threads have ended".to_owned()))?;
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

/// Returns whether a model with `params` parameter values counts as large.
///
/// For a large model, all threads share the work inside each operation.
pub fn is_large(params: usize) -> bool {
    params >= LARGE_MODEL
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.queue = None;
        for worker in self.workers.drain(..) {
            // The workers catch panics, so joining cannot fail.
            let _ = worker.join();
        }
    }
}
