//! The one place that prints.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

/// Writes a result to stdout. Whoever closes the pipe early (`| head`) has what they wanted.
pub(super) fn result(text: &str) -> io::Result<()> {
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

/// Writes one JSON object on one line to stdout.
pub(super) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    result(&serde_json::to_string(value).expect("strings, numbers, lists"))
}

/// Writes a warning to stderr.
pub(super) fn warning(text: &str) {
    stderr(&format!("warning: {text}"));
}

/// Writes the error a command ends with to stderr.
pub(super) fn error(text: &str) {
    stderr(&format!("error: {text}"));
}

/// Starts the log, on stderr; `MAE_LOG` chooses its level (by default `info` of this program, `warn` of what it is built on).
pub(super) fn start_log() {
    let level = std::env::var("MAE_LOG").unwrap_or_else(|_| "warn,mae=info".to_owned());
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(level);
    // A second start, in tests, keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // A closed stderr must not end a run: by default a failed line is reported with `eprintln!`, which panics.
        .log_internal_errors(false)
        .try_init();
}

fn stderr(text: &str) {
    // There is nowhere left to tell that stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
