//! `mae check`: compares the files of a run with their checksums.

use super::{CliError, output};
use crate::results::{self, count};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Compare every file of a run with the checksum that mae recorded when it wrote the file
///
/// Lists damaged, missing and unreadable files, and exits with 1 if there are any.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folders of runs or sweeps, such as runs/quickstart
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
            let verified = count(check.verified, "file");
            let _ = writeln!(text, "{}: {verified} verified", check.folder.display());
            for problem in &check.problems {
                let _ = writeln!(text, "  {}: {}", problem.file, problem.problem);
            }
        }
        output::result(text.trim_end())?;
    }
    if problems == 0 {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{} with problems\nhint: restore the files from a backup. Without a backup, run `mae run`, which rewrites accuracy.csv and report.html. For any other file, first remove the folder of its job, so that `mae run` repeats the job",
        count(problems, "file")
    )))
}
