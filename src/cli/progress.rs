//! Progress on stderr: a bar on a terminal, a log line an epoch where stderr is a file or a pipe.

use crate::recipe::Resolved;
use crate::recipe::StageKind;
use crate::runs::EpochRow;
use crate::train::Event;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

/// Shows a run's events.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    state: RefCell<State>,
}

/// Where the whole recipe is. Work is counted in forward FLOPs, so that stages of different cost add up.
struct State {
    /// Work of each job that is still ahead, in running order: folder, work of its every epoch, epochs.
    ahead: Vec<JobWork>,
    /// Work done by this process, and since when.
    done: f64,
    since: Option<Instant>,
    /// Epoch and step of the latest update.
    step: usize,
    steps: usize,
    steps_at_start: usize,
    job_since: Instant,
    images: usize,
}

struct JobWork {
    dir: String,
    work: f64,
    effective_batch_size: usize,
}

impl Progress {
    pub(super) fn new(resolved: &Resolved, only: Option<StageKind>) -> Self {
        let style = ProgressStyle::with_template("{prefix:.bold} {bar:24} {msg}")
            .expect("the template is valid");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let ahead = resolved.points.iter().flat_map(|point| {
            let plan = &point.plan;
            let jobs = plan.jobs().into_iter();
            jobs.filter(move |job| only.is_none_or(|stage| stage == job.stage)).map(move |job| {
                let training = plan.training(job.stage).expect("a job's stage is in the plan");
                let flops = plan.cost(job.stage, 1000).map_or(0.0, |cost| cost.flops_per_image);
                // Backward costs two forwards; a frozen encoder has none.
                let passes = if job.stage == StageKind::Linprobe { 1.0 } else { 3.0 };
                JobWork {
                    dir: job.dir,
                    work: flops * passes * training.epochs as f64,
                    effective_batch_size: training.effective_batch_size,
                }
            })
        });
        let state = State {
            ahead: ahead.collect(),
            done: 0.0,
            since: None,
            step: 0,
            steps: 1,
            steps_at_start: 0,
            job_since: Instant::now(),
            images: 0,
        };
        Self { bar, state: RefCell::new(state) }
    }

    pub(super) fn show(&self, event: &Event<'_>) {
        match event {
            Event::JobStarted { job, epoch, epochs, steps_before, steps } => {
                self.state.borrow_mut().start(job, *steps_before, *steps);
                match &self.bar {
                    Some(bar) => {
                        bar.set_length(*steps as u64);
                        bar.set_prefix((*job).to_owned());
                    }
                    None if *steps_before > 0 => {
                        tracing::info!("{job}: going on in epoch {epoch} of {epochs}");
                    }
                    None => tracing::info!("{job}: {epochs} epochs, {steps} steps"),
                }
            }
            Event::Updated { epoch, step, loss, lr, .. } => {
                self.state.borrow_mut().update(*step);
                if let Some(bar) = &self.bar {
                    bar.set_position(*step as u64);
                    let loss = loss.map_or_else(String::new, |loss| format!("loss {loss:.4}  "));
                    let rest = self.state.borrow().rest();
                    bar.set_message(format!("epoch {epoch}  {loss}lr {lr:.2e}  {rest}"));
                }
            }
            Event::EpochDone { job, epochs, row } => {
                let line = format!("{job}: {}", epoch_line(row, *epochs));
                match &self.bar {
                    Some(bar) if row.epoch == *epochs => bar.println(line),
                    Some(_) => {}
                    None => tracing::info!("{line}  {}", self.state.borrow().rest()),
                }
            }
            Event::JobDone { .. } => self.state.borrow_mut().leave(),
            Event::JobSkipped { job } => {
                self.state.borrow_mut().skip(job);
                self.say(&format!("{job}: done before"));
            }
            Event::Notice { job, text } => self.say(&format!("{job}: {text}")),
        }
    }

    /// Clears the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        if let Some(bar) = &self.bar { bar.println(line) } else { tracing::info!("{line}") }
    }
}

impl State {
    fn start(&mut self, job: &str, steps_before: usize, steps: usize) {
        self.skip_to(job);
        self.step = steps_before;
        self.steps_at_start = steps_before;
        self.steps = steps.max(1);
        self.job_since = Instant::now();
        self.since.get_or_insert_with(Instant::now);
        self.images = self.ahead.first().map_or(0, |job| job.effective_batch_size);
    }

    fn update(&mut self, step: usize) {
        let work = self.ahead.first().map_or(0.0, |job| job.work);
        self.done += work * step.saturating_sub(self.step) as f64 / self.steps as f64;
        self.step = step;
    }

    fn skip_to(&mut self, job: &str) {
        while self.ahead.first().is_some_and(|first| first.dir != job) {
            self.ahead.remove(0);
        }
    }

    fn skip(&mut self, job: &str) {
        self.skip_to(job);
        self.leave();
    }

    fn leave(&mut self) {
        if !self.ahead.is_empty() {
            self.ahead.remove(0);
        }
    }

    /// Images per second, and the time left of the job and of the whole recipe.
    fn rest(&self) -> String {
        let Some(since) = self.since else { return String::new() };
        let steps = self.step - self.steps_at_start;
        if steps == 0 || self.done <= 0.0 {
            return String::new();
        }
        let per_step = self.job_since.elapsed().as_secs_f64() / steps as f64;
        let job_s = per_step * (self.steps - self.step.min(self.steps)) as f64;
        let work: f64 = self.ahead.iter().map(|job| job.work).sum();
        let current = self.ahead.first().map_or(0.0, |job| job.work);
        let left = work - current * self.step as f64 / self.steps as f64;
        let all_s = since.elapsed().as_secs_f64() * left / self.done;
        let images_per_s = self.images as f64 / per_step;
        let (job, run) = (clock(job_s), clock(all_s.max(job_s)));
        format!("{images_per_s:.0} images/s  left: job {job}, run {run}")
    }
}

fn epoch_line(row: &EpochRow, epochs: usize) -> String {
    let accuracy = row.validation.map_or_else(String::new, |v| {
        format!("  val loss {:.4}  top-1 {:.2}  top-5 {:.2}", v.loss, v.acc1, v.acc5)
    });
    format!(
        "epoch {} of {epochs}  loss {:.4}  lr {:.2e}{accuracy}",
        row.epoch, row.train_loss, row.lr
    )
}

/// Formats seconds as `12 s`, `3:05` (minutes) or `5:07 h`.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02} h", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn times_are_short() {
        assert_eq!([clock(9.6), clock(185.0), clock(18_420.0)], ["10 s", "3:05", "5:07 h"]);
    }
}
