//! Waits while a disk is full, instead of ending a run that has worked for days.
//!
//! Only a process that called [`wait_on_full_disks`] waits, and only for the files of its runs. All other writes fail
//! at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maximum time that a run waits for free disk space.
const PATIENCE: Duration = Duration::from_mins(10);
/// Waiting time after the first failed write. Doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// Time between two checks whether the user stops the run.
const CHECK: Duration = Duration::from_millis(50);

/// Settings for waiting while a disk is full.
pub struct DiskPause {
    /// Folder of all runs. Writes to other folders do not wait.
    pub below: PathBuf,
    /// Returns true if the user stops the run.
    pub stop: Box<dyn Fn() -> bool + Send + Sync>,
    /// Shows a message to the user.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
}

static FULL_DISK: OnceLock<FullDisk> = OnceLock::new();

/// Makes writes below `pause.below` wait while the disk is full.
///
/// Later calls in the same process have no effect.
pub fn wait_on_full_disks(pause: DiskPause) {
    let below = std::path::absolute(&pause.below).unwrap_or_else(|_| pause.below.clone());
    FULL_DISK.get_or_init(|| FullDisk::new(DiskPause { below, ..pause }));
}

/// Calls `write` again while the disk is full, for at most 10 minutes.
///
/// `write` must write all `bytes` bytes to `path`, or none.
pub(super) fn patiently<T>(
    path: &Path,
    bytes: usize,
    mut write: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match FULL_DISK.get().filter(|disk| disk.waits_for(path)) {
        Some(disk) => disk.write(path, bytes, write, thread::sleep),
        None => write(),
    }
}

/// The current wait for disk space. All threads share this value.
struct FullDisk {
    pause: DiskPause,
    shortage: Mutex<Shortage>,
}

#[derive(Default)]
struct Shortage {
    /// Time that the run has waited for disk space.
    waited: Duration,
    /// Size of the largest failed write, in bytes.
    bytes: usize,
    is_told: bool,
}

impl FullDisk {
    fn new(pause: DiskPause) -> Self {
        Self { pause, shortage: Mutex::default() }
    }

    fn waits_for(&self, path: &Path) -> bool {
        std::path::absolute(path).is_ok_and(|path| path.starts_with(&self.pause.below))
    }

    fn write<T>(
        &self,
        path: &Path,
        bytes: usize,
        mut write: impl FnMut() -> io::Result<T>,
        sleep: impl Fn(Duration),
    ) -> io::Result<T> {
        let mut wait = FIRST;
        loop {
            let written = write();
            match &written {
                // An I/O error (EIO) may come from a broken disk, so waiting does not help.
                Err(error) if is_full(error) => {
                    if !self.wait(path, bytes, wait, error, &sleep) {
                        return written;
                    }
                    wait = LONGEST.min(wait * 2);
                }
                Err(_) => return written,
                Ok(_) => {
                    self.end(bytes);
                    return written;
                }
            }
        }
    }

    /// Waits for the time `wait`. Returns whether to write again.
    ///
    /// Returns false if the user stops the run, or after [`PATIENCE`] in total.
    fn wait(
        &self,
        path: &Path,
        bytes: usize,
        wait: Duration,
        error: &io::Error,
        sleep: &impl Fn(Duration),
    ) -> bool {
        let mut waited = {
            let mut shortage = self.shortage();
            shortage.bytes = shortage.bytes.max(bytes);
            let left = PATIENCE.saturating_sub(shortage.waited);
            if !left.is_zero() && !std::mem::replace(&mut shortage.is_told, true) {
                (self.pause.tell)(&waiting_text(path, bytes, error, left));
            }
            shortage.waited
        };
        let end = PATIENCE.min(waited + wait);
        if waited >= end {
            return false;
        }
        while waited < end {
            if (self.pause.stop)() {
                return false;
            }
            let step = CHECK.min(end.saturating_sub(waited));
            sleep(step);
            waited += step;
            // Several threads may wait at the same time.
            let mut shortage = self.shortage();
            shortage.waited = shortage.waited.max(waited);
        }
        true
    }

    /// Ends the wait, unless a write of more than `bytes` bytes has failed.
    fn end(&self, bytes: usize) {
        let mut shortage = self.shortage();
        if bytes >= shortage.bytes && std::mem::take(&mut *shortage).is_told {
            (self.pause.tell)("the disk has free space again, so the run continues");
        }
    }

    fn shortage(&self) -> MutexGuard<'_, Shortage> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn waiting_text(path: &Path, bytes: usize, error: &io::Error, left: Duration) -> String {
    let cause = match error.kind() {
        io::ErrorKind::QuotaExceeded => "the disk quota is used up",
        _ => "the disk is full",
    };
    let free = free_space(path).map_or_else(String::new, |free| format!(", {} free", size(free)));
    let (path, needed) = (path.display(), size(bytes as u64));
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + left;
    let clock = end.as_secs() % 86_400;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!(
        "{cause}: cannot write {path} ({needed} needed{free}). Free some space. The run waits until \
         {hour:02}:{minute:02}:{second:02} UTC and then stops. Press Ctrl-C to stop the run now"
    )
}

/// Returns the free space on the disk of `path`, in bytes.
#[cfg(unix)]
fn free_space(path: &Path) -> Option<u64> {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir())?;
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskPause, FullDisk};
    use std::cell::Cell;
    use std::io::{self, ErrorKind};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// Returns a [`FullDisk`], the list of its messages, and a switch that ends its wait for free space.
    fn disk() -> (FullDisk, Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) {
        let (told, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (telling, stopped) = (Arc::clone(&told), Arc::clone(&stop));
        let pause = DiskPause {
            below: "/runs".into(),
            stop: Box::new(move || stopped.load(Ordering::SeqCst)),
            tell: Box::new(move |text| telling.lock().unwrap().push(text.to_owned())),
        };
        (FullDisk::new(pause), told, stop)
    }

    fn full() -> io::Error {
        io::Error::from(ErrorKind::StorageFull)
    }

    #[test]
    fn a_write_waits_longer_each_time_until_there_is_space() {
        let (disk, told, _) = disk();
        let (slept, tries) = (Cell::new(Duration::ZERO), Cell::new(0));
        let mut times = Vec::new();
        let write = || {
            times.push(slept.get().as_secs());
            tries.set(tries.get() + 1);
            if tries.get() < 9 { Err(full()) } else { Ok(tries.get()) }
        };
        let sleep = |time| slept.set(slept.get() + time);
        let path = Path::new("/runs/a/resume.safetensors");
        assert_eq!(disk.write(path, 3_900_000_000, write, sleep).unwrap(), 9);
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0]
                .starts_with("the disk is full: cannot write /runs/a/resume.safetensors (3.9 GB")
        );
        assert!(told[0].contains(" free)") || cfg!(not(unix)), "{}", told[0]);
        assert!(told[1].contains("continues"));
    }

    #[test]
    fn after_ten_minutes_in_total_every_write_fails_at_once() {
        let (disk, told, _) = disk();
        let slept = Cell::new(Duration::ZERO);
        let sleep = |time| slept.set(slept.get() + time);
        for _ in 0..3 {
            let failed = disk.write(Path::new("/runs/a"), 100, || Err::<(), _>(full()), sleep);
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(slept.get(), Duration::from_mins(10));
            // A small file may still fit.
            disk.write(Path::new("/runs/b"), 1, || Ok(()), sleep).unwrap();
        }
        assert_eq!(told.lock().unwrap().len(), 1);
        disk.write(Path::new("/runs/a"), 100, || Ok(()), sleep).unwrap();
        assert!(disk.write(Path::new("/runs/a"), 1, || Err::<(), _>(full()), sleep).is_err());
        assert_eq!(slept.get(), Duration::from_mins(20), "the run waits again after a success");
    }

    #[test]
    fn a_stop_ends_the_wait_and_other_errors_do_not_wait() {
        let (disk, told, stop) = disk();
        let failed = disk.write(
            Path::new("/runs/a"),
            1,
            || Err::<(), _>(io::Error::from(ErrorKind::QuotaExceeded)),
            |time| {
                assert!(time <= Duration::from_millis(50));
                assert!(!stop.swap(true, Ordering::SeqCst), "the wait continues after the stop");
            },
        );
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::QuotaExceeded);
        assert!(told.lock().unwrap()[0].starts_with("the disk quota is used up"));
        let broken = || Err::<(), _>(io::Error::other("EIO"));
        assert!(disk.write(Path::new("/runs/a"), 1, broken, |_| panic!("no wait")).is_err());
        assert!(disk.waits_for(Path::new("/runs/a/b")) && !disk.waits_for(Path::new("/cache/b")));
    }
}
