//! `mae run`: runs or resumes every job of a recipe.

use super::progress::ProgressBar;
use super::recipe_args::{RecipeArgs, StageArg};
use super::signals::stop_on_signals_or_late;
use super::{CliError, launcher, output};
use crate::durable::{self, DiskPause};
use crate::infer::StopFlag;
use crate::recipe::{Missing, Resolved};
use crate::results;
use crate::run::{RunOptions, Runner};
use crate::shape::StageKind;
use crate::train::{Event, Hosts, JobEnd, Observer};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Run a recipe, or resume it
///
/// Pre-trains, keeps the checkpoints that the recipe names, and then fine-tunes and probes these checkpoints. Updates
/// `DIR/NAME/accuracy.csv` after every epoch. Skips finished jobs. Ctrl-C saves the state and stops. To resume, run the
/// same command again.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Run only the jobs of this stage
    #[arg(long)]
    stage: Option<StageArg>,
    /// Folder of all runs
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Start over: move the files of the earlier run with this name to `DIR/.trash`
    #[arg(long)]
    fresh: bool,
    /// Take over a run that a process on another host has locked. Use this only if that process has ended
    #[arg(long)]
    break_lock: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let hosts = launcher::connect()?;
    output::start_log_of(&hosts);
    let ended = run_on(args, &hosts);
    // Host 0 reports for all hosts. If another host exited with an error, the launcher might end host 0 too early.
    if hosts.is_first() { ended } else { Ok(()) }
}

fn run_on(args: &Args, hosts: &Hosts) -> Result<(), CliError> {
    let resolved = launcher::resolve(&args.recipe, Missing::RefuseIfNeeded, hosts)?;
    let stop = StopFlag::default();
    let options = RunOptions {
        runs: args.runs.clone(),
        fresh: args.fresh,
        break_lock: args.break_lock,
        only: args.stage.map(Into::into),
        command_line: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
    };
    let progress = Arc::new(ProgressBar::new(&resolved, options.only));
    let (shown, is_first) = (Arc::clone(&progress), hosts.is_first());
    // Host 0 reports for all hosts.
    let observer: Observer = Arc::new(move |event| {
        if is_first {
            shown.show(&event);
        }
    });
    let (asked, shown) = (stop.clone(), Arc::clone(&progress));
    let late = move || save_last_updates(&asked, &shown);
    stop_on_signals_or_late(&stop, "finishing the step and saving the state", late);
    wait_on_full_disks(&options.runs, &stop, &progress);
    let runner = Runner { options: &options, stop: &stop, observer, hosts: hosts.clone() };
    let outcome = runner.run(&resolved);
    progress.finish();
    let (end, failed) = outcome?;
    if !hosts.is_first() {
        return Ok(());
    }
    write_reports(&options.runs, &resolved);
    if end == JobEnd::Interrupted {
        return Err(CliError::Interrupted);
    }
    let folder = options.runs.join(&resolved.name);
    let table = folder.join("accuracy.csv");
    if table.is_file() && options.only != Some(StageKind::Pretrain) {
        output::result(std::fs::read_to_string(&table)?.replace('\r', "").trim_end())?;
        tracing::info!("accuracy table: {}", table.display());
    } else {
        tracing::info!("done: {}", folder.display());
    }
    if failed.is_empty() {
        return Ok(());
    }
    if let ([point], true) = (&failed[..], resolved.swept.is_empty()) {
        return Err(CliError::Failed(point.error.to_string()));
    }
    let mut list = format!("{} of {} sweep points failed:", failed.len(), resolved.points.len());
    for point in &failed {
        let _ = write!(list, "\n  {}: {}", point.name, point.error);
    }
    Err(CliError::Failed(list))
}

/// Saves the last complete update of each job, and exits the program.
///
/// If it cannot save, it prints a warning and returns. The run then finishes the current updates and stops.
fn save_last_updates(stop: &StopFlag, progress: &ProgressBar) {
    // A job may be starting, ending or saving. Try again later.
    const AGAIN: Duration = Duration::from_millis(200);
    loop {
        match stop.save_last_updates() {
            Ok(true) => {
                progress.finish();
                let end = CliError::Interrupted;
                output::error(&end.to_string());
                durable::remove_names();
                std::process::exit(end.exit_code().into());
            }
            Ok(false) => std::thread::sleep(AGAIN),
            Err(text) => {
                let text = format!(
                    "cannot save the state yet ({text}), so the run first finishes the update in progress"
                );
                return progress.show(&Event::Warning { job: "run", text: &text });
            }
        }
    }
}

/// Makes the run wait if the disk is full, and prints a warning.
fn wait_on_full_disks(runs: &Path, stop: &StopFlag, progress: &Arc<ProgressBar>) {
    let (asked, shown) = (stop.clone(), Arc::clone(progress));
    durable::wait_on_full_disks(DiskPause {
        below: runs.to_owned(),
        stop: Box::new(move || asked.requested()),
        tell: Box::new(move |text| shown.show(&Event::Warning { job: "run", text })),
    });
}

/// Writes the report of each run and of the sweep. A failure causes only a warning.
fn write_reports(runs: &Path, resolved: &Resolved) {
    let points = resolved.points.iter().map(|point| point.plan.name.as_str());
    let sweep = (!resolved.swept.is_empty()).then_some(resolved.name.as_str());
    for name in points.chain(sweep) {
        let folder = runs.join(name);
        if !folder.is_dir() {
            continue;
        }
        match results::write_report(&folder, &[]) {
            Ok(file) if sweep.is_none_or(|sweep| sweep == name) => {
                tracing::info!("report: {}", file.display());
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot write the report of the run: {error}"),
        }
    }
}
