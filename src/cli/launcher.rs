//! Launchers such as `mpirun` and `srun`, which start several processes of one command.

use super::CliError;
use super::recipe_args::{self, RecipeArgs};
use crate::recipe::{Missing, Resolved};
use crate::train::{HostCause, Hosts, TrainError};

/// Environment variables with the number of processes that `mpirun` or `srun` has started together.
///
/// `SLURM_NTASKS` is not in this list: Slurm also sets it for a single process in a job of several tasks.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// Returns the number of processes that `mpirun` or `srun` has started together, including this process.
pub(super) fn processes() -> usize {
    several(|name| std::env::var(name).ok()).map_or(1, |(_, size)| size)
}

/// Connects this process with the other processes that `mpirun` or `srun` has started.
///
/// Fails if there are other processes and this build has no MPI. Each process would then train its own copy of the run.
pub(super) fn connect() -> Result<Hosts, CliError> {
    match several(|name| std::env::var(name).ok()) {
        None => Ok(Hosts::default()),
        Some((name, size)) => connect_all(name, size),
    }
}

#[cfg(feature = "mpi")]
fn connect_all(name: &str, size: usize) -> Result<Hosts, CliError> {
    let hosts = Hosts::connect(super::output::error)?;
    if hosts.count() == size {
        return Ok(hosts);
    }
    Err(setting(
        format!(
            "cannot run as one of {size} processes ({name} = {size}): MPI connects {} of these processes",
            hosts.count()
        ),
        "start the processes with the `mpirun` of the MPI library that mae was built with, or with `srun --mpi=pmix`".to_owned(),
    ))
}

#[cfg(not(feature = "mpi"))]
fn connect_all(name: &str, size: usize) -> Result<Hosts, CliError> {
    Err(setting(
        format!(
            "cannot run as one of {size} processes ({name} = {size}): this build of mae does not include MPI"
        ),
        format!(
            "build mae with `--features mpi`, or start only one process. If each process has its own run, unset `{name}`"
        ),
    ))
}

/// Resolves a recipe on all hosts. If this fails on one host, it fails on all hosts.
pub(super) fn resolve(
    args: &RecipeArgs,
    missing: Missing,
    hosts: &Hosts,
) -> Result<Resolved, CliError> {
    let resolved = recipe_args::resolve(&args.recipe, &args.set, missing).and_then(|resolved| {
        check_hosts(&resolved, hosts)?;
        Ok(resolved)
    });
    all_ready(hosts, resolved)
}

/// Waits until all hosts have prepared the same work. If this fails on one host, it fails on all hosts.
pub(super) fn all_ready<T>(hosts: &Hosts, ready: Result<T, CliError>) -> Result<T, CliError> {
    let cause =
        |error: &CliError| HostCause { text: error.to_string(), is_input: error.exit_code() == 2 };
    let other = hosts.end(ready.as_ref().err().map(cause));
    let ready = ready?;
    other?;
    Ok(ready)
}

/// Fails on all hosts if a fact of a host differs from that of rank 0. A fact has a name and a value.
///
/// All hosts must call this function with the same names.
pub(super) fn check_same(hosts: &Hosts, facts: &[(&str, String)]) -> Result<(), CliError> {
    let values: Vec<&String> = facts.iter().map(|(_, value)| value).collect();
    let all = hosts.exchange(serde_json::to_vec(&values).expect("texts are valid JSON"))?;
    for (rank, message) in all.iter().enumerate().skip(1) {
        let (first, own): (Vec<String>, Vec<String>) = (from_json(&all[0]), from_json(message));
        let Some(differs) = (0..facts.len()).find(|&fact| first.get(fact) != own.get(fact)) else {
            continue;
        };
        return Err(setting(
            format!(
                "cannot run on {} hosts: rank {rank} on host {} has a different {} than rank 0",
                hosts.count(),
                hosts.name(rank),
                facts[differs].0
            ),
            "give all hosts the same program, arguments, environment, files and data",
        ));
    }
    Ok(())
}

/// Reads the facts of a host; none if it runs a different version.
fn from_json(message: &[u8]) -> Vec<String> {
    serde_json::from_slice(message).unwrap_or_default()
}

/// Fails if `runtime.hosts` of the recipe is not the number of started processes.
fn check_hosts(resolved: &Resolved, hosts: &Hosts) -> Result<(), TrainError> {
    let planned = resolved.points.iter().map(|point| point.plan.runtime.hosts);
    let Some(planned) = planned.into_iter().find(|planned| *planned != hosts.count()) else {
        return Ok(());
    };
    let started = match hosts.count() {
        1 => "1 process was started".to_owned(),
        count => format!("{count} processes were started"),
    };
    Err(TrainError::Setting {
        problem: format!("cannot run with runtime.hosts = {planned}: {started}"),
        hint: format!(
            "add `--set runtime.hosts={}`, or start {planned} processes with `mpirun -n {planned}` or `srun`. To keep the \
             effective batch size, change `accum_iter`",
            hosts.count()
        ),
    })
}

fn setting(problem: String, hint: impl Into<String>) -> CliError {
    TrainError::Setting { problem, hint: hint.into() }.into()
}

/// Returns the launcher's environment variable and the number of processes.
///
/// `None` means that this process runs alone.
fn several(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, usize)> {
    let size = |name: &'static str| Some((name, variable(name)?.trim().parse().ok()?));
    SIZES.into_iter().filter_map(size).find(|(_, size)| *size > 1)
}

#[cfg(test)]
mod tests {
    use super::several;

    #[test]
    fn the_launcher_states_the_number_of_processes() {
        let of = |set: &[(&str, &str)]| {
            several(|name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, size)| (*size).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1"), ("PMI_SIZE", "x")]), None);
        assert_eq!(of(&[("PMI_SIZE", "4")]), Some(("PMI_SIZE", 4)));
        assert_eq!(of(&[("SLURM_NTASKS", "8")]), None, "a process that starts alone sees it, too");
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "8")]), Some(("SLURM_STEP_NUM_TASKS", 8)));
    }
}
