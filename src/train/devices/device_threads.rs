//! One thread per device of a run. No other thread uses that device.
//!
//! GPU drivers keep a stream and a memory pool for each thread. The threads live as long as the run, so jobs can reuse
//! the memory of earlier jobs.

use crate::infer::DeviceError;
use crate::train::error::TrainError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

type Task = Box<dyn FnOnce() + Send>;
type Member = (mpsc::Sender<Task>, thread::JoinHandle<()>);

/// One thread for each device, in device order.
///
/// With a single device, there is no extra thread: work runs on the calling thread.
pub(crate) struct DeviceThreads {
    members: Vec<Member>,
    /// Number of running tasks. A task that waits forever for its GPU also counts.
    running: Arc<AtomicUsize>,
    /// Longest wait for running tasks.
    patience: Duration,
}

/// Whether tasks on different devices wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskCoupling {
    /// The tasks are ranks of one job, and wait for each other's gradients.
    Joined,
    Independent,
}

impl DeviceThreads {
    pub(crate) fn start(devices: usize) -> Self {
        let threads = if devices > 1 { devices } else { 0 };
        let members = (0..threads).map(|_| {
            let (queue, tasks) = mpsc::channel::<Task>();
            let thread = thread::spawn(move || tasks.into_iter().for_each(|task| task()));
            (queue, thread)
        });
        Self {
            members: members.collect(),
            running: Arc::default(),
            patience: Duration::from_mins(1),
        }
    }

    /// Runs `work` on the first device's thread.
    pub(crate) fn first<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Result<T, TrainError> {
        self.all(1, TaskCoupling::Independent, move |_| work()).remove(0)
    }

    /// Runs `work(index)` on the first `devices` devices at the same time. Returns one result per device.
    ///
    /// A panic becomes [`DeviceError::Crashed`]. If a [`TaskCoupling::Joined`] task fails, all other tasks must end
    /// within one minute. A task that does not end has the result [`TrainError::OtherRank`].
    ///
    /// Before it starts, this function waits up to one minute for tasks of earlier calls. If they still run, it fails
    /// with [`TrainError::Stuck`].
    pub(crate) fn all<T: Send + 'static>(
        &self,
        devices: usize,
        coupling: TaskCoupling,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        if self.members.is_empty() {
            assert_eq!(devices, 1, "there is a thread for each device");
            return vec![guarded(0, &work)];
        }
        let asked = Instant::now();
        while self.running.load(Ordering::SeqCst) > 0 {
            if asked.elapsed() > self.patience {
                return (0..devices).map(|_| Err(TrainError::Stuck)).collect();
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.on(&self.members[..devices], coupling, work)
    }

    fn on<T: Send + 'static>(
        &self,
        members: &[Member],
        coupling: TaskCoupling,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        let work = Arc::new(work);
        let (done, results) = mpsc::channel();
        for (index, (queue, _)) in members.iter().enumerate() {
            let (work, done) = (Arc::clone(&work), done.clone());
            let running = Arc::clone(&self.running);
            running.fetch_add(1, Ordering::SeqCst);
            // If `send` fails, the task is dropped together with its `done`. `results` then ends early.
            let _ = queue.send(Box::new(move || {
                let end = guarded(index, &*work);
                running.fetch_sub(1, Ordering::SeqCst);
                drop(done.send((index, end)));
            }));
        }
        drop(done);
        let mut ends: Vec<Option<Result<T, TrainError>>> = members.iter().map(|_| None).collect();
        let mut failed = false;
        while ends.iter().any(Option::is_none) {
            // After a failure, another GPU may wait forever for the failed GPU. So the wait has a limit.
            let next =
                if failed { results.recv_timeout(self.patience).ok() } else { results.recv().ok() };
            let Some((index, end)) = next else { break };
            failed |= coupling == TaskCoupling::Joined && end.is_err();
            ends[index] = Some(end);
        }
        ends.into_iter().map(|end| end.unwrap_or(Err(TrainError::OtherRank))).collect()
    }
}

fn guarded<T>(
    index: usize,
    work: &impl Fn(usize) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    DeviceError::catch(|| work(index))?
}

impl Drop for DeviceThreads {
    fn drop(&mut self) {
        for (queue, thread) in self.members.drain(..) {
            drop(queue);
            if self.running.load(Ordering::SeqCst) > 0 {
                continue;
            }
            // `guarded` has caught all panics of tasks, so `join` cannot fail.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceThreads, TaskCoupling, TrainError};
    use crate::infer::DeviceError;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    #[test]
    fn a_hanging_thread_does_not_block_the_others_forever() {
        let mut device_threads = DeviceThreads::start(2);
        device_threads.patience = Duration::from_millis(100);
        let (go_on, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let ends = device_threads.all(2, TaskCoupling::Joined, move |index| match index {
            0 => Err(DeviceError::Crashed("no memory".to_owned()).into()),
            _ => Ok(hangs.lock().expect("only this one takes it").recv().is_ok()),
        });
        assert!(matches!(
            ends[..],
            [Err(TrainError::Device(DeviceError::Crashed(_))), Err(TrainError::OtherRank)]
        ));
        let more = || device_threads.all(2, TaskCoupling::Independent, Ok);
        assert!(matches!(more()[..], [Err(TrainError::Stuck), Err(TrainError::Stuck)]));
        go_on.send(()).expect("the hanging task waits for this message");
        assert!(matches!(more()[..], [Ok(0), Ok(1)]));
    }
}
