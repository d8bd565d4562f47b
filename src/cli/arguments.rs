//! The arguments of the command line.

use std::path::PathBuf;

use clap::{Arg, CommandFactory as _, Parser, Subcommand, ValueHint};

use super::app_command::AppCommandArgs;
use super::audit::AuditArgs;
use super::completions::CompletionsArgs;
use super::config::ConfigArgs;
use super::console::ConsoleArgs;
use super::flags::SettingFlags;
use super::logs::LogsArgs;
use super::openapi::OpenapiArgs;
use super::restart::RestartArgs;
use super::run::RunArgs;
use super::sessions::SessionsArgs;
use super::status::StatusArgs;
use super::stop::StopArgs;
use super::token::TokenArgs;
use crate::identity::identity;

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 failure, or nothing to do; 2 wrong usage or invalid configuration.
status: 0 running; 1 dead, but its PID file exists; 3 not running; 4 unknown.
status --ready: 0 ready; 1 not ready.
doctor: 0 no errors (warnings are possible); 1 errors found; 2 invalid configuration.";

const START_EXAMPLES: &str = "\
Examples: fullon start
          fullon start -- uvicorn app:app --fd {fd}";

const SETTINGS_HELP: &str = "\
Settings, such as PORT, are variables of the environment, lines of .env, and options of start, run,
restart and config: see `fullon start --help`.";

/// Runs an HTTP service as a daemon and controls it over a REST API.
#[derive(Debug, Parser)]
#[command(
    name = identity().command,
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = format!("{SETTINGS_HELP}\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// Read settings from FILE instead of .env in the working directory
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub env_file: Option<PathBuf>,

    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Control the daemon with the admin API at URL, such as http://127.0.0.1:8001"
    )]
    pub admin_url: Option<String>,

    /// Print one JSON value on stdout (`logs` and `audit`: one per line)
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub flags: SettingFlags,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the daemon in the background and wait until it is ready
    #[command(after_help = START_EXAMPLES)]
    Start(AppCommandArgs),
    /// Stop the daemon and wait until it has exited
    Stop(StopArgs),
    /// Restart the daemon without downtime, or start it if it is not running
    Restart(RestartArgs),
    /// Reload the settings without a restart, and list the changes that need one
    Reload,
    /// Show whether the daemon is running and healthy
    Status(StatusArgs),
    /// Print the last lines of the log and follow it
    Logs(LogsArgs),
    /// Print the last records of the audit trail, or check that nobody changed it
    Audit(AuditArgs),
    /// Print a one-time address that opens the console in a browser, valid for one minute
    Console(ConsoleArgs),
    /// List the browser sessions, or end one
    Sessions(SessionsArgs),
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Print a token (JWT) for the admin API, or revoke tokens
    Token(TokenArgs),
    /// Print every setting with its value and source
    Config(ConfigArgs),
    /// Find problems and print how to fix them
    #[command(after_help = EXIT_CODES)]
    Doctor,
    /// Print the OpenAPI document of the public or the admin API
    Openapi(OpenapiArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Run a worker of the application, and end everything below it with it
    #[command(hide = true)]
    Guard,
    /// Become a worker of the application
    #[command(hide = true)]
    Worker,
}

/// The arguments of the program. An option is shown by the commands that it has an effect on.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        let command = if takes_settings(&name) {
            SettingFlags::show(command)
        } else {
            command
        };
        if connects(&name) {
            return command;
        }
        command.arg(
            Arg::new("admin_url")
                .long("admin-url")
                .value_name("URL")
                .hide(true),
        )
    })
}

/// Whether the command reads the settings of a daemon that it starts, or shows them.
fn takes_settings(command: &str) -> bool {
    ["start", "run", "restart", "config"].contains(&command)
}

/// Whether the command contacts a running daemon.
fn connects(command: &str) -> bool {
    !["start", "run", "config", "openapi", "completions", "man"].contains(&command)
}

impl Cli {
    /// The options that have no effect on this command, as an error.
    pub fn misplaced_options(&self, command: &str) -> Option<String> {
        let program = identity().command;
        let settings = self.flags.names();
        if !takes_settings(command) && !settings.is_empty() {
            let (has, it) = match settings.len() {
                1 => ("has", "it"),
                _ => ("have", "them"),
            };
            return Some(format!(
                "{} {has} no effect on `{program} {command}`: remove {it}; settings are options of start, run, restart and config, and a running daemon reads its .env file",
                settings.join(", "),
            ));
        }
        (self.admin_url.is_some() && !connects(command)).then(|| format!(
            "--admin-url has no effect on `{program} {command}`, which does not connect to a daemon: remove it (ADMIN_HOST and ADMIN_PORT set the address of the admin API)"
        ))
    }
}
