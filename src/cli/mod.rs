//! The command line: a file a command. Turns errors into text and exit codes; no training logic.
//!
//! Results go to stdout, logs and progress to stderr. Exit codes: 0 done, 1 the work failed, 2 usage, recipe or input
//! error, 130 interrupted.

mod bench;
mod check;
mod checkpoint_args;
mod compare;
mod convert;
mod data;
mod error;
mod eval;
mod output;
mod plan;
mod predict;
mod progress;
mod recipe_args;
mod reconstruct;
mod report;
mod run;
mod schema;
mod signals;
mod trash;
mod verify;

use crate::train::DeviceBackend;
use clap::{Parser, Subcommand};
use error::CliError;
use std::process::ExitCode;

/// One TOML file is a whole Masked Autoencoder experiment: this pre-trains, fine-tunes every kept checkpoint, and leaves
/// the accuracy tables in runs/.
#[derive(Parser)]
#[command(name = "mae", version = version(), max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it without any data (minutes on a laptop):
  mae run experiments/quickstart.toml
Then edit one line, or one key:
  mae run experiments/quickstart.toml --set pretrain.mask_ratio=0.5 --set name=mr50

Exit codes: 0 done; 1 the work failed; 2 usage, recipe or input error; 130 interrupted (run again to go on).";

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Plan(plan::Args),
    Eval(eval::Args),
    Check(check::Args),
    Predict(predict::Args),
    Compare(compare::Args),
    Reconstruct(reconstruct::Args),
    #[command(subcommand)]
    Bench(bench::Bench),
    Convert(convert::Args),
    #[command(subcommand)]
    Data(data::Data),
    Report(report::Args),
    Verify(verify::Args),
    Schema(schema::Args),
    #[command(subcommand)]
    Trash(trash::Trash),
}

/// For a report of a fault: which program this is, and what it can train on.
fn version() -> String {
    let devices: Vec<&str> = DeviceBackend::built().map(DeviceBackend::word).collect();
    let commit = match env!("BUILT_FROM_COMMIT") {
        "" => String::new(),
        commit => format!("commit {commit}; "),
    };
    format!("{} ({commit}devices: {})", env!("CARGO_PKG_VERSION"), devices.join(", "))
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Command::Run(args) => run::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Check(args) => check::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data(args) => data::run(args),
        Command::Report(args) => report::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Trash(args) => trash::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}
