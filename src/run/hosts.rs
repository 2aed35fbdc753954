//! A run on several hosts. Host 0 decides what happens and writes all files. The other hosts follow its commands.
//!
//! Before a run, all hosts check that they run the same program on the same recipe and the same data.

use super::helper::help;
use super::measures::{Measurement, measure_with_host_0, measures_knn};
use super::preflight::{CheckedPoint, JobState};
use super::runner::{RunOptions, Runner};
use super::schedule::{self, JobContextMaker};
use crate::durable::Content;
use crate::recipe::{self, Recipe, Resolved};
use crate::results::StartLayout;
use crate::train::{
    ChosenDevice, DeviceThreads, HostCause, Hosts, RowWritten, RunContext, TrainError,
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A command that host 0 sends to the other hosts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// Check the devices for the run with index `point` in the sweep.
    CheckDevice { point: usize },
    /// Train a job of a sweep point together.
    Train(JobOrder),
    /// Train jobs of a sweep point, each on one device of one host. Host 0 then hands out the jobs.
    ShareJobs(PointOrder),
    /// Measure a checkpoint of a sweep point.
    Measure { point: usize, measurement: Measurement },
    /// All checkpoints are measured, so that the pre-training can continue.
    Measured,
    /// End the run.
    Finish,
}

/// A job to train.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JobOrder {
    pub of: PointOrder,
    /// Folder of the job, such as `finetune/from-0800`.
    pub job: String,
}

/// Information from host 0 about a sweep point.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PointOrder {
    pub point: usize,
    pub layouts: Vec<StartLayout>,
    /// Hash of `provenance.json` in the run folder.
    pub provenance: String,
}

/// Values that must be equal on all hosts.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HostFacts {
    version: String,
    /// The options of the command that must be the same on all hosts, such as `--fresh`.
    options: Vec<String>,
    /// Hash of the recipes of all sweep points.
    recipes: String,
    /// Recipe of the first run in the sweep, as TOML.
    recipe: String,
    /// Data fingerprint of each run in the sweep; `None` if the data was not opened.
    data: Vec<Option<String>>,
    /// Folder and state of each job.
    jobs: Vec<(String, JobState)>,
}

/// Returns the version of this program, and the commit that it was built from.
pub fn build_name() -> String {
    let name = format!("{} {}", env!("CARGO_PKG_VERSION"), env!("BUILT_FROM_COMMIT"));
    name.trim_end().to_owned()
}

/// Sends a command to the other hosts.
pub(super) fn tell(hosts: &Hosts, command: &Command) -> Result<(), TrainError> {
    if hosts.count() > 1 {
        hosts.exchange(serde_json::to_vec(command).expect("commands are valid JSON"))?;
    }
    Ok(())
}

/// Waits for the next command of host 0.
fn receive(hosts: &Hosts) -> Result<Command, TrainError> {
    let messages = hosts.exchange(Vec::new())?;
    Ok(serde_json::from_slice(&messages[0]).expect("host 0 sends commands"))
}

/// Returns a function that measures new pre-training checkpoints together with host 0, on another host.
fn measure_kept(work: &RunContext) -> RowWritten {
    let work = work.clone();
    Arc::new(move || {
        while measures_knn(&work) {
            match receive(&work.hosts)? {
                Command::Measure { measurement, .. } => measure_with_host_0(&work, &measurement)?,
                _ => break,
            }
        }
        Ok(())
    })
}

/// Returns the hash of the run's `provenance.json`. Equal hashes show that all hosts see the same run folder.
pub(super) fn provenance_hash(run: &Path) -> String {
    Content::of_file(&run.join("provenance.json")).map(|content| content.blake3).unwrap_or_default()
}

/// On drop, sends [`Command::Finish`] to the other hosts and disconnects.
pub(super) struct Finish<'a>(pub &'a Hosts);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // If a host is no longer connected, this command fails without consequences.
        let _ = tell(self.0, &Command::Finish);
        // Disconnect early, because the remaining work of host 0 may take long.
        self.0.disconnect();
    }
}

/// Fails on all hosts if version, recipe, data or run folder differ between the hosts.
///
/// If `refusal` is set, this host cannot run, and all hosts fail.
pub(super) fn check_same(
    hosts: &Hosts,
    options: &RunOptions,
    (resolved, points): (&Resolved, &[CheckedPoint]),
    refusal: Option<HostCause>,
) -> Result<(), TrainError> {
    if hosts.count() == 1 {
        return Ok(());
    }
    if refusal.is_some() {
        return hosts.end(refusal);
    }
    let own = HostFacts::new(options, resolved, points);
    let own = serde_json::to_vec(&own).expect("facts are valid JSON");
    let all = hosts.exchange(own)?;
    let all = all.iter().map(|facts| serde_json::from_slice::<HostFacts>(facts));
    // Another version of mae may send other facts, which do not parse.
    let all: Vec<Option<HostFacts>> = all.map(Result::ok).collect();
    hosts.end(None)?;
    let first = all[0].as_ref();
    let differs = |facts: &Option<HostFacts>| facts.is_none() || facts.as_ref() != first;
    match (first, all.iter().position(differs)) {
        (Some(first), Some(host)) => Err(TrainError::Setting {
            problem: format!(
                "cannot run on {} hosts: rank {host} on host {} {}",
                hosts.count(),
                hosts.name(host),
                first.difference(all[host].as_ref())
            ),
            hint: "use the same program, options, recipe, environment variables and data on all hosts. Use one shared folder for `--runs`"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

impl HostFacts {
    fn new(options: &RunOptions, resolved: &Resolved, points: &[CheckedPoint]) -> Self {
        let recipes = resolved.points.iter().map(|point| recipe::recipe_toml(&point.recipe));
        let recipes: Vec<String> = recipes.collect();
        let jobs = points.iter().flat_map(|point| {
            point
                .jobs
                .iter()
                .map(|job| (point.path.join(&job.job.dir).display().to_string(), job.state.clone()))
        });
        Self {
            version: build_name(),
            options: shared_options(options),
            recipes: Content::of(recipes.concat().as_bytes()).blake3,
            recipe: recipes.into_iter().next().unwrap_or_default(),
            data: points.iter().map(|p| p.data.as_ref().map(|d| d.fingerprint.clone())).collect(),
            jobs: jobs.collect(),
        }
    }

    /// Describes how `other` differs from `self`, the facts of host 0.
    fn difference(&self, other: Option<&Self>) -> String {
        let Some(other) = other else {
            return format!("has a different version of mae, but rank 0 has mae {}", self.version);
        };
        if other.version != self.version {
            return format!("has mae {}, but rank 0 has mae {}", other.version, self.version);
        }
        if let Some(option) = other.options.iter().find(|option| !self.options.contains(option)) {
            return format!("was started with `{option}`, but rank 0 was not");
        }
        if let Some(option) = self.options.iter().find(|option| !other.options.contains(option)) {
            return format!("was started without `{option}`, but rank 0 was started with it");
        }
        if other.recipes != self.recipes {
            return format!(
                "has a different recipe{}",
                recipe_difference(&self.recipe, &other.recipe)
            );
        }
        if other.data != self.data {
            return "reads different data than rank 0 (the fingerprints differ)".to_owned();
        }
        let own = self.jobs.iter().find(|job| !other.jobs.contains(job));
        let job = own.map_or("the run folder", |(folder, _)| folder.as_str());
        format!("sees a different state of {job} than rank 0")
    }
}

/// Returns the options of the command that must be the same on all hosts.
///
/// Only host 0 acts on `--fresh` and `--break-lock`, so a host that alone has one of them was started by mistake.
fn shared_options(options: &RunOptions) -> Vec<String> {
    let RunOptions { fresh, break_lock, only, .. } = options;
    let flags = [(*fresh, "--fresh"), (*break_lock, "--break-lock")];
    let given =
        flags.into_iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag.to_owned());
    given.chain(only.map(|stage| format!("--stage {stage}"))).collect()
}

/// Lists the recipe keys with different values, in parentheses; empty if there are none.
fn recipe_difference(first: &str, other: &str) -> String {
    let (Ok(first), Ok(other)) = (toml::from_str::<Recipe>(first), toml::from_str::<Recipe>(other))
    else {
        return String::new();
    };
    let differences = recipe::differences(&first, &other);
    let keys = differences.iter().map(|(key, first, other)| format!("{key}: {other}, not {first}"));
    let keys: Vec<String> = keys.collect();
    if keys.is_empty() { String::new() } else { format!(" ({})", keys.join("; ")) }
}

impl Runner<'_> {
    /// Executes the commands of host 0 until [`Command::Finish`] arrives.
    pub(super) fn follow(
        &self,
        resolved: &Resolved,
        points: &[CheckedPoint],
        device_threads: &DeviceThreads,
    ) -> Result<(), TrainError> {
        let mut device = None;
        loop {
            // Host 0 gets the errors of this host and decides what follows.
            match receive(&self.hosts)? {
                Command::CheckDevice { point } => {
                    let data = points[point].data.as_deref().expect("the preflight opens the data");
                    let plan = &resolved.points[point].plan;
                    let checked = self.check_device_here(plan, data, device_threads);
                    device = self.hosts.end_job(checked).ok();
                }
                Command::Train(order) => {
                    let work = self.follower_context(resolved, points, device.clone(), &order.of);
                    let _ = match work {
                        Ok(work) => {
                            let job = work.plan.jobs().into_iter().find(|job| job.dir == order.job);
                            let job = job.expect("all hosts have the same recipe");
                            let context = JobContextMaker {
                                checkpoint_kept: measure_kept(&work),
                                ..JobContextMaker::silent()
                            };
                            schedule::train(&work, job, &context, device_threads)
                        }
                        Err(error) => self.hosts.end_job(Err(error)),
                    };
                }
                Command::ShareJobs(order) => {
                    let work = self.follower_context(resolved, points, device.clone(), &order);
                    let helped = work.and_then(|work| help(&work, device_threads));
                    let _ = self.hosts.end_job(helped);
                }
                Command::Measure { point, measurement } => {
                    let place = (resolved, points, point);
                    let work = self.follower_work(place, device.clone(), &[]);
                    let _ = measure_with_host_0(&work, &measurement);
                }
                Command::Measured => {}
                Command::Finish => return Ok(()),
            }
        }
    }

    fn follower_context(
        &self,
        resolved: &Resolved,
        points: &[CheckedPoint],
        device: Option<ChosenDevice>,
        order: &PointOrder,
    ) -> Result<RunContext, TrainError> {
        let run = &points[order.point].path;
        wait_until(run, || provenance_hash(run) == order.provenance)?;
        Ok(self.follower_work((resolved, points, order.point), device, &order.layouts))
    }

    fn follower_work(
        &self,
        (resolved, points, index): (&Resolved, &[CheckedPoint], usize),
        device: Option<ChosenDevice>,
        layouts: &[StartLayout],
    ) -> RunContext {
        let point = &points[index];
        let data = point.data.clone().expect("the preflight opens the data");
        let device = device.expect("host 0 first checks the devices");
        self.context((resolved, index), point, data, device, layouts)
    }
}

/// Waits until a file of host 0 is visible on this host, in the run folder `run`. Fails after 90 seconds.
pub(super) fn wait_until(run: &Path, is_visible: impl Fn() -> bool) -> Result<(), TrainError> {
    // NFS caches the attributes of a folder for up to 60 seconds.
    const PATIENCE: Duration = Duration::from_secs(90);
    let since = Instant::now();
    while !is_visible() {
        if since.elapsed() > PATIENCE {
            return Err(TrainError::Setting {
                problem: format!("cannot find the run folder of rank 0 on this host: {}", run.display()),
                hint: "put the folder of all runs (`--runs DIR`) on a file system that all hosts share"
                    .to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
