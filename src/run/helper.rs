//! A host other than host 0 that trains whole jobs, while the hosts share the jobs of a run.
//!
//! Each device of this host asks host 0 for a job, and trains it alone. Only host 0 writes the run folder: this host
//! sends it every change of a file, and every event.

use super::rounds::{DiskError, Message, Orders, OwnedEvent, PAUSE, ROUND_BYTES, Report, WireEnd};
use super::rounds::{exchange, frame};
use super::schedule::{JobContextMaker, alone, caught};
use crate::durable::{self, Change};
use crate::infer::{LastUpdate, StopFlag};
use crate::recipe::Job;
use crate::results::RunError;
use crate::train::{
    DeviceThreads, Hosts, JobEnd, RunContext, TaskCoupling, TrainError, first_error,
};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// Trains jobs of host 0 on the devices of this host, until host 0 has no more jobs.
pub(super) fn help(work: &RunContext, device_threads: &DeviceThreads) -> Result<(), TrainError> {
    let work = RunContext { stop: work.stop.of_part(), ..work.clone() };
    let outbox = Arc::new(Outbox::default());
    let weak: Weak<Outbox> = Arc::downgrade(&outbox);
    work.stop.register(weak);
    let sender = Arc::clone(&outbox);
    let send = Arc::new(move |change: Change, bytes: &[u8]| sender.change(change, bytes));
    let redirected = durable::redirect(&work.run, send);
    let redirected =
        redirected.map_err(|source| RunError::Io { path: work.run.clone(), source })?;
    let ended = thread::scope(|scope| {
        let relay = scope.spawn(|| relay(&work.hosts, &outbox, &work.stop));
        let devices = work.device.devices.len();
        let (own, jobs) = (work.clone(), Arc::clone(&outbox));
        let ends = device_threads.all(devices, TaskCoupling::Independent, move |index| {
            train_jobs(&own, index, &jobs);
            Ok(())
        });
        outbox.lock().is_done = true;
        let relayed = relay.join().unwrap_or(Err(TrainError::OtherRank));
        first_error(ends).and(relayed)
    });
    drop(redirected);
    ended
}

/// Trains jobs on device number `index`, one after the other.
fn train_jobs(work: &RunContext, index: usize, outbox: &Arc<Outbox>) {
    let work = RunContext {
        device: work.device.of(index),
        parallel_jobs: work.device.devices.len() - 1,
        // The job runs as on a single host.
        hosts: Hosts::default(),
        ..work.clone()
    };
    let context = context(&work, outbox);
    while let Some(dir) = outbox.next_job() {
        let job: Option<Job> = work.plan.jobs().into_iter().find(|job| job.dir == dir);
        let job = job.expect("all hosts have the same recipe");
        // Host 0 waits for the end of each job, also after a panic.
        let end = alone(&work, &job, &context);
        let is_stopped = matches!(end, Ok(JobEnd::Interrupted));
        // Other devices take the jobs that are left.
        let is_broken = end.as_ref().is_err_and(TrainError::is_of_device);
        outbox.send(&Message::JobEnded { job: dir, end: WireEnd::from(&end) });
        if is_stopped || is_broken {
            return;
        }
    }
}

/// Returns the callbacks of a job, which tell host 0.
fn context(work: &RunContext, outbox: &Arc<Outbox>) -> JobContextMaker {
    let (events, rows) = (Arc::clone(outbox), Arc::clone(outbox));
    let table: PathBuf = work.run.join("accuracy.csv");
    JobContextMaker {
        observer: Arc::new(move |event| {
            if let Some(event) = OwnedEvent::of(&event) {
                events.send(&Message::Event(event));
            }
        }),
        row_written: Arc::new(move || {
            let written = rows.ask(|number| Message::RowWritten { number }, &[]);
            Ok(written.map_err(|source| RunError::Io { path: table.clone(), source })?)
        }),
        ..JobContextMaker::silent()
    }
}

/// Makes rounds with the other hosts until host 0 ends them.
fn relay(hosts: &Hosts, outbox: &Outbox, stop: &StopFlag) -> Result<(), TrainError> {
    let ended = caught(|| rounds(hosts, outbox, stop));
    if ended.is_err() {
        stop.stop_part();
    }
    outbox.close();
    ended
}

fn rounds(hosts: &Hosts, outbox: &Outbox, stop: &StopFlag) -> Result<(), TrainError> {
    loop {
        let report = Report { stop: stop.requested(), ..outbox.report() };
        let mut reports = exchange(hosts, &report)?;
        if reports.iter().any(|report| report.stop) {
            stop.request();
        }
        let sends = reports.iter().any(|report| report.sends);
        let orders = std::mem::take(&mut reports[0].orders);
        let is_end = orders.end;
        outbox.apply(orders, hosts.index());
        if sends {
            hosts.gather(outbox.take(ROUND_BYTES))?;
        } else if is_end {
            return Ok(());
        } else {
            thread::sleep(PAUSE);
        }
    }
}

/// Messages for host 0, and what host 0 has answered.
#[derive(Default)]
struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
    /// Number of the next message that needs an answer.
    asked: AtomicU64,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    answers: HashMap<u64, Result<(), DiskError>>,
    jobs: VecDeque<String>,
    /// Number of devices that wait for a job.
    waiting: usize,
    no_more: bool,
    /// Whether the devices take no more jobs.
    is_done: bool,
    /// Whether the rounds have ended, so that no answer can arrive.
    is_closed: bool,
}

impl Outbox {
    /// Sends a change of a file to host 0, and waits until host 0 has made it.
    fn change(&self, change: Change, bytes: &[u8]) -> io::Result<()> {
        self.ask(|number| Message::Change { number, change }, bytes)
    }

    /// Sends a message, and waits for the answer of host 0.
    fn ask(&self, message: impl FnOnce(u64) -> Message, bytes: &[u8]) -> io::Result<()> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        // Other devices need the lock, and a saved state has many bytes.
        let frame = frame(&message(number), bytes)?;
        let mut state = self.lock();
        state.bytes.extend(frame);
        let waits = |state: &mut State| !state.is_closed && !state.answers.contains_key(&number);
        let state = self.changed.wait_while(state, waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let gone = || Err(io::Error::other("the connection to host 0 has ended"));
        state.answers.remove(&number).map_or_else(gone, |answer| answer.map_err(Into::into))
    }

    /// Sends a message that needs no answer.
    fn send(&self, message: &Message) {
        let frame = frame(message, &[]).expect("events are valid JSON");
        self.lock().bytes.extend(frame);
    }

    /// Waits for a job. Returns `None` if there are no more jobs.
    fn next_job(&self) -> Option<String> {
        let mut state = self.lock();
        state.waiting += 1;
        let waits = |state: &mut State| state.jobs.is_empty() && !state.no_more && !state.is_closed;
        let state = self.changed.wait_while(state, waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.jobs.pop_front()
    }

    fn report(&self) -> Report {
        let state = self.lock();
        // A device that has a job, but has not woken up yet, no longer waits.
        let idle = state.waiting.saturating_sub(state.jobs.len());
        let (sends, done) = (!state.bytes.is_empty(), state.is_done);
        Report { idle, done, sends, ..Report::default() }
    }

    fn apply(&self, orders: Orders, own: usize) {
        let mut state = self.lock();
        let jobs = orders.jobs.into_iter().filter(|(host, _)| *host == own);
        state.jobs.extend(jobs.map(|(_, job)| job));
        let answers = orders.answers.into_iter().filter(|(host, ..)| *host == own);
        state.answers.extend(answers.map(|(_, number, answer)| (number, answer)));
        state.no_more |= orders.no_more;
        self.changed.notify_all();
    }

    /// Returns at most `most` bytes to send, and removes them.
    fn take(&self, most: usize) -> Vec<u8> {
        let mut state = self.lock();
        let count = state.bytes.len().min(most);
        state.bytes.drain(..count).collect()
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastUpdate for Outbox {
    /// Keeps this process running after a late save: host 0 may still be writing the states of this host.
    fn save(&self) -> Result<bool, String> {
        Ok(false)
    }
}
