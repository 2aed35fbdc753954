//! `mae compare`: runs side by side.

use super::{CliError, output};
use crate::results::{CompareError, Comparison};
use std::path::PathBuf;

/// Compare runs: settings that differ, and accuracies side by side
///
/// Each column shows one run. Runs that differ only in their seed share a column: mean ± standard deviation (number of
/// seeds). Each column after the first shows its difference to the first column, in percentage points. `~` marks a
/// difference within the noise. Checkpoints from the middle of a learning rate schedule (annealed 0) and from its end
/// (annealed 1) have separate rows. Runs may be unfinished.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder of a run or sweep, pattern such as `'runs/mr*'`, table with the columns of `accuracy.csv`, or `log.txt`
    /// of the official code. mae reads a log as the log of a linear probe if the path of the log contains `linprobe`
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Add published results: `mae-official`, `mae-paddle`, `mae-paper` or `mmpretrain`
    #[arg(long, value_name = "NAME")]
    published: Vec<String>,
    /// Write a CSV table with one row for each run and pre-training epoch. Runs that differ only in their seed are
    /// compared by their mean
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write an Excel workbook: the comparison table, every epoch of every job, and charts
    #[arg(long, value_name = "FILE")]
    xlsx: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.csv.is_some() && args.csv == args.xlsx {
        return Err(CliError::Usage(
            "cannot write `--csv` and `--xlsx` to the same file\nhint: use two different files"
                .to_owned(),
        ));
    }
    let comparison = Comparison::read(&args.runs, &args.published)?;
    output::warn_without_checksums(&args.runs);
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
