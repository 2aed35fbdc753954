//! Jobs that devices share: each device trains whole jobs, alone, on host 0 and on the other hosts.
//!
//! The devices take the jobs in the order of the recipe. The result of a job does not depend on the device or the host:
//! its update has the images of all devices and hosts, in as many more micro-steps. Host 0 alone writes the run folder,
//! also for jobs of other hosts; see `helper`. This costs a copy of each saved state through host 0. In return, a host
//! that was cut off cannot write into a run that has already continued elsewhere.

use super::failed_jobs::FailedJob;
use super::rounds::{Inbox, Message, Orders, PAUSE, Report, exchange};
use super::schedule::{JobContextMaker, alone, caught, finish_done, not_to_run};
use crate::durable::Writer;
use crate::infer::LastUpdate;
use crate::recipe::Job;
use crate::train::{
    DeviceThreads, Event, Hosts, JobEnd, RunContext, TaskCoupling, TrainError, first_error,
};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Trains jobs in parallel, each on one device. All hosts take part; the other hosts call `help`.
///
/// If a job fails, the other jobs continue. An error of a single job is part of the result. This function fails if an
/// error affects all jobs.
pub(super) fn side_by_side(
    work: &RunContext,
    jobs: Vec<Job>,
    context: &JobContextMaker,
    device_threads: &DeviceThreads,
) -> Result<(JobEnd, Vec<FailedJob>), TrainError> {
    let order: Vec<String> = jobs.iter().map(|job| job.dir.clone()).collect();
    let devices = work.device.devices.len().min(jobs.len());
    if devices == 0 {
        return Ok((JobEnd::Done, Vec::new()));
    }
    let state = Mutex::new(State { left: jobs.into(), ..State::default() });
    let work = RunContext { stop: work.stop.of_part(), ..work.clone() };
    let shared = Arc::new(SharedJobs { work: work.clone(), context: context.clone(), state });
    let here = {
        let shared = Arc::clone(&shared);
        move || {
            let ends = device_threads.all(devices, TaskCoupling::Independent, move |index| {
                shared.train_here(index, devices);
                Ok(())
            });
            first_error(ends).map(drop)
        }
    };
    if work.hosts.count() == 1 {
        here()?;
    } else {
        let last_update: Arc<dyn LastUpdate> = Arc::<SharedJobs>::clone(&shared);
        work.stop.register(Arc::downgrade(&last_update));
        let ended = thread::scope(|scope| {
            let others = scope.spawn(|| shared.lead());
            let ended = here();
            shared.lock().is_done_here = true;
            ended.and(others.join().unwrap_or(Err(TrainError::OtherRank)))
        });
        work.hosts.end_job(ended)?;
    }
    let mut state = shared.lock();
    if let Some(error) = state.error.take() {
        return Err(error);
    }
    let mut failed = std::mem::take(&mut state.failed);
    failed.sort_by_key(|failed| order.iter().position(|job| *job == failed.job));
    Ok((if state.is_interrupted { JobEnd::Interrupted } else { JobEnd::Done }, failed))
}

struct SharedJobs {
    work: RunContext,
    context: JobContextMaker,
    state: Mutex<State>,
}

/// The jobs that are left, and how the others ended.
#[derive(Default)]
struct State {
    left: VecDeque<Job>,
    failed: Vec<FailedJob>,
    /// The first error that affects all jobs.
    error: Option<TrainError>,
    is_interrupted: bool,
    /// Whether the devices of host 0 take no more jobs.
    is_done_here: bool,
}

impl SharedJobs {
    /// Trains jobs on device number `index` of host 0, one after the other. Host 0 uses `devices` devices.
    fn train_here(&self, index: usize, devices: usize) {
        let work = RunContext {
            device: self.work.device.of(index),
            parallel_jobs: devices - 1,
            // The job runs as on a single host.
            hosts: Hosts::default(),
            ..self.work.clone()
        };
        while let Some(job) = self.next() {
            // The other hosts wait for the end of all jobs, also after a panic.
            let end = alone(&work, &job, &self.context);
            let is_broken = end.as_ref().is_err_and(TrainError::is_of_device);
            self.ended(job, end);
            if is_broken {
                return;
            }
        }
    }

    /// Returns the next job to train; `None` if there is none, or if the user stops the run. Skips finished jobs.
    fn next(&self) -> Option<Job> {
        loop {
            let job = self.lock().left.pop_front()?;
            match not_to_run(&self.work, &job, &self.context) {
                Ok(None) => return Some(job),
                Ok(Some(JobEnd::Done)) => {}
                Ok(Some(JobEnd::Interrupted)) => {
                    let mut state = self.lock();
                    state.is_interrupted = true;
                    state.left.clear();
                }
                Err(error) => self.ended(job, Err(error)),
            }
        }
    }

    /// Records how a job ended.
    fn ended(&self, job: Job, end: Result<JobEnd, TrainError>) {
        let error = match end {
            Ok(JobEnd::Done) => return,
            Ok(JobEnd::Interrupted) => {
                self.lock().is_interrupted = true;
                return;
            }
            Err(error) => error,
        };
        (self.context.observer)(Event::JobFailed { job: &job.dir, error: Some(&error) });
        let mut state = self.lock();
        if error.is_of_one_job() {
            state.failed.push(FailedJob { job: job.dir, error });
        } else {
            state.error.get_or_insert(error);
        }
    }

    /// Gives jobs to the other hosts, and writes their files, until all jobs have ended.
    fn lead(&self) -> Result<(), TrainError> {
        let ended = caught(|| Leader::new(self).rounds());
        if ended.is_err() {
            // The jobs of this host save their states and stop.
            self.work.stop.stop_part();
        }
        ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastUpdate for SharedJobs {
    /// Keeps this process running after a late save: it still writes the states of the other hosts.
    fn save(&self) -> Result<bool, String> {
        Ok(false)
    }
}

/// Host 0, as the other hosts see it.
struct Leader<'a> {
    shared: &'a SharedJobs,
    writer: Writer,
    inboxes: Vec<Inbox>,
    /// The jobs that run on each host.
    running: Vec<Vec<Job>>,
    /// Whether the devices of the other hosts take no more jobs.
    others_are_done: bool,
    /// What host 0 tells the other hosts in the next round.
    orders: Orders,
}

impl<'a> Leader<'a> {
    fn new(shared: &'a SharedJobs) -> Self {
        let hosts = shared.work.hosts.count();
        Self {
            shared,
            writer: Writer::default(),
            inboxes: (0..hosts).map(|_| Inbox::default()).collect(),
            running: vec![Vec::new(); hosts],
            others_are_done: false,
            orders: Orders::default(),
        }
    }

    fn rounds(&mut self) -> Result<(), TrainError> {
        let RunContext { hosts, stop, .. } = &self.shared.work;
        loop {
            self.give_up();
            let is_end = self.is_over();
            let orders = Orders { end: is_end, ..std::mem::take(&mut self.orders) };
            let given: Vec<usize> = orders.jobs.iter().map(|(host, _)| *host).collect();
            let report = Report { stop: stop.requested(), orders, ..Report::default() };
            let reports = exchange(hosts, &report)?;
            if reports.iter().any(|report| report.stop) {
                stop.request();
            }
            let sends = reports.iter().any(|report| report.sends);
            if sends {
                for (host, bytes) in hosts.gather(Vec::new())?.into_iter().enumerate() {
                    self.receive(host, bytes);
                }
            } else if is_end {
                return Ok(());
            }
            self.others_are_done = reports.iter().skip(1).all(|report| report.done);
            for (host, report) in reports.iter().enumerate().skip(1) {
                // The host made its report before it got the jobs of this round.
                let given = given.iter().filter(|given| **given == host).count();
                self.give_jobs(host, report.idle.saturating_sub(given));
            }
            if !sends && self.orders.jobs.is_empty() {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Gives up the jobs that are left if the user stops the run, or if all devices have failed.
    fn give_up(&self) {
        if self.shared.work.stop.requested() {
            // No device may be left that does this.
            self.shared.next();
        }
        let mut state = self.shared.lock();
        if state.is_done_here && self.others_are_done {
            // The run fails with the error of a device.
            state.left.clear();
        }
    }

    /// Returns whether all jobs of all hosts have ended, and all hosts know this.
    fn is_over(&self) -> bool {
        let state = self.shared.lock();
        let is_told = self.orders.answers.is_empty() && self.orders.jobs.is_empty();
        state.left.is_empty()
            && state.is_done_here
            && is_told
            && self.running.iter().all(Vec::is_empty)
    }

    /// Gives jobs to `idle` devices of host number `host`.
    fn give_jobs(&mut self, host: usize, idle: usize) {
        for _ in 0..idle {
            let Some(job) = self.shared.next() else { break };
            self.orders.jobs.push((host, job.dir.clone()));
            self.running[host].push(job);
        }
        self.orders.no_more = self.shared.lock().left.is_empty();
    }

    fn receive(&mut self, host: usize, bytes: Vec<u8>) {
        self.inboxes[host].add(bytes);
        for (message, bytes) in self.inboxes[host].take() {
            match message {
                Message::Change { number, change } => {
                    let made = self.writer.make(change, &bytes);
                    self.answer(host, number, &made);
                }
                Message::RowWritten { number } => {
                    let written = (self.shared.context.row_written)();
                    self.answer(host, number, &written.map_err(io::Error::other));
                }
                Message::Event(event) => (self.shared.context.observer)(event.event()),
                Message::JobEnded { job, end } => {
                    let end = end.of(&self.shared.work.hosts, host);
                    self.job_ended(host, &job, end);
                }
            }
        }
    }

    fn answer(&mut self, host: usize, number: u64, answer: &io::Result<()>) {
        let answer = answer.as_ref().copied().map_err(Into::into);
        self.orders.answers.push((host, number, answer));
    }

    fn job_ended(&mut self, host: usize, dir: &str, end: Result<JobEnd, TrainError>) {
        let running = &mut self.running[host];
        let Some(index) = running.iter().position(|job| job.dir == dir) else { return };
        let job = running.remove(index);
        let end = match end {
            Ok(JobEnd::Done) => finish_done(&self.shared.work, &job).map(|()| JobEnd::Done),
            end => end,
        };
        self.shared.ended(job, end);
    }
}
