//! `mae schema`: prints the JSON Schema of recipes.

use super::{CliError, output};
use crate::recipe;

/// Print the JSON Schema of recipes, for editors: every key with its meaning, unit and default
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(&recipe::schema()).expect("a schema is plain JSON");
    Ok(output::result(&text)?)
}
