//! All output to stdout and stderr.

use crate::text::printable;
use crate::train::Hosts;
use crate::{infer, ops, results};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Writes a result to stdout, with escaped control characters.
///
/// A pipe that its reader has closed (`| head`) is not an error.
pub(super) fn result(text: &str) -> io::Result<()> {
    line(&printable(text))
}

/// Writes a value to stdout as JSON, on one line.
pub(super) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value).expect("strings, numbers, lists"))
}

fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints one warning that lists all runs without checksums.
pub(super) fn warn_without_checksums<P: AsRef<Path>>(runs: &[P]) {
    let runs: Vec<_> =
        runs.iter().flat_map(|run| results::without_checksums(run.as_ref())).collect();
    let Some(first) = runs.first() else { return };
    let more = match runs.len() - 1 {
        0 => String::new(),
        more => format!(" and {}", results::count(more, "more run")),
    };
    warning(&format!(
        "{}{more}: no checksums (an older version of mae wrote the files), so mae cannot detect damaged files",
        first.display()
    ));
}

/// Writes a warning to stderr.
pub(super) fn warning(text: &str) {
    stderr(&format!("warning: {text}"));
}

/// Writes the error of a command to stderr.
pub(super) fn error(text: &str) {
    stderr(&format!("error: {text}"));
}

/// Starts the log on stderr.
///
/// `MAE_LOG` sets the log level. The default is `info` for this program and `warn` for libraries.
pub(super) fn start_log() {
    start_log_at("warn,mae=info");
}

/// Starts the log of one host. By default, host 0 logs from level `info`, all other hosts from level `warn`.
pub(super) fn start_log_of(hosts: &Hosts) {
    start_log_at(if hosts.is_first() { "warn,mae=info" } else { "warn" });
}

fn start_log_at(default: &str) {
    let chosen = std::env::var("MAE_LOG").ok();
    let level = chosen.as_deref().unwrap_or(default);
    let level = EnvFilter::builder().parse_lossy(level);
    let filter = LineFilter { level, shows_faults: chosen.is_some() };
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // The default would report a failed log line with `eprintln!`, which panics if stderr is closed.
        .log_internal_errors(false)
        .with_filter(filter);
    // Tests may start the log twice. The second start fails and changes nothing.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(Faults.with_filter(LevelFilter::WARN))
        .try_init();
}

/// Selects the log lines on stderr.
///
/// The errors of a device driver end the run, and its last message names the first of them. Without `MAE_LOG`, they are
/// not log lines, because each launch of a broken kernel logs its whole source. The tuner's warnings do, too.
struct LineFilter {
    level: EnvFilter,
    shows_faults: bool,
}

impl<S: Subscriber> Filter<S> for LineFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Filter::<S>::enabled(&self.level, metadata, context)
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        let normal = event.normalized_metadata();
        let metadata = normal.as_ref().unwrap_or_else(|| event.metadata());
        let (level, target) = (*metadata.level(), metadata.target());
        let is_repeated =
            is_fault(level, target) || is_failed_launch(level, target) || is_tuning(level, target);
        (self.shows_faults || !is_repeated)
            && Filter::<S>::event_enabled(&self.level, event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.level)
    }
}

/// A log layer that stops the run if a device driver logs an error.
struct Faults;

impl<S: Subscriber> Layer<S> for Faults {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let normal = event.normalized_metadata();
        let metadata = normal.as_ref().unwrap_or_else(|| event.metadata());
        let (level, target) = (*metadata.level(), metadata.target());
        let failed_launch = is_failed_launch(level, target);
        if !failed_launch && !is_fault(level, target) {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        // The tuner skips kernels that it cannot launch.
        let is_skipped =
            failed_launch && (ops::is_autotuned() || !text.0.contains("[Compilation Error]"));
        if !is_skipped {
            infer::report_fault(text.0);
        }
    }
}

/// Returns whether a log message reports a failed computation on a device.
fn is_fault(level: Level, target: &str) -> bool {
    let of = |names: &[&str]| names.iter().any(|name| target.starts_with(name));
    let measures = ["::tune", "profiler"].iter().any(|part| target.contains(part));
    match level {
        Level::ERROR => of(&["cubecl", "burn"]) && !measures,
        // Panics of device threads, and panics of queued operations.
        Level::WARN => of(&["cubecl_common::device", "burn_fusion::stream"]),
        _ => false,
    }
}

/// Returns whether a log record reports a kernel that cannot be launched. Reading its result fails later.
fn is_failed_launch(level: Level, target: &str) -> bool {
    level == Level::WARN && target.starts_with("cubecl_runtime::logging::server")
}

/// Returns whether a log record is about kernels that the tuner could not measure. It contains their sources.
fn is_tuning(level: Level, target: &str) -> bool {
    level == Level::WARN && target.starts_with("cubecl_runtime::tune")
}

/// Collects the message of a log event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn stderr(text: &str) {
    // If stderr is closed, there is nowhere to report the failed write.
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

#[cfg(test)]
mod tests {
    use super::{is_failed_launch, is_fault};
    use tracing::Level;

    #[test]
    fn a_failed_kernel_is_a_fault_and_a_failed_measurement_is_not() {
        assert!(is_fault(Level::ERROR, "cubecl_runtime::client"));
        assert!(is_fault(Level::ERROR, "cubecl_wgpu::backend::base"));
        assert!(is_fault(Level::WARN, "cubecl_common::device::handle::channel"));
        assert!(is_fault(Level::WARN, "burn_fusion::stream::queue::execution"));
        assert!(!is_fault(Level::ERROR, "cubecl_runtime::tune::tune_benchmark"));
        assert!(!is_fault(Level::WARN, "cubecl_server::command::base"));
        assert!(!is_fault(Level::ERROR, "mae::cli"));
        assert!(is_failed_launch(Level::WARN, "cubecl_runtime::logging::server"));
        assert!(!is_failed_launch(Level::WARN, "cubecl_runtime::client"));
    }
}
