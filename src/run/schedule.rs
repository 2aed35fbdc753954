//! Trains a job on all devices together. For jobs on one device each, see `shared_jobs`.

use super::preflight::{epochs, is_finished};
use crate::infer::{DeviceError, Replicas};
use crate::recipe::Job;
use crate::train::{
    ChosenDevice, DeviceThreads, Event, JobContext, JobEnd, Observer, Rank, RankContext,
    RowWritten, RunContext, StepTimer, TrainError, on_every_rank,
};
use std::sync::Arc;

/// Tells the other hosts to train a job.
pub(super) type Announce = Arc<dyn Fn(&Job) -> Result<(), TrainError> + Send + Sync>;

/// Makes a [`JobContext`] in each device thread.
#[derive(Clone)]
pub(super) struct JobContextMaker {
    pub observer: Observer,
    pub row_written: RowWritten,
    pub checkpoint_kept: RowWritten,
    pub timer: StepTimer,
    /// Called before a job starts on all devices.
    pub announce: Announce,
}

impl JobContextMaker {
    /// For hosts other than host 0: the contexts report nothing.
    pub(super) fn silent() -> Self {
        Self {
            observer: Arc::new(|_| {}),
            row_written: Arc::new(|| Ok(())),
            checkpoint_kept: Arc::new(|| Ok(())),
            timer: StepTimer::default(),
            announce: Arc::new(|_| Ok(())),
        }
    }

    pub(super) fn context(&self, rank: Rank, work: &RunContext) -> JobContext {
        JobContext {
            rank_context: RankContext {
                rank,
                replicas: work.device.replicas(),
                timer: self.timer.clone(),
            },
            stop: work.stop.clone(),
            observer: Arc::clone(&self.observer),
            row_written: Arc::clone(&self.row_written),
            checkpoint_kept: Arc::clone(&self.checkpoint_kept),
        }
    }
}

pub(super) fn is_done(work: &RunContext, job: &Job) -> bool {
    is_finished(&work.run, &work.plan, job)
}

/// Cleans up after a finished job.
pub(super) fn finish_done(work: &RunContext, job: &Job) -> Result<(), TrainError> {
    work.dir(job).finish(epochs(&work.plan, job.stage))
}

/// Trains a job on all devices of all hosts. Call this on host 0 only.
pub(super) fn together(
    work: &RunContext,
    job: Job,
    context: &JobContextMaker,
    device_threads: &DeviceThreads,
) -> Result<JobEnd, TrainError> {
    if let Some(end) = not_to_run(work, &job, context)? {
        return Ok(end);
    }
    (context.announce)(&job)?;
    let dir = job.dir.clone();
    let end = train(work, job, context, device_threads);
    if let Err(error) = &end {
        let error = Some(error).filter(|error| error.is_of_one_job());
        (context.observer)(Event::JobFailed { job: &dir, error });
    }
    end
}

/// Trains a job on all devices of all hosts. Every host must call this.
pub(super) fn train(
    work: &RunContext,
    job: Job,
    context: &JobContextMaker,
    device_threads: &DeviceThreads,
) -> Result<JobEnd, TrainError> {
    let (own, context) = (work.clone(), context.clone());
    on_every_rank(&work.device, device_threads, &work.hosts, move |rank, device| {
        let work = RunContext { device, ..own.clone() };
        work.run(&job, &context.context(rank, &work))
    })
}

/// Trains a job on one device. A panic becomes an error of the job.
pub(super) fn alone(
    work: &RunContext,
    job: &Job,
    context: &JobContextMaker,
) -> Result<JobEnd, TrainError> {
    caught(|| work.run(job, &context.context(Rank::alone(), work)))
}

/// Returns a panic of `work` as an error.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    DeviceError::catch(work)?
}

/// Returns the outcome of a job that needs no training. Otherwise returns `None`.
pub(super) fn not_to_run(
    work: &RunContext,
    job: &Job,
    context: &JobContextMaker,
) -> Result<Option<JobEnd>, TrainError> {
    if is_done(work, job) {
        finish_done(work, job)?;
        (context.observer)(Event::JobSkipped { job: &job.dir });
        return Ok(Some(JobEnd::Done));
    }
    Ok(work.stop.requested().then_some(JobEnd::Interrupted))
}

/// The devices of a benchmark, with one thread per device.
pub struct BenchDevices {
    device_threads: DeviceThreads,
}

impl BenchDevices {
    pub fn start(device: &ChosenDevice) -> Self {
        Self { device_threads: DeviceThreads::start(device.devices.len()) }
    }

    /// Trains a job on all devices until the flag `work.stop` is set.
    pub fn run(
        &self,
        work: &RunContext,
        job: Job,
        observer: Observer,
        timer: StepTimer,
    ) -> Result<JobEnd, TrainError> {
        let context = JobContextMaker { observer, timer, ..JobContextMaker::silent() };
        together(work, job, &context, &self.device_threads)
    }

    /// Runs `work` once per worker, and returns the results.
    ///
    /// A single worker uses the thread of the first device. Several workers get a new thread each.
    pub fn on_first<T: Send + 'static>(
        &self,
        workers: usize,
        work: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, TrainError> {
        if workers > 1 {
            return Ok(Replicas::start(workers).map(0..workers, move |_| work())?);
        }
        let done = self.device_threads.first(move || Ok(work()))?;
        Ok(vec![done])
    }
}
