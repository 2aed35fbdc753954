//! `mae man`: manual pages.

use super::{CliError, command, output};
use crate::results::{RunError, count};
use crate::{durable, train::TrainError};
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Write the manual pages of all commands
///
/// Show a page with `man DIR/mae-run.1`. To install the pages, copy them to a `man1` folder of `$MANPATH`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder for the pages `mae.1`, `mae-run.1`, ...; mae creates the folder if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = args.folder.as_path();
    if folder.exists() && !folder.is_dir() {
        return Err(CliError::Failed(format!(
            "cannot write manual pages to {}: this is not a folder\nhint: pass a folder; mae creates a missing folder",
            folder.display()
        )));
    }
    let created = std::fs::create_dir_all(folder);
    created.map_err(|source| RunError::Io { path: folder.to_owned(), source })?;
    let mut root = command();
    // Gives every command its full name.
    root.build();
    let pages = write_pages(&root, folder)?;
    let (pages, folder) = (count(pages, "page"), folder.display());
    Ok(output::result(&format!("{pages} in {folder}"))?)
}

/// Writes the manual pages of a command and its subcommands. Returns the number of pages.
fn write_pages(command: &clap::Command, folder: &Path) -> Result<usize, CliError> {
    let man = Man::new(command.clone());
    let path = folder.join(man.get_filename());
    let mut page = Vec::new();
    man.render(&mut page)?;
    let failed = |source| RunError::Io { path: path.clone(), source };
    durable::write_output(&path, &page).map_err(failed).map_err(TrainError::from)?;
    let mut pages = 1;
    for below in command.get_subcommands() {
        if below.get_name() != "help" && !below.is_hide_set() {
            pages += write_pages(below, folder)?;
        }
    }
    Ok(pages)
}
