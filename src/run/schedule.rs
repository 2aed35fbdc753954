//! Which devices do which jobs: all of them one job, or each one its own.

use crate::infer::Replicas;
use crate::recipe::Job;
use crate::train::{
    ChosenDevice, Crew, End, Event, Hands, Observer, Parts, Rank, RowWritten, Team, TrainError,
    Watch, Work, first_error, on_every_rank,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Makes what each thread's loop works with.
#[derive(Clone)]
pub(super) struct HandsMaker {
    pub observer: Observer,
    pub row_written: RowWritten,
    pub watch: Watch,
}

impl HandsMaker {
    fn hands(&self, rank: Rank, work: &Work) -> Hands {
        Hands {
            team: Team { rank, replicas: work.device.replicas(), watch: self.watch.clone() },
            stop: work.stop.clone(),
            observer: Arc::clone(&self.observer),
            row_written: Arc::clone(&self.row_written),
        }
    }
}

pub(super) fn is_done(work: &Work, job: &Job) -> bool {
    work.dir(job).is_done(epochs(work, job))
}

/// Ends a job whose last checkpoint is there: a kill may have come between it and the end.
pub(super) fn finish_done(work: &Work, job: &Job) -> Result<(), TrainError> {
    work.dir(job).finish(epochs(work, job))
}

fn epochs(work: &Work, job: &Job) -> usize {
    work.plan.training(job.stage).map_or(0, |training| training.epochs)
}

/// Runs a job on all devices of the run, each a rank of it.
pub(super) fn together(
    work: &Work,
    job: Job,
    hands: &HandsMaker,
    crew: &Crew,
) -> Result<End, TrainError> {
    if let Some(end) = not_to_run(work, &job, hands)? {
        return Ok(end);
    }
    let (own, hands, dir) = (work.clone(), hands.clone(), job.dir.clone());
    let observer = Arc::clone(&hands.observer);
    let end = on_every_rank(&work.device, crew, move |rank, device| {
        let work = Work { device, ..own.clone() };
        work.run(&job, &hands.hands(rank, &work))
    });
    if end.is_err() {
        observer(Event::JobFailed { job: &dir, error: None });
    }
    end
}

/// Runs jobs side by side, each on one device, and the next on whichever is free.
///
/// A job that fails does not keep the others from going on; its error is told at once, and the first is the result.
pub(super) fn side_by_side(
    work: &Work,
    jobs: Vec<Job>,
    hands: &HandsMaker,
    crew: &Crew,
) -> Result<End, TrainError> {
    let devices = work.device.devices.len().min(jobs.len());
    if devices == 0 {
        return Ok(End::Done);
    }
    let jobs = Mutex::new(VecDeque::from(jobs));
    let (work, hands) = (work.clone(), hands.clone());
    let ends = crew.all(devices, Parts::Independent, move |index| {
        let work = Work { device: work.device.of(index), beside: devices - 1, ..work.clone() };
        let mut outcome = Ok(End::Done);
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(job) = next else { return outcome };
            let end = match not_to_run(&work, &job, &hands) {
                Ok(None) => work.run(&job, &hands.hands(Rank::alone(), &work)),
                Ok(Some(end)) => Ok(end),
                Err(error) => Err(error),
            };
            match end {
                Ok(End::Done) => {}
                Ok(End::Interrupted) => return outcome.and(Ok(End::Interrupted)),
                Err(error) => {
                    (hands.observer)(Event::JobFailed { job: &job.dir, error: Some(&error) });
                    outcome = outcome.and(Err(error));
                }
            }
        }
    });
    let ends = first_error(ends)?;
    Ok(if ends.contains(&End::Interrupted) { End::Interrupted } else { End::Done })
}

/// Gives how a job ended that does not have to be run, or must not be.
fn not_to_run(work: &Work, job: &Job, hands: &HandsMaker) -> Result<Option<End>, TrainError> {
    if is_done(work, job) {
        finish_done(work, job)?;
        (hands.observer)(Event::JobSkipped { job: &job.dir });
        return Ok(Some(End::Done));
    }
    Ok(work.stop.requested().then_some(End::Interrupted))
}

/// Devices at work outside a run, for a bench.
pub struct Bench {
    crew: Crew,
}

impl Bench {
    pub fn start(device: &ChosenDevice) -> Self {
        Self { crew: Crew::start(device.devices.len()) }
    }

    /// Trains a job on all devices until `work.stop` is requested.
    pub fn run(
        &self,
        work: &Work,
        job: Job,
        observer: Observer,
        watch: Watch,
    ) -> Result<End, TrainError> {
        let hands = HandsMaker { observer, row_written: Arc::new(|| Ok(())), watch };
        together(work, job, &hands, &self.crew)
    }

    /// Does `work` on the first device's thread; on several threads where `workers` says so.
    pub fn on_first<T: Send + 'static>(
        &self,
        workers: usize,
        work: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, TrainError> {
        if workers > 1 {
            return Ok(Replicas::start(workers).map(0..workers, move |_| work())?);
        }
        let done = self.crew.first(move || Ok(work()))?;
        Ok(vec![done])
    }
}
