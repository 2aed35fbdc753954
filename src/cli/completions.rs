//! `mae completions`: completion scripts for shells.

use super::{CliError, command, output};
use clap_complete::Shell;

/// Print the completion script of a shell
///
/// Save the output in the file that the shell reads. bash: `~/.local/share/bash-completion/completions/mae`. fish:
/// `~/.config/fish/completions/mae.fish`. zsh: `_mae` in a folder of `$fpath`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Shell for which to write the completion script
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "mae", &mut script);
    Ok(output::result(String::from_utf8_lossy(&script).trim_end())?)
}
