//! `fullon completions`, generated from the definitions of the arguments.

use std::io::{self, Write as _};

use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

use super::error::Result;
use crate::identity::identity;

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell that runs the script
    shell: Shell,
}

pub fn run(arguments: &CompletionsArgs, command: Command) -> Result {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut without_hidden_options(&command),
        identity().command,
        &mut script,
    );
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if arguments.shell == Shell::Bash {
        script = with_commands_first(&script);
    }
    Ok(io::stdout().write_all(script.as_bytes())?)
}

/// A copy with the options that the help shows. The generators do not leave out hidden ones.
fn without_hidden_options(command: &Command) -> Command {
    let shown = command.get_arguments().filter(|it| !it.is_hide_set());
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let copy = match command.get_version() {
        Some(version) => Command::new("").version(version.to_owned()),
        None => Command::new(""),
    };
    copy.name(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(shown.map(without_file_names))
        .subcommands(commands.map(without_hidden_options))
}

/// Without a hint, the generators offer file names for any value.
fn without_file_names(argument: &Arg) -> Arg {
    let argument = argument.clone().global(false);
    match argument.get_value_hint() {
        ValueHint::Unknown if argument.get_action().takes_values() => {
            argument.value_hint(ValueHint::Other)
        }
        _ => argument,
    }
}

/// The generator for Bash puts options before commands, and Bash keeps this order.
fn with_commands_first(script: &str) -> String {
    let reorder = |line: &str| {
        let Some((start, words)) = line.split_once("opts=\"") else {
            return line.to_owned();
        };
        let words = words.trim_end_matches('"').split_whitespace();
        let (options, commands): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('-'));
        let words = [commands, options].concat().join(" ");
        format!("{start}opts=\"{words}\"")
    };
    let lines: Vec<_> = script.lines().map(reorder).collect();
    lines.join("\n") + "\n"
}
