//! Turns panics of libraries that read files into errors, without printing them on the terminal.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
#[cfg(feature = "avif")]
use std::{sync::mpsc, thread};

thread_local! {
    /// Whether this thread is inside [`catch`], where panics print no message.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The function that reports a panic inside [`on_own_thread`]. After the report, the thread sleeps forever.
    static REPORT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Installs a panic hook that prints no message inside [`catch`] and [`on_own_thread`].
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

/// Runs library code that may panic on a damaged file. Returns a panic as an error, without printing a message.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    set_hook();
    let outer = QUIET.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    done
}

/// Runs library code that may panic inside a function with a C interface. Such a panic would abort the process.
///
/// Runs `work` on a new thread. If `work` panics, returns `None`, and the thread sleeps until the process ends, because
/// a return from the panic hook would abort the process. The thread keeps its memory and blocks [`panic::take_hook`].
/// So this function is only for rare, unknown bugs of a library.
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
