//! Compares the memory that CPU training needs with the memory of the machine.

use super::device::{Backend, ChosenDevice};
use crate::recipe::{Memory, Plan};
use crate::shape::StageKind;
use crate::train::error::TrainError;
use std::fs;
use std::path::Path;

const HINT: &str = "choose a smaller model (`model.size`, `model.embed_dim`, `model.depth`), or a machine with more memory";

/// Fails if a stage needs more CPU memory than this machine has.
///
/// Without this check, a failed allocation would abort the process. A GPU driver returns an error instead, so GPUs need
/// no check.
pub(crate) fn check_memory(
    device: &ChosenDevice,
    plan: &Plan,
    stages: &[StageKind],
    classes: usize,
) -> Result<(), TrainError> {
    match device.backend {
        Backend::Cpu => check_cpu_memory(plan, stages, classes),
        _ => Ok(()),
    }
}

fn check_cpu_memory(plan: &Plan, stages: &[StageKind], classes: usize) -> Result<(), TrainError> {
    let Some((limit, source)) = limit() else { return Ok(()) };
    for stage in stages {
        let (Some(cost), Some(training)) = (plan.cost(*stage, classes), plan.training(*stage))
        else {
            continue;
        };
        let Memory { params, gradients, optimizer, activations } = cost.memory;
        // The CPU computes only a few images at a time. So the estimate counts the activations of one image.
        let activations = activations / training.batch_size as f64;
        let needed = params + gradients + optimizer + activations;
        if needed > limit as f64 {
            let problem = format!(
                "cannot run {stage}: this stage needs at least {} of memory, but {source} {}\n  parameters {}, \
                 gradients {}, optimizer {}, activations of one image {}",
                gib(needed),
                gib(limit as f64),
                gib(params),
                gib(gradients),
                gib(optimizer),
                gib(activations)
            );
            return Err(TrainError::Setting { problem, hint: HINT.to_owned() });
        }
    }
    Ok(())
}

fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / f64::from(1u32 << 30))
}

/// Returns the memory limit of this process in bytes, and its description for messages.
fn limit() -> Option<(u64, &'static str)> {
    let machine = memory_total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let all = [
        (Some(machine), "this machine has"),
        (group, "the control group (container) limits the memory to"),
        (address_space(&limits), "the limit of the address space (`ulimit -v`) is"),
    ];
    all.into_iter().filter_map(|(bytes, source)| Some((bytes?, source))).min_by_key(|all| all.0)
}

/// Parses `MemTotal` of `/proc/meminfo`, in bytes.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Parses the soft address-space limit of `/proc/self/limits`, in bytes.
fn address_space(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the smallest memory limit of this process's control groups, in bytes.
///
/// `groups` is the text of `/proc/self/cgroup`. `root` is the folder where the control groups are mounted.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container, `path` may exist only on the host. `ancestors` ends with the root, which always exists.
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(root.join(folder).join(file)).unwrap_or_default();
            let limit: Option<u64> = text.trim().parse().ok();
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            crate::durable::write(&dir.path().join(path), text.as_bytes()).unwrap();
        };
        let v2 = "0::/a/b\n";
        assert_eq!(group_limit(v2, dir.path()), None);
        put("a/b/memory.max", "max\n");
        assert_eq!(group_limit(v2, dir.path()), None);
        put("a/memory.max", "1000\n");
        put("memory.max", "5000\n");
        assert_eq!(group_limit(v2, dir.path()), Some(1000));
        let v1 = "9:name=systemd:/\n4:cpu,memory:/job\n0::/elsewhere\n";
        assert_eq!(group_limit(v1, dir.path()), Some(5000));
        put("memory/job/memory.limit_in_bytes", "70\n");
        assert_eq!(group_limit(v1, dir.path()), Some(70));
        assert_eq!(group_limit("damaged\n::\n", dir.path()), Some(5000));
    }

    #[test]
    fn limits_are_read_in_bytes() {
        assert_eq!(
            memory_total("MemTotal:       24683652 kB\nMemFree: 1 kB\n"),
            Some(25_276_059_648)
        );
        let limits = "Max locked memory         65536   65536   bytes\nMax address space         1048576   unlimited  bytes\n";
        assert_eq!(address_space(limits), Some(1_048_576));
        assert_eq!(address_space("Max address space  unlimited  unlimited  bytes"), None);
    }
}
