//! Signals that ask a command to stop: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), and Slurm's warning (SIGUSR1).

use crate::infer::StopFlag;
use std::time::{Duration, Instant};

/// Time after the first signal in which a second signal is ignored, unless both are Ctrl-C.
///
/// `timeout`, `kill` and a closed terminal often send two signals.
const TOGETHER: Duration = Duration::from_secs(1);

/// Time after the first signal in which the work can stop normally, such as after the update in progress of a run.
const PATIENCE: Duration = Duration::from_secs(5);

/// The signals received so far.
#[derive(Debug, Default)]
struct Received {
    first: Option<(Instant, bool)>,
}

/// What the program does when it receives a signal.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Stop,
    /// The signal repeats the first request, so it is ignored.
    Nothing,
    EndAtOnce,
}

impl Received {
    /// Returns what the program does after a signal. `is_ctrl_c` is true if the user pressed Ctrl-C at a terminal.
    fn take(&mut self, now: Instant, is_ctrl_c: bool) -> Request {
        let Some((first, was_ctrl_c)) = self.first else {
            self.first = Some((now, is_ctrl_c));
            return Request::Stop;
        };
        if now.duration_since(first) >= TOGETHER || was_ctrl_c && is_ctrl_c {
            Request::EndAtOnce
        } else {
            Request::Nothing
        }
    }
}

/// Requests a stop at the first signal, and exits immediately at the second signal.
///
/// A second signal within [`TOGETHER`] exits only if both are Ctrl-C at a terminal. `doing` describes how the work stops, for
/// the log line of the first signal.
pub(super) fn stop_on_signals(stop: &StopFlag, doing: &'static str) {
    stop_on_signals_or_late(stop, doing, || {});
}

/// Stops like [`stop_on_signals`], and calls `late` if the work has not stopped in time.
///
/// The work has the time [`PATIENCE`] after the first signal.
pub(super) fn stop_on_signals_or_late(
    stop: &StopFlag,
    doing: &'static str,
    late: impl FnOnce() + Send + 'static,
) {
    let (asked, mut received, mut late) = (stop.clone(), Received::default(), Some(late));
    let handle = move |name: &str, is_ctrl_c: bool| match received.take(Instant::now(), is_ctrl_c) {
        Request::Stop => {
            asked.request();
            tracing::warn!("{name}: {doing}; a second Ctrl-C stops immediately");
            if let Some(late) = late.take() {
                std::thread::spawn(move || {
                    std::thread::sleep(PATIENCE);
                    late();
                });
            }
        }
        Request::Nothing => {}
        Request::EndAtOnce => std::process::exit(130),
    };
    if let Err(error) = listen(handle) {
        tracing::warn!(
            "cannot receive signals: {error}; Ctrl-C will stop the command without saving"
        );
    }
}

#[cfg(unix)]
fn listen(mut handle: impl FnMut(&str, bool) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use std::io::IsTerminal;
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    // `nohup` ignores SIGHUP, so that the program outlives its terminal. A handler would undo this.
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    let at_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            let name = match signal {
                SIGINT => "interrupted",
                SIGTERM => "SIGTERM received",
                SIGHUP => "SIGHUP received",
                _ => "SIGUSR1 received",
            };
            handle(name, signal == SIGINT && at_terminal);
        }
    })?;
    Ok(())
}

/// Returns whether this process ignores `signal` because its parent process started it that way.
///
/// Always returns false except on Linux.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(not(unix))]
fn listen(mut handle: impl FnMut(&str, bool) + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(move || handle("interrupted", true)).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::{Received, Request};
    use std::time::{Duration, Instant};

    #[test]
    fn two_signals_within_a_second_are_one_unless_somebody_pressed_ctrl_c_twice() {
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let mut received = Received::default();
        assert_eq!(received.take(start, false), Request::Stop);
        assert_eq!(received.take(after(20), false), Request::Nothing);
        assert_eq!(received.take(after(20), true), Request::Nothing);
        assert_eq!(received.take(after(1000), false), Request::EndAtOnce);
        let mut received = Received::default();
        assert_eq!(received.take(start, true), Request::Stop);
        assert_eq!(received.take(after(20), false), Request::Nothing);
        assert_eq!(received.take(after(20), true), Request::EndAtOnce);
    }
}
