//! Prints a plan as text: the recipe as TOML, and the jobs as comments.

use super::job::{PlannedJob, PlannedRun, sum};
use super::price::Price;
use crate::recipe::{self, Plan, Resolved};
use crate::results::count;
use crate::run::JobState;
use std::fmt::Write as _;
use std::path::Path;

/// Returns the text of `mae plan`: the recipe, then the jobs of all runs.
pub(super) fn text(
    resolved: &Resolved,
    runs: &[PlannedRun],
    price: &Price,
    folder: &Path,
) -> String {
    let first = resolved.points.first().expect("a resolved recipe has at least one point");
    let mut text = format!("{}\n", recipe::recipe_toml(&first.recipe));
    if !resolved.swept.is_empty() {
        let _ = writeln!(
            text,
            "# This is the recipe of the first of {} sweep points. The other recipes differ only in {}.\n",
            runs.len(),
            resolved.swept.join(", ")
        );
    }
    for (point, run) in resolved.points.iter().zip(runs) {
        of_run(&mut text, &point.plan, run, folder);
    }
    let _ = writeln!(text, "# time estimate: {}", price.words());
    if let (true, Some(all)) = (runs.len() > 1, sum(runs.iter().map(|run| run.wall_s))) {
        let _ =
            writeln!(text, "# time left for all {} sweep points: {}", runs.len(), duration(all));
    }
    text.trim_end().to_owned()
}

fn of_run(text: &mut String, plan: &Plan, run: &PlannedRun, folder: &Path) {
    let _ = writeln!(
        text,
        "# jobs of {}{}",
        folder.join(&plan.name).display(),
        schedule(plan, &run.jobs)
    );
    let _ = writeln!(
        text,
        "# {:<28} {:>6} {:>9} {:>10} {:>9} {:>12}  state",
        "job", "epochs", "eff.batch", "lr", "steps", "time"
    );
    for job in &run.jobs {
        let indent = if job.after.is_some() { "  " } else { "" };
        let _ = writeln!(
            text,
            "# {:<28} {:>6} {:>9} {:>10.4e} {:>9} {:>12}  {}",
            format!("{indent}{}", job.dir),
            job.epochs,
            job.effective_batch_size,
            job.lr,
            job.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string()),
            job.wall_s.map_or_else(|| "?".to_owned(), duration),
            state(&job.state, folder)
        );
    }
    of_stages(text, &run.jobs);
    of_disk(text, &run.jobs);
    of_network(text, plan, &run.jobs);
    let left = run.wall_s.map_or_else(|| "unknown".to_owned(), duration);
    let _ = writeln!(text, "# time left: {left}\n");
}

/// Writes parameters, FLOPs and memory of each stage.
fn of_stages(text: &mut String, jobs: &[PlannedJob]) {
    let _ = writeln!(
        text,
        "# {:<9} {:>10} {:>22} {:>50}",
        "stage",
        "params M",
        "GFLOPs/image fwd/train",
        "GiB/device: params + grads + optimizer + activations"
    );
    for job in first_of_stages(jobs) {
        let gib = |bytes: f64| bytes / f64::from(1u32 << 30);
        let memory = job.memory;
        let _ = writeln!(
            text,
            "# {:<9} {:>10.3} {:>22} {:>50}",
            job.stage,
            job.params as f64 / 1e6,
            format!("{} / {}", giga(job.flops_per_image), giga(job.train_flops_per_image)),
            format!(
                "{:.2} = {:.2} + {:.2} + {:.2} + {:.2}",
                gib(job.memory_bytes),
                gib(memory.params),
                gib(memory.gradients),
                gib(memory.optimizer),
                gib(memory.activations)
            )
        );
    }
}

fn first_of_stages(jobs: &[PlannedJob]) -> impl Iterator<Item = &PlannedJob> {
    let is_first = |at: usize| jobs[..at].iter().all(|job| job.stage != jobs[at].stage);
    jobs.iter().enumerate().filter(move |(at, _)| is_first(*at)).map(|(_, job)| job)
}

fn of_disk(text: &mut String, jobs: &[PlannedJob]) {
    let sum = |bytes: fn(&PlannedJob) -> f64| jobs.iter().map(bytes).sum::<f64>();
    let (all, optimizer) = (sum(|job| job.disk_bytes), sum(|job| job.disk_optimizer_bytes));
    let of_it = if optimizer > 0.0 {
        format!(", including {} of optimizer state (`pretrain.keep_optimizer`)", size(optimizer))
    } else {
        String::new()
    };
    let _ = writeln!(text, "# disk: {} for checkpoints{of_it}", size(all));
}

/// Writes a line for each stage with the gradients that the hosts of a run exchange.
///
/// A job that a device trains alone exchanges none.
fn of_network(text: &mut String, plan: &Plan, jobs: &[PlannedJob]) {
    if plan.runtime.hosts == 1 {
        return;
    }
    let is_shared = |job: &&PlannedJob| job.schedule == Some("data-parallel");
    for job in first_of_stages(jobs).filter(is_shared).filter(|job| job.steps.is_some()) {
        let share = job.communication.map_or_else(
            || "an unknown share".to_owned(),
            |share| format!("about {:.1} %", 100.0 * share),
        );
        let _ = writeln!(
            text,
            "# network, {}: in each update, each of {} hosts sums {} of gradients and sends {}. This takes {share} of the time at {} Gbit/s",
            job.stage,
            job.hosts,
            size(job.reduced_bytes),
            size(job.wire_bytes),
            plan.runtime.network(1).gbit
        );
    }
}

fn size(bytes: f64) -> String {
    let mib = bytes / f64::from(1u32 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

fn giga(flops: f64) -> String {
    let giga = flops / 1e9;
    if giga >= 1.0 { format!("{giga:.2}") } else { format!("{giga:.4}") }
}

fn state(state: &JobState, folder: &Path) -> String {
    match state {
        JobState::ToDo => "to do".to_owned(),
        JobState::Begun { epochs } => format!("{} done", count(*epochs, "epoch")),
        JobState::GoesOn { epochs } => format!("to do from epoch {}", epochs + 1),
        JobState::Done => "done".to_owned(),
        JobState::Shared { with } => {
            format!("copied from {} (same job)", folder.join(with).display())
        }
    }
}

/// Describes how the devices share the jobs; empty for one device.
fn schedule(plan: &Plan, jobs: &[PlannedJob]) -> String {
    let is_job_parallel = jobs.iter().any(|job| job.schedule == Some("job-parallel"));
    let (devices, hosts) = (plan.runtime.devices, plan.runtime.hosts);
    match plan.runtime.world_size() {
        1 => String::new(),
        n if plan.runtime.hosts > 1 && is_job_parallel => format!(
            ": pre-training on all {n} devices of {hosts} hosts together, then one job on each device (job-parallel, \
             {devices} on each host)"
        ),
        n if plan.runtime.hosts > 1 => format!(
            ": each on all {n} devices of {hosts} hosts together (data-parallel, {devices} on each host)"
        ),
        n if is_job_parallel => format!(
            ": pre-training on all {n} devices together, then one job on each device (job-parallel)"
        ),
        n => format!(": each job on all {n} devices together (data-parallel)"),
    }
}

/// Formats seconds in two units, such as `2 h 1 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 9.95 => format!("{seconds:.1} s"),
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_time_has_its_two_largest_units() {
        let texts = [0.04, 59.0, 61.0, 7_260.0, 180_000.0].map(duration);
        assert_eq!(texts, ["0.0 s", "59 s", "1 min 1 s", "2 h 1 min", "2 d 2 h"]);
    }
}
