//! The process that holds a lock, as written in the lock file.
//!
//! A lock of the operating system ends with its process. But on some shared file systems, such a lock holds only on one
//! host. So the lock file also names the process that holds the lock.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The process that holds a lock, as written in the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the host on which the process runs.
    pub host: String,
    pub pid: u32,
    /// Start time of the process, in clock ticks since the host started; `None` if unknown.
    pub process_start: Option<u64>,
    /// Linux boot ID of the host. Empty on other systems.
    pub boot: String,
    /// Time when the process took the lock, in seconds since 1970.
    pub since_unix_s: u64,
}

impl Holder {
    /// Describes this process, which takes a lock now.
    pub(super) fn this_process() -> Self {
        let pid = std::process::id();
        Self {
            host: host_name(),
            pid,
            process_start: process_start(pid),
            boot: boot(),
            since_unix_s: now_unix_s(),
        }
    }

    /// Reads the process named in a lock file; `None` if the file names none.
    pub(super) fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers are valid JSON")
    }

    /// Returns whether the process ran on this host. The process may have ended.
    pub(super) fn is_of_this_host(&self) -> bool {
        self.host == host_name() || !self.boot.is_empty() && self.boot == boot()
    }

    /// Returns whether the holder is another process on this host and still runs.
    ///
    /// Always false on systems other than Linux.
    pub(super) fn is_running_here(&self) -> bool {
        self.process_start.is_some()
            && self.pid != std::process::id()
            && self.boot == boot()
            && process_start(self.pid) == self.process_start
    }
}

/// Returns the current time in seconds since 1970.
pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the name of this host.
#[cfg(unix)]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the name of this host.
#[cfg(not(unix))]
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Returns the start time in clock ticks since boot; `None` if the process is not running.
fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // In `/proc/PID/stat`, field 2 is the name in parentheses, field 3 the state and field 22 the start time.
    let mut after_name = stat[stat.rfind(')')? + 1..].split_whitespace();
    // A killed process stays a zombie until its parent asks for its exit code.
    after_name.next().filter(|state| !matches!(*state, "Z" | "X"))?;
    after_name.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Holder;

    #[test]
    fn a_holder_is_recognized_by_its_host_and_its_start() {
        let own = Holder::this_process();
        assert!(own.is_of_this_host() && !own.is_running_here());
        let elsewhere =
            Holder { host: "elsewhere".to_owned(), boot: "x".to_owned(), ..own.clone() };
        assert!(!elsewhere.is_of_this_host());
        #[cfg(target_os = "linux")]
        {
            let parent = std::os::unix::process::parent_id();
            let of_parent =
                Holder { pid: parent, process_start: super::process_start(parent), ..own };
            assert!(of_parent.is_running_here());
            let mut child = std::process::Command::new("true").spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert_eq!(super::process_start(child.id()), None, "a zombie holds no lock");
            child.wait().unwrap();
            let dead = Holder { process_start: Some(1), ..of_parent };
            assert!(!dead.is_running_here(), "the number now belongs to a different process");
        }
    }
}
