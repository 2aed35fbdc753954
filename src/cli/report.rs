//! `mae report`: a run as one HTML file.

use super::{CliError, output};
use crate::results;
use std::path::PathBuf;

/// Write one self-contained HTML page about a run: tables, plots, curves, reconstructions, recipe
///
/// It works while the run goes on, and on the folder of a sweep, whose points it takes together.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The folder of a run or of a sweep, as runs/quickstart
    run: PathBuf,
    /// The file to write; by default report.html in the run's folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the figures of this published table beside the run's; by default those of the same model on ImageNet-1k
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(results::published_names()))]
    published: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let Some(file) = &args.output else {
        let file = results::write_report(&args.run, &args.published)?;
        return Ok(output::result(&file.display().to_string())?);
    };
    if !file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html")) {
        let (file, hint) = (file.display(), "give a name that ends in .html");
        return Err(CliError::Usage(format!("{file}: the report is an HTML file\nhint: {hint}")));
    }
    results::write_report_to(&args.run, file, &args.published)?;
    Ok(output::result(&file.display().to_string())?)
}
