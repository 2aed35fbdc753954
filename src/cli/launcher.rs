//! Launchers such as `mpirun` and `srun`, which start several processes of one command.

use super::CliError;
use crate::train::TrainError;

/// Variables in which OpenMPI, MPICH and Slurm state the number of processes that they started together.
///
/// `SLURM_NTASKS` is not one of them: Slurm also sets it for a process that is started alone in a job of several tasks.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// Fails if a launcher started several processes of this command. Each of them would train its own copy of the run.
pub(super) fn refuse_several() -> Result<(), CliError> {
    match several(|name| std::env::var(name).ok()) {
        None => Ok(()),
        Some((name, size)) => Err(TrainError::Setting {
            problem: format!(
                "cannot run as one of {size} processes ({name} = {size}): this build of mae does not include MPI"
            ),
            hint: format!(
                "start one process, or unset {name} if each process has its own run"
            ),
        }
        .into()),
    }
}

/// Returns the number of processes that a launcher started together and the variable that states it; `None` if there is
/// only one.
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
        assert_eq!(
            of(&[("SLURM_NTASKS", "8")]),
            None,
            "a process that is started alone sees it, too"
        );
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "8")]), Some(("SLURM_STEP_NUM_TASKS", 8)));
    }
}
