//! `mae trash`: lists or deletes the runs that `--fresh` moved away.

use super::{CliError, output};
use crate::results;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// List or delete the runs that `mae run --fresh` moved to the trash
#[derive(clap::Subcommand)]
pub(super) enum Trash {
    /// List the runs in the trash: number of files, size and age
    List(TrashFolder),
    /// Delete runs from the trash
    Empty(Empty),
}

#[derive(clap::Args)]
pub(super) struct TrashFolder {
    /// Folder of all runs; the trash is `DIR/.trash`
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct Empty {
    #[command(flatten)]
    place: TrashFolder,
    /// Names of the runs to delete, as shown by `mae trash list`; by default all runs
    names: Vec<String>,
    /// Delete only runs that were moved to the trash at least DAYS days ago
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
}

pub(super) fn run(args: &Trash) -> Result<(), CliError> {
    output::start_log();
    match args {
        Trash::List(place) => list(place),
        Trash::Empty(args) => empty(args),
    }
}

/// Returns the runs in the trash. Fails if `--runs` is not a folder.
fn trashed(place: &TrashFolder) -> Result<Vec<results::Trashed>, CliError> {
    if !place.runs.is_dir() {
        return Err(CliError::Usage(format!(
            "cannot find the trash of {}: the folder does not exist\nhint: set `--runs DIR` to the folder of all runs",
            place.runs.display()
        )));
    }
    Ok(results::trashed(&place.runs)?)
}

fn list(place: &TrashFolder) -> Result<(), CliError> {
    let trashed = trashed(place)?;
    if trashed.is_empty() {
        return Ok(output::result("the trash is empty")?);
    }
    let width = trashed.iter().map(|run| run.folder.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for run in &trashed {
        let (files, size) = (results::count(run.files, "file"), megabytes(run.bytes));
        let age = days(run.age);
        let _ = writeln!(text, "{:width$}  {files}, {size}, {age}", run.folder);
    }
    Ok(output::result(text.trim_end())?)
}

fn empty(args: &Empty) -> Result<(), CliError> {
    let trashed = trashed(&args.place)?;
    for name in &args.names {
        if !trashed.iter().any(|run| run.folder == *name) {
            let trash = args.place.runs.join(results::TRASH);
            return Err(CliError::Usage(format!(
                "cannot delete {name}: this run is not in {}\nhint: run `mae trash list` to list the names",
                trash.display()
            )));
        }
    }
    let at_least = Duration::from_secs(u64::from(args.older_than.unwrap_or(0)) * 86_400);
    let chosen = trashed
        .iter()
        .filter(|run| args.names.is_empty() || args.names.contains(&run.folder))
        .filter(|run| run.age >= at_least);
    let (mut removed, mut bytes) = (0, 0);
    for run in chosen {
        if results::remove_trashed(run)? {
            let path = run.path.display();
            output::warning(&format!(
                "{path} contains files that mae did not write, so mae kept these files"
            ));
        }
        (removed, bytes) = (removed + 1, bytes + run.bytes);
    }
    Ok(output::result(&format!(
        "deleted {} ({})",
        results::count(removed, "run"),
        megabytes(bytes)
    ))?)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn days(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 => "moved to the trash today".to_owned(),
        days => format!("moved to the trash {} ago", results::count(days as usize, "day")),
    }
}
