//! The command line. One verb, one file; this one knows which arguments there are.

mod config;
mod console;
mod doctor;
mod flags;
mod generated;
mod logs;
mod openapi;
mod output;
mod reload;
mod restart;
mod run;
mod start;
mod status;
mod stop;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use thiserror::Error;

use crate::config::{self as settings, ClientSettings, InvalidSettings, SettingsLocation};
use crate::control::Control;
use crate::instance::Launch;
use crate::server::public::Mounts;
use flags::SettingFlags;
use output::{Output, notice};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it failed, or there was nothing to do; 2 wrong usage or invalid configuration.\nOf `status`: 0 running; 1 dead but its PID file is there; 3 not running; 4 cannot tell.\nOf `doctor`: 0 nothing is wrong, though there may be warnings; 1 something is; 2 the configuration is invalid.";

/// The Fullon Master API daemon, and the tool that operates it.
#[derive(Debug, Parser)]
#[command(
    name = "fullon",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    /// Read settings from this file in place of .env in the working directory
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Operate the daemon with this admin API, such as <http://127.0.0.1:8001>
    #[arg(long, global = true, value_name = "URL")]
    admin_url: Option<String>,

    /// Print exactly one JSON value (for `logs`, one a line)
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    flags: SettingFlags,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the daemon in the background, and return when it answers requests
    Start,
    /// Stop the daemon, and wait until the process is gone
    Stop(stop::StopArgs),
    /// Replace the running daemon without losing a request, or start it if none runs
    Restart(restart::RestartArgs),
    /// Read the settings again, and put in force what can be without a restart
    Reload,
    /// Tell how the daemon is doing
    Status,
    /// Print the last lines of the log, and follow it
    Logs(logs::LogsArgs),
    /// Print an address that opens the console in a browser: once, and within a minute
    Console(console::ConsoleArgs),
    /// Run the daemon in the foreground
    Run(run::RunArgs),
    /// Print a token for the admin API
    Token(token::TokenArgs),
    /// Print every setting, its value and where it came from
    Config(config::ConfigArgs),
    /// Say what is wrong, and what to do
    #[command(after_help = EXIT_CODES)]
    Doctor,
    /// Print the OpenAPI document of an API
    Openapi(openapi::OpenapiArgs),
    /// Print completions for a shell
    Completions(generated::CompletionsArgs),
    /// Print the manual page
    Man,
}

impl Command {
    /// Whether it has nothing to do with a daemon that runs.
    fn is_offline(&self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::Run(_)
                | Self::Config(_)
                | Self::Openapi(_)
                | Self::Completions(_)
                | Self::Man
        )
    }
}

/// A verb failed.
#[derive(Debug, Error)]
enum CommandError {
    /// Invalid configuration.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidSettings),
    /// The arguments are wrong in a way that only their use shows.
    #[error("{0}")]
    Usage(String),
    /// Anything else. Every error of this crate says its cause itself.
    #[error("{0}")]
    Other(#[from] anyhow::Error),
    /// Said already; only the exit code is left.
    #[error("exit code {0}")]
    Exit(u8),
    /// Whoever read our output has seen enough.
    #[error("the reader of the output is gone")]
    OutputClosed,
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Other(error.into())
        }
    }
}

type Result<T = ()> = std::result::Result<T, CommandError>;

/// Runs the command line of this process. `mounts` is what the daemon serves beside its own routes.
pub(crate) fn main(mounts: Mounts) -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return report_usage_error(&error),
    };
    let arguments = match Cli::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return report_usage_error(&error),
    };
    let output = Output::new(arguments.json);
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

/// What is wrong with the arguments, or the help that was asked for.
fn report_usage_error(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nothing else to try.
    let _ = error.print();
    let mut arguments = std::env::args_os().skip(1).take_while(|it| it != "--");
    if error.use_stderr() && arguments.any(|argument| argument == "--json") {
        let text = error.to_string();
        // How the verb is used is for people.
        let (text, _) = text.split_once("\n\n").unwrap_or((&text, ""));
        let text = text.trim_start_matches("error: ").trim_end();
        let _ = Output::new(true).print_json(&serde_json::json!({ "error": text }));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(arguments: Cli, output: &Output, mounts: Mounts) -> Result {
    // A directory that was removed still has this name; only what needs a file in it fails.
    let directory = std::env::current_dir().unwrap_or_else(|_| "/proc/self/cwd".into());
    let context = CommandContext {
        admin_url: arguments.admin_url,
        origin: SettingsLocation {
            env_file: arguments.env_file.map(|path| directory.join(path)),
            flags: arguments.flags.0,
            directory,
        },
    };
    if context.admin_url.is_some() && arguments.command.is_offline() {
        return Err(CommandError::Usage("--admin-url has no effect on this verb, which asks no daemon: leave it out (ADMIN_HOST and ADMIN_PORT say where a daemon listens, GET /admin/config what one has)".into()));
    }
    match arguments.command {
        Command::Start => start::run(&context, output),
        Command::Stop(arguments) => stop::run(&context, &arguments, output),
        Command::Restart(arguments) => restart::run(&context, &arguments, output),
        Command::Reload => reload::run(&context, output),
        Command::Status => status::run(&context, output),
        Command::Logs(arguments) => logs::run(&context, arguments, output),
        Command::Console(arguments) => console::run(&context, &arguments, output),
        Command::Run(arguments) => run::run(&context, &arguments, mounts),
        Command::Token(arguments) => token::run(&context, &arguments, output),
        Command::Config(arguments) => config::run(&context, &arguments, output),
        Command::Doctor => doctor::run(&context, output),
        Command::Openapi(arguments) => openapi::run(&arguments, output),
        Command::Completions(arguments) => generated::completions(&arguments),
        Command::Man => generated::man(),
    }
}

/// What every verb is given.
struct CommandContext {
    admin_url: Option<String>,
    origin: SettingsLocation,
}

impl CommandContext {
    /// The daemon that is meant. Mistakes in settings that are not needed for it are only told.
    fn control(&self) -> Result<Control> {
        let locator = ClientSettings::load(&self.origin.read_sources())?;
        for problem in &locator.ignored_problems {
            notice(&format!("ignored for this verb: {problem}"));
        }
        self.control_for(locator)
    }

    fn control_for(&self, locator: ClientSettings) -> Result<Control> {
        Control::new(locator, self.admin_url.as_deref(), &user_name())
            .map_err(|error| CommandError::Usage(error.to_string()))
    }

    fn launch(&self) -> Result<Launch> {
        Ok(Launch {
            program: Launch::current_program()?,
            settings_location: self.origin.clone(),
            environment: BTreeMap::new(),
        })
    }
}

/// What a setting takes as a duration, and fractions of a second, in seconds.
fn parse_seconds(text: &str, least: f64, most: f64) -> std::result::Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .or_else(|| settings::duration(text).map(|time| time.as_secs_f64()))
        .filter(|seconds| (least..=most).contains(seconds))
        .ok_or_else(|| {
            format!("not a duration such as 10s, or a number of seconds, from {least} to {most} s")
        })
}

/// Who runs the command line, for the audit trail.
fn user_name() -> String {
    settings::user_name(nix::unistd::getuid().as_raw())
}

/// Runs the client side of a verb.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
