//! `mae check`: compares the files of a run with their checksums.

use super::{CliError, output};
use crate::results::{self, ProblemKind, RunCheck, count};
use crate::text::one_line;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Compare every file of a run with its recorded checksum
///
/// Lists damaged, missing and unreadable files, and exits with 1 if there are any.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of runs or sweeps, such as `runs/quickstart`
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let mut checks = Vec::new();
    for run in &args.runs {
        checks.extend(results::check_run(run)?);
    }
    let problems: usize = checks.iter().map(|check| check.problems.len()).sum();
    if args.json {
        output::json(&serde_json::json!({ "problems": problems, "folders": checks }))?;
    } else {
        let mut text = String::new();
        for check in &checks {
            describe(check, &mut text);
        }
        output::result(text.trim_end())?;
    }
    if problems == 0 {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "found problems in {}{}",
        count(problems, "file"),
        hints(&checks)
    )))
}

fn describe(check: &RunCheck, text: &mut String) {
    let folder = check.folder.display();
    if !check.has_checksums {
        let _ = writeln!(
            text,
            "{folder}: not checked, because the files have no checksums (an older version of mae wrote the files)"
        );
        return;
    }
    let _ = write!(text, "{folder}: {} verified", count(check.verified, "file"));
    let unchecked = [
        (check.unchecked.len(), "TensorBoard file", ""),
        (check.foreign.len(), "other file or folder", " that mae did not write"),
    ];
    let unchecked: Vec<String> = unchecked
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, what, whose)| match (number, what) {
            (2.., "other file or folder") => format!("{number} other files or folders{whose}"),
            _ => format!("{}{whose}", count(number, what)),
        })
        .collect();
    if !unchecked.is_empty() {
        let _ = write!(text, "; not checked: {}", unchecked.join(", "));
    }
    text.push('\n');
    for problem in &check.problems {
        let _ = writeln!(text, "  {}: {}", one_line(&problem.file), problem.problem);
    }
}

fn hints(checks: &[RunCheck]) -> String {
    let has = |kind| checks.iter().flat_map(|check| &check.problems).any(|p| p.kind == kind);
    [
        (
            ProblemKind::Unreadable,
            "make the unreadable files readable, then run `mae check` again",
        ),
        (
            ProblemKind::Damaged,
            "restore the damaged files from a backup. Without a backup, run `mae run` to write `accuracy.csv` and `report.html` again. For other files, remove the folder of the job, then run `mae run` to repeat the job",
        ),
        (
            ProblemKind::Unlisted,
            "move files that mae did not write to another folder. If mae wrote these files, the list of mae's files (`mae-manifest.jsonl`) is incomplete. Restore this list from a backup. Without a backup, remove this list and start the run again, which lists all files again",
        ),
    ]
    .into_iter()
    .filter(|(kind, _)| has(*kind))
    .flat_map(|(_, hint)| ["\nhint: ", hint])
    .collect()
}
