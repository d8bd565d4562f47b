//! `fullon man`, generated from the definitions of the arguments.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Command;

use super::error::Result;
use super::flags::is_setting;
use crate::auth::Revocations;
use crate::config::DEFINITIONS;
use crate::identity::{Identity, identity};

/// Prints one page: the program with its options and settings, and each command with its own
/// options.
pub fn run(command: Command) -> Result {
    let mut command = command
        .mut_args(|argument| argument.hide_short_help(false).hide(false))
        .disable_help_subcommand(true);
    command.build();
    let program_name = identity().command;
    let mut page = Vec::new();
    let program = clap_mangen::Man::new(command.clone());
    program.render_title(&mut page)?;
    program.render_name_section(&mut page)?;
    program.render_synopsis_section(&mut page)?;
    program.render_description_section(&mut page)?;
    program.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    let is_shown = |command: &&Command| !command.is_hide_set();
    for subcommand in command.get_subcommands().filter(is_shown) {
        let about = subcommand
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let name = subcommand.get_name();
        writeln!(page, ".SS {program_name} {name}\n{about}.")?;
        for argument in subcommand
            .get_arguments()
            .filter(|argument| is_own(argument))
        {
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            writeln!(
                page,
                ".TP\n\\fB{}\\fR\n{help}",
                form(argument).replace('-', "\\-")
            )?;
        }
    }
    let exit_codes = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let exit_codes = exit_codes.trim_start_matches("Exit codes: ");
    let exit_codes = exit_codes.replace('-', "\\-").replace('\n', "\n.br\n");
    writeln!(page, ".SH \"EXIT STATUS\"\n{exit_codes}")?;
    writeln!(
        page,
        ".SH ENVIRONMENT\nEach setting is also an environment variable: \\fBPORT=9000 {program_name} start\\fR. \\fBAPP_ENV_\\fINAME\\fB=\\fIvalue\\fR sets \\fINAME\\fR for the application. Secrets have no option, because other users can see the arguments of a process:"
    )?;
    for setting in DEFINITIONS.iter().filter(|setting| setting.is_secret) {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}.", setting.name, setting.help)?;
        if let Some(variable) = setting.file_variable {
            writeln!(
                page,
                ".TP\n\\fB{variable}\\fR\nFile that contains {}.",
                setting.name
            )?;
        }
    }
    writeln!(page, ".SH FILES")?;
    for (file, description) in files(identity()) {
        writeln!(page, ".TP\n\\fI{file}\\fR\n{description}")?;
    }
    Ok(io::stdout().write_all(&page)?)
}

fn files(identity: &Identity) -> [(String, &'static str); 7] {
    let pid_file = identity.pid_file();
    let revoked = Revocations::path(Path::new(&identity.key_file()));
    [
        (
            ".env".into(),
            "Settings in the working directory, one NAME=value per line. A # after white space starts a comment. ${NAME} is replaced by a variable or an earlier line, but not in single quotes: use them for passwords. In quotes, write a backslash before a quote or a backslash.",
        ),
        (pid_file.clone(), "PID file, locked while the daemon runs."),
        (
            format!("{pid_file}.state"),
            "State file: the addresses and settings of the running daemon, for the other commands.",
        ),
        (
            format!("~/{}", identity.key_file()),
            "Signing key of the admin API if JWT_SECRET_KEY is not set.",
        ),
        (
            format!("~/{}", revoked.display()),
            "Revoked tokens. Do not remove it: they would be valid again. The file with .lock is empty.",
        ),
        (identity.log_file(), "Log file."),
        (
            format!("{}.audit", identity.log_file()),
            "Audit trail, unless AUDIT_FILE is set.",
        ),
    ]
}

/// An argument as a user types it.
pub fn form(argument: &clap::Arg) -> String {
    match argument.get_value_names() {
        // It takes the rest of the command line.
        Some([name]) if argument.is_last_set() => format!("-- {name}…"),
        _ => argument.to_string(),
    }
}

/// Whether the argument belongs to one command only.
fn is_own(argument: &clap::Arg) -> bool {
    let is_shared = argument.is_global_set() || is_setting(argument);
    !is_shared && !argument.is_hide_set() && argument.get_id() != "help"
}
