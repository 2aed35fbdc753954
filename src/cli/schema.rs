//! `mae schema`: prints the JSON Schema of recipes.

use super::{CliError, output};
use crate::recipe;

/// Print the JSON Schema of recipes, for editors
///
/// The schema has the meaning, the unit and the default of every key.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(&recipe::schema()).expect("a schema is plain JSON");
    Ok(output::result(&text)?)
}
