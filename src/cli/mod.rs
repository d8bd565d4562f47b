//! The command line, one command a file. Only this folder and `main` print or exit.

mod app_command;
mod arguments;
mod audit;
mod completions;
mod config;
mod console;
mod context;
mod doctor;
mod duration;
mod error;
mod flags;
#[cfg(test)]
mod generated_docs;
mod guard;
mod logs;
mod man;
mod openapi;
mod output;
mod ready;
mod reload;
mod restart;
mod run;
mod sessions;
mod start;
mod status;
mod stop;
mod token;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::config::{SettingsLocation, working_directory};
use crate::server::public::Mounts;
use arguments::{Cli, Command};
use context::CommandContext;
use error::{CommandError, Result};
use output::Output;

/// Runs the command line of this process. `mounts` are additional routes of the daemon.
pub(crate) fn main(mounts: Mounts) -> ExitCode {
    let matches = arguments::command().try_get_matches();
    let parsed = matches.and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((Cli::from_arg_matches(&matches)?, name))
    });
    let (arguments, name) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return report_usage_error(&error),
    };
    let output = Output::new(arguments.json);
    if let Some(error) = arguments.misplaced_options(&name) {
        output.print_error(&error);
        return ExitCode::from(2);
    }
    if let Err(error) = mounts.check() {
        output.print_error(&error.to_string());
        return ExitCode::from(2);
    }
    match dispatch(arguments, &output, mounts) {
        Ok(()) | Err(CommandError::OutputClosed) => ExitCode::SUCCESS,
        Err(CommandError::Exit(code)) => ExitCode::from(code),
        Err(CommandError::InvalidConfig(problems)) => {
            output.print_problems(&problems);
            ExitCode::from(2)
        }
        Err(CommandError::Other(error)) => {
            output.print_error(&error.to_string());
            ExitCode::from(1)
        }
        Err(CommandError::Usage(text)) => {
            output.print_error(&text);
            ExitCode::from(2)
        }
    }
}

/// Prints the usage error, or the requested help or version.
fn report_usage_error(error: &clap::Error) -> ExitCode {
    // Nothing can be done if stdout or stderr is closed.
    let _ = error.print();
    let mut arguments = std::env::args_os().skip(1).take_while(|it| it != "--");
    if error.use_stderr() && arguments.any(|argument| argument == "--json") {
        let text = error.to_string();
        // The usage that follows is for people.
        let (text, _) = text.split_once("\n\n").unwrap_or((&text, ""));
        let text = text.trim_start_matches("error: ").trim_end();
        let _ = Output::new(true).print_json(&serde_json::json!({ "error": text }));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(arguments: Cli, output: &Output, mounts: Mounts) -> Result {
    let directory = working_directory();
    let mut flags = arguments.flags.0;
    match &arguments.command {
        Command::Start(command) => command.add_to(&mut flags)?,
        Command::Run(run) => run.command.add_to(&mut flags)?,
        Command::Restart(restart) => restart.command.add_to(&mut flags)?,
        _ => {}
    }
    let context = CommandContext {
        admin_url: arguments.admin_url,
        location: SettingsLocation {
            env_file: arguments.env_file.map(|path| directory.join(path)),
            flags,
            directory,
        },
    };
    match arguments.command {
        Command::Start(_) => start::run(&context, output),
        Command::Stop(arguments) => stop::run(&context, &arguments, output),
        Command::Restart(arguments) => restart::run(&context, &arguments, output),
        Command::Reload => reload::run(&context, output),
        Command::Status(arguments) => status::run(&context, &arguments, output),
        Command::Logs(arguments) => logs::run(&context, arguments, output),
        Command::Audit(arguments) => audit::run(&context, &arguments, output),
        Command::Console(arguments) => console::run(&context, &arguments, output),
        Command::Sessions(arguments) => sessions::run(&context, &arguments, output),
        Command::Run(arguments) => run::run(&context, &arguments, mounts),
        Command::Token(arguments) => token::run(&context, &arguments, output),
        Command::Config(arguments) => config::run(&context, &arguments, output),
        Command::Doctor => doctor::run(&context, output),
        Command::Openapi(arguments) => openapi::run(&arguments, output),
        Command::Completions(arguments) => completions::run(&arguments, arguments::command()),
        Command::Man => man::run(arguments::command()),
        Command::Guard => guard::run(),
        Command::Worker => guard::run_stage(),
    }
}
