//! `mae compare`: runs side by side.

use super::{CliError, output};
use crate::results::{CompareError, Comparison};
use std::path::PathBuf;

/// Hold runs against each other: the settings that differ, and the accuracies side by side
///
/// Runs that differ only in their seed are one column: mean ± spread (n). Differences are to the first run, in points; one
/// inside the noise is marked `~`. Checkpoints from the middle of a longer schedule (annealed 0) are never on one row with
/// those whose schedule ended (1). A run may still be going on.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A run's or a sweep's folder, as runs/quickstart; a pattern ('runs/mr*'); a table in accuracy.csv's columns; the
    /// official code's log.txt (a linear probe's has `linprobe` in its path)
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Put published figures beside them: mae-official, mae-paddle, mae-paper, mmpretrain
    #[arg(long, value_name = "NAME")]
    published: Vec<String>,
    /// Write one tidy table, a row for each run and pre-training epoch; the differences are of the means over seeds
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write an Excel workbook: this table, every epoch of every job, charts
    #[arg(long, value_name = "FILE")]
    xlsx: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.csv.is_some() && args.csv == args.xlsx {
        return Err(CliError::Usage(
            "--csv and --xlsx name the same file\nhint: give each its own".to_owned(),
        ));
    }
    let comparison = Comparison::read(&args.runs, &args.published)?;
    for file in args.csv.iter().chain(&args.xlsx) {
        comparison.check_output(file)?;
    }
    if let Some(file) = &args.csv {
        comparison.write_csv(file)?;
    }
    if let Some(file) = &args.xlsx {
        comparison.write_xlsx(file)?;
    }
    Ok(output::result(&comparison.text())?)
}

impl From<CompareError> for CliError {
    fn from(error: CompareError) -> Self {
        Self::Usage(error.to_string())
    }
}
