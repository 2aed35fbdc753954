//! Converts panics of libraries that read files into errors, without printing the panics.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
#[cfg(feature = "avif")]
use std::{sync::mpsc, thread};

thread_local! {
    /// Whether this thread runs [`catch`], where panics print no message.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Reports a panic inside [`on_own_thread`]. The thread then sleeps forever.
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

/// Runs library code that may panic on a damaged file.
///
/// Returns a panic as an error, without printing a message.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    set_hook();
    let outer = QUIET.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    done
}

/// Runs `work` on a new thread. Returns `None` if `work` panics or the thread cannot start.
///
/// This is for libraries with a C interface, where a panic would abort the process. After a panic, the thread sleeps
/// until the process ends, keeps its memory, and blocks [`panic::take_hook`]. So use this only for rare, unknown bugs.
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
