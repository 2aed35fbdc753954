//! The command line: parses arguments, prints results, and maps errors to exit codes.
//!
//! There is one file per command. Results go to stdout, logs and progress to stderr. Exit codes: 0 done, 1 the command
//! failed, 2 invalid command line, recipe or input, 130 interrupted.

mod bench;
mod check;
mod checkpoint_args;
mod compare;
mod completions;
mod convert;
mod data;
mod error;
mod eval;
mod features;
mod launcher;
mod man;
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
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use error::CliError;
use std::process::ExitCode;

/// Train Masked Autoencoders from one TOML file: pre-train, fine-tune and probe checkpoints, and write the accuracy tables
#[derive(Parser)]
#[command(name = "mae", version = version(), max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Start without data, in minutes on a laptop:
  mae run experiments/quickstart.toml
Then change a setting:
  mae run experiments/quickstart.toml --set name=b --set pretrain.blr=1e-3

Exit codes:
  0    done
  1    the command failed
  2    invalid command line, recipe or input
  130  interrupted; the same `mae run` resumes";

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Plan(plan::Args),
    Eval(eval::Args),
    Check(check::Args),
    Predict(predict::Args),
    Features(features::Args),
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
    Completions(completions::Args),
    Man(man::Args),
}

/// Returns the version, the commit and the supported devices of this build.
fn version() -> String {
    let devices: Vec<&str> = DeviceBackend::built().map(DeviceBackend::word).collect();
    let commit = match env!("BUILT_FROM_COMMIT") {
        "" => String::new(),
        commit => format!("commit {commit}; "),
    };
    format!("{} ({commit}devices: {})", env!("CARGO_PKG_VERSION"), devices.join(", "))
}

/// Returns the definition of all commands, for completions, manual pages and docs/cli.md.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Moves each command's long description below its options.
///
/// So `--help` starts with the same lines as `-h`.
fn compact(command: clap::Command) -> clap::Command {
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let details = about.split_once("\n\n").map(|(_, details)| details.to_owned());
    let command = match details {
        Some(details) => command.long_about(None).after_help(details),
        None => command,
    };
    command.mut_subcommands(compact)
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let matches = compact(command()).get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match &args.command {
        Command::Run(args) => run::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Check(args) => check::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Features(args) => features::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data(args) => data::run(args),
        Command::Report(args) => report::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Trash(args) => trash::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}
