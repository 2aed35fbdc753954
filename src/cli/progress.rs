//! Progress on stderr: a bar on a terminal, otherwise one log line per epoch.

use crate::recipe::Resolved;
use crate::results::EpochRow;
use crate::shape::StageKind;
use crate::train::Event;
use indicatif::ProgressStyle;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shows the progress of `mae run` as a bar or as log lines.
pub(super) struct ProgressBar {
    bar: Option<indicatif::ProgressBar>,
    state: Mutex<BarState>,
}

/// Progress of all jobs. The unit of work is training FLOPs.
struct BarState {
    /// Unfinished jobs, in the order in which they run.
    ahead: Vec<JobWork>,
    /// Jobs that train now, at most one per device.
    active: Vec<ActiveJob>,
    /// Work that this process has done.
    done: f64,
    /// Time at which this process started its first job.
    since: Option<Instant>,
}

struct ActiveJob {
    dir: String,
    work: f64,
    effective_batch_size: usize,
    step: usize,
    steps: usize,
    steps_at_start: usize,
    since: Instant,
}

struct JobWork {
    dir: String,
    work: f64,
    effective_batch_size: usize,
}

impl ProgressBar {
    pub(super) fn new(resolved: &Resolved, only: Option<StageKind>) -> Self {
        let style = ProgressStyle::with_template("{prefix:.bold} {bar:24} {msg}")
            .expect("the template is valid");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = indicatif::ProgressBar::new(1).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let ahead = resolved.points.iter().flat_map(|point| {
            let plan = &point.plan;
            let jobs = plan.jobs().into_iter();
            jobs.filter(move |job| only.is_none_or(|stage| stage == job.stage)).map(move |job| {
                let training = plan.training(job.stage).expect("a job's stage is in the plan");
                let cost = plan.cost(job.stage, 1000);
                let flops = cost.map_or(0.0, |cost| cost.train_flops_per_image);
                JobWork {
                    dir: job.dir,
                    work: flops * training.epochs as f64,
                    effective_batch_size: training.effective_batch_size,
                }
            })
        });
        let state = BarState { ahead: ahead.collect(), active: Vec::new(), done: 0.0, since: None };
        Self { bar, state: Mutex::new(state) }
    }

    pub(super) fn show(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::JobStarted { job, epoch, epochs, steps_before, steps } => {
                state.start(job, *steps_before, *steps);
                match &self.bar {
                    Some(bar) => state.show(bar, ""),
                    None if *steps_before > 0 => {
                        tracing::info!("{job}: resuming in epoch {epoch} of {epochs}");
                    }
                    None => tracing::info!("{job}: {epochs} epochs, {steps} steps"),
                }
            }
            Event::Updated { job, epoch, step, loss, lr } => {
                state.update(job, *step);
                if let Some(bar) = &self.bar {
                    let loss = loss.map_or_else(String::new, |loss| format!("loss {loss:.4}  "));
                    state.show(bar, &format!("epoch {epoch}  {loss}lr {lr:.2e}  "));
                }
            }
            Event::EpochDone { job, epochs, row } => {
                let line = format!("{job}: {}", epoch_line(row, *epochs));
                match &self.bar {
                    Some(bar) if row.epoch == *epochs => bar.println(line),
                    Some(_) => {}
                    None => tracing::info!("{line}  {}", state.rest().left),
                }
            }
            Event::JobDone { job } | Event::JobFailed { job, error: None } => state.leave(job),
            Event::JobFailed { job, error: Some(error) } => {
                state.leave(job);
                self.warn(&format!("{job} failed, and the other jobs continue: {error}"));
            }
            Event::JobSkipped { job } => {
                state.leave(job);
                self.say(&format!("{job}: already finished"));
            }
            Event::Warning { job, text } => self.warn(&format!("{job}: {text}")),
            Event::Notice { job, text } => self.say(&format!("{job}: {text}")),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.println(format!("warning: {line}"));
        } else {
            tracing::warn!("{line}");
        }
    }

    fn say(&self, line: &str) {
        if let Some(bar) = &self.bar { bar.println(line) } else { tracing::info!("{line}") }
    }
}

impl BarState {
    fn start(&mut self, job: &str, steps_before: usize, steps: usize) {
        if job == StageKind::Pretrain.to_string() {
            // The next point of a sweep starts. Earlier jobs that are still in the list have failed.
            let at = self.ahead.iter().position(|ahead| ahead.dir == job).unwrap_or(0);
            self.ahead.drain(..at);
        }
        let ahead = self.ahead.iter().find(|ahead| ahead.dir == job);
        self.active.push(ActiveJob {
            dir: job.to_owned(),
            work: ahead.map_or(0.0, |job| job.work),
            effective_batch_size: ahead.map_or(0, |job| job.effective_batch_size),
            step: steps_before,
            steps: steps.max(1),
            steps_at_start: steps_before,
            since: Instant::now(),
        });
        self.since.get_or_insert_with(Instant::now);
    }

    fn update(&mut self, job: &str, step: usize) {
        if let Some(active) = self.active.iter_mut().find(|active| active.dir == job) {
            let steps = step.saturating_sub(active.step);
            self.done += active.work * steps as f64 / active.steps as f64;
            active.step = step;
        }
    }

    fn leave(&mut self, job: &str) {
        self.active.retain(|active| active.dir != job);
        if let Some(at) = self.ahead.iter().position(|ahead| ahead.dir == job) {
            self.ahead.remove(at);
        }
    }

    /// Updates the bar with the steps of all jobs that train now.
    ///
    /// `now` describes the latest update. The bar shows this text only if one job trains.
    fn show(&self, bar: &indicatif::ProgressBar, now: &str) {
        let sum =
            |part: fn(&ActiveJob) -> usize| self.active.iter().map(part).sum::<usize>() as u64;
        bar.set_length(sum(|active| active.steps));
        bar.set_position(sum(|active| active.step));
        let (prefix, now) = match &self.active[..] {
            [only] => (only.dir.clone(), now),
            many => (format!("{} jobs", many.len()), ""),
        };
        bar.set_prefix(prefix);
        let Remaining { images_per_s, left } = self.rest();
        bar.set_message(format!("{now}{images_per_s}{left}"));
    }

    fn rest(&self) -> Remaining {
        let Some(since) = self.since else { return Remaining::default() };
        let (mut job_s, mut images_per_s, mut current) = (0f64, 0.0, 0.0);
        for active in &self.active {
            let steps = active.step - active.steps_at_start;
            if steps == 0 {
                continue;
            }
            let per_step = active.since.elapsed().as_secs_f64() / steps as f64;
            job_s = job_s.max(per_step * (active.steps - active.step.min(active.steps)) as f64);
            images_per_s += active.effective_batch_size as f64 / per_step;
            current += active.work * active.step as f64 / active.steps as f64;
        }
        if images_per_s <= 0.0 || self.done <= 0.0 {
            return Remaining::default();
        }
        let work: f64 = self.ahead.iter().map(|job| job.work).sum();
        let all_s = since.elapsed().as_secs_f64() * (work - current) / self.done;
        let (job, run) = (clock(job_s), clock(all_s.max(job_s)));
        Remaining {
            images_per_s: format!("{images_per_s:.0} images/s  "),
            left: format!("time left: job {job}, run {run}"),
        }
    }
}

/// Speed and time left as text; empty while unknown.
#[derive(Default)]
struct Remaining {
    /// Training images per second of all jobs that train now.
    images_per_s: String,
    /// Time left for the jobs that train now, and for all jobs.
    left: String,
}

fn epoch_line(row: &EpochRow, epochs: usize) -> String {
    let accuracy = row.validation.map_or_else(String::new, |v| {
        format!("  val loss {:.4}  top-1 {:.2} %  top-5 {:.2} %", v.loss, v.acc1, v.acc5)
    });
    format!(
        "epoch {} of {epochs}  loss {:.4}  lr {:.2e}{accuracy}  {:.0} images/s",
        row.epoch, row.train_loss, row.lr, row.images_per_s
    )
}

/// Formats seconds as `12 s`, `3 min 5 s` or `5 h 7 min`.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn times_are_short() {
        assert_eq!([clock(9.6), clock(185.0), clock(18_420.0)], ["10 s", "3 min 5 s", "5 h 7 min"]);
    }
}
