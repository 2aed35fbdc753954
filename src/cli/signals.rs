//! Signals that stop a command: Ctrl-C, SIGTERM, SIGHUP (closed terminal), SIGUSR1 (Slurm's warning).

use crate::durable;
use crate::infer::StopFlag;
use std::time::{Duration, Instant};

/// A second signal within this time after the first is ignored.
const TOGETHER: Duration = Duration::from_secs(1);

/// After the first signal, the work gets this much time to stop.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Received {
    first: Option<(Instant, bool)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Stop,
    /// A second signal right after the first: ignored.
    Nothing,
    EndAtOnce,
}

impl Received {
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

/// Requests a stop at the first signal, and exits at the second signal.
///
/// Two signals within one second count as one signal, except two Ctrl-C. The log shows `doing` when the stop begins.
pub(super) fn stop_on_signals(stop: &StopFlag, doing: &'static str) {
    stop_on_signals_or_late(stop, doing, || {});
}

/// Does the same as [`stop_on_signals`], and calls `late` if the work still runs after [`PATIENCE`].
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
        Request::EndAtOnce => {
            durable::remove_names();
            std::process::exit(130)
        }
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

/// Returns whether this process ignores `signal`.
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
