//! Turns panics of libraries that read files into errors, without printing them on the terminal.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
#[cfg(feature = "avif")]
use std::{sync::mpsc, thread};

thread_local! {
    /// Whether this thread runs [`catch`]. If so, panics print nothing.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// What a panic of this thread calls before the thread sleeps forever. Set inside [`on_own_thread`].
    static REPORT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Replaces the panic hook by one that is quiet inside of [`catch`] and [`on_own_thread`].
fn set_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(report) = REPORT.take() {
                report();
                loop {
                    std::thread::park();
                }
            }
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
}

/// Runs library code that may panic on a damaged file.
///
/// Returns the panic as an error, without printing a message.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    set_hook();
    let outer = QUIET.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    done
}

/// Runs library code that may panic inside of functions with a C interface. Such panics abort the process.
///
/// Runs `work` on a thread of its own. If it panics, this returns `None`, and the thread sleeps until the process ends:
/// it must not return from the panic hook. It keeps its memory and blocks [`panic::take_hook`], so this is only for
/// faults of the library that are not known.
#[cfg(feature = "avif")]
pub(super) fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    set_hook();
    let (sender, receiver) = mpsc::channel();
    let failed = sender.clone();
    let thread = thread::Builder::new().name("decoder".to_owned()).spawn(move || {
        REPORT.set(Some(Box::new(move || drop(failed.send(None)))));
        let done = work();
        REPORT.take();
        drop(sender.send(Some(done)));
    });
    thread.ok()?;
    receiver.recv().ok().flatten()
}
