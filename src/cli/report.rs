//! `mae report`: writes a run as one HTML file.

use super::{CliError, output};
use crate::results;
use std::path::PathBuf;

/// Write an HTML report of a run or a sweep
///
/// The report contains tables, plots, reconstructions and the recipe in one file. The run may be unfinished.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder of a run or a sweep, such as `runs/quickstart`
    run: PathBuf,
    /// HTML file to write; by default `report.html` in the run's folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Published results to show; by default the ImageNet-1k results of the run's model
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(results::published_names()))]
    published: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::warn_without_checksums(&[&args.run]);
    let Some(file) = &args.output else {
        let file = results::write_report(&args.run, &args.published)?;
        return Ok(output::result(&file.display().to_string())?);
    };
    if !file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html")) {
        let (file, hint) = (file.display(), "end the name with `.html`");
        return Err(CliError::Usage(format!(
            "cannot write {file}: the name of the report must end with `.html`\nhint: {hint}"
        )));
    }
    results::write_report_to(&args.run, file, &args.published)?;
    Ok(output::result(&file.display().to_string())?)
}
