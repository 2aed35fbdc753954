//! docs/cli.md describes the commands as the program defines them. `MAE_UPDATE_DOCS=1` writes the file instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY};
use clap::{Arg, ArgAction, Command};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The definition of all commands, with their full names and the help flags.
fn commands() -> Command {
    let mut root = mae::cli::command();
    root.build();
    root
}

/// The commands that a user may call, the group before its members.
fn visible(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands();
    let below = below.filter(|below| below.get_name() != "help" && !below.is_hide_set());
    below.flat_map(|below| [vec![below], visible(below)].concat()).collect()
}

fn reference() -> String {
    let root = commands();
    let mut text = String::from("# Commands\n\n");
    text.push_str("This page is generated from the definitions of the commands, which also make `mae --help`, ");
    text.push_str("`mae man` and\n`mae completions`. To update it, run\n");
    text.push_str("`MAE_UPDATE_DOCS=1 cargo test --release --test it -- docs_reference`.\n\n");
    let about = root.get_about().unwrap().to_string();
    text.push_str(&wrapped(&format!("{about}."), ""));
    let after = root.get_after_help().unwrap().to_string();
    let _ = write!(text, "\n```text\n{after}\n```\n\n| command | does |\n| --- | --- |\n");
    for command in visible(&root) {
        let name = name(command);
        let about = command.get_about().unwrap();
        let _ = writeln!(text, "| [`{name}`](#{}) | {about} |", name.replace(' ', "-"));
    }
    for command in visible(&root) {
        text.push_str(&section(command));
    }
    text
}

fn name(command: &Command) -> String {
    command.get_bin_name().unwrap().to_owned()
}

fn section(command: &Command) -> String {
    let mut text = format!("\n## {}\n\n", name(command));
    let about = command.get_long_about().or(command.get_about()).unwrap().to_string();
    for paragraph in about.split("\n\n") {
        let end = if paragraph.ends_with(['.', ':']) { "" } else { "." };
        let _ = writeln!(text, "{}", wrapped(&format!("{paragraph}{end}"), ""));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace("\n       ", "\n");
    let _ = writeln!(text, "```text\n{usage}\n```");
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .partition(|arg| arg.is_positional());
    for args in [positional, options].iter().filter(|args| !args.is_empty()) {
        text.push('\n');
        for arg in args {
            text.push_str(&described(arg));
        }
    }
    text
}

/// An argument as an entry of a list: name, value, meaning, default, possible values.
fn described(arg: &Arg) -> String {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value = arg.get_value_names().map_or(String::new(), |names| names.join(" "));
    let flags =
        [arg.get_short().map(|c| format!("-{c}")), arg.get_long().map(|l| format!("--{l}"))];
    let flags: Vec<String> = flags.into_iter().flatten().collect();
    let head = match (arg.is_positional(), takes_value) {
        (true, _) => value,
        (false, true) => format!("{} {value}", flags.join(", ")),
        (false, false) => flags.join(", "),
    };
    let mut text = format!("- `{head}`: {}.", arg.get_help().unwrap());
    let repeats = matches!(arg.get_action(), ArgAction::Append)
        || arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    if takes_value && repeats {
        text.push_str(" Can be given several times.");
    }
    if arg.is_required_set() && !arg.is_positional() {
        text.push_str(" Required.");
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    let values = arg.get_possible_values();
    if takes_value && !values.is_empty() {
        let named = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        });
        let _ = write!(text, " Values: {}.", named.collect::<Vec<_>>().join(", "));
    }
    wrapped(&text, "  ")
}

/// Breaks a text into lines of at most 120 characters; all but the first are indented.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > 120 {
            let _ = writeln!(lines, "{line}");
            line = format!("{indent}{word}");
        } else if line.is_empty() {
            word.clone_into(&mut line);
        } else {
            let _ = write!(line, " {word}");
        }
    }
    lines + &line + "\n"
}

#[test]
fn docs_cli_md_describes_every_command_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let expected = reference();
    if std::env::var_os("MAE_UPDATE_DOCS").is_some() {
        mae::durable::write(&path, expected.as_bytes()).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/cli.md is out of date: MAE_UPDATE_DOCS=1 cargo test --release --test it -- docs_reference"
    );
}

#[test]
fn every_help_fits_a_screen_of_80_by_40_and_describes_every_argument() {
    let (bench, root) = (Bench::new(TINY), commands());
    for command in [vec![&root], visible(&root)].concat() {
        let mut args: Vec<&str> =
            command.get_bin_name().unwrap_or_default().split(' ').skip(1).collect();
        args.push("--help");
        let output = bench.command(&args).env("COLUMNS", "80").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        // clap does not break the usage line.
        let fits = |line: &str| line.chars().count() <= 80 || line.starts_with("Usage: ");
        assert!(help.lines().all(fits), "{help}");
        assert!(help.lines().count() <= 40, "{} lines: {help}", help.lines().count());
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{}: {}", name(command), arg.get_id());
        }
    }
}

#[test]
fn a_completion_script_names_every_command() {
    let (bench, root) = (Bench::new(TINY), commands());
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = bench.done(&["completions", shell]);
        for command in visible(&root) {
            assert!(script.contains(command.get_name()), "{shell}: {}", name(command));
        }
        assert!(script.contains("mask-ratio"), "{shell}");
    }
    bench.refused(&["completions", "dos"], 2);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let (bench, root) = (Bench::new(TINY), commands());
    let commands = visible(&root);
    let said = bench.done(&["man", "pages/man1"]);
    assert_eq!(said.trim_end(), format!("{} pages in pages/man1", commands.len() + 1));
    for name in commands.into_iter().map(name).chain(["mae".to_owned()]) {
        let name = name.replace(' ', "-");
        let page = bench.read(&format!("pages/man1/{name}.1"));
        assert!(page.contains(&name.replace('-', "\\-")), "{name}: {page}");
    }
    assert_eq!(fs::read_dir(bench.path("pages/man1")).unwrap().count(), visible(&root).len() + 1);
    bench.refused(&["man", "r.toml"], 1);
}
