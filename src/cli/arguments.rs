//! The arguments of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::completions::CompletionsArgs;
use super::config::ConfigArgs;
use super::console::ConsoleArgs;
use super::flags::SettingFlags;
use super::logs::LogsArgs;
use super::openapi::OpenapiArgs;
use super::restart::RestartArgs;
use super::run::RunArgs;
use super::stop::StopArgs;
use super::token::TokenArgs;
use crate::identity::identity;

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it failed, or there was nothing to do; 2 wrong usage or invalid configuration.\nOf `status`: 0 running; 1 dead but its PID file is there; 3 not running; 4 cannot tell.\nOf `doctor`: 0 nothing is wrong, though there may be warnings; 1 something is; 2 the configuration is invalid.";

/// The Fullon Master API daemon, and the tool that operates it.
#[derive(Debug, Parser)]
#[command(
    name = identity().command,
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = EXIT_CODES)]
pub struct Cli {
    /// Read settings from this file in place of .env in the working directory
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,

    /// Operate the daemon with this admin API, such as <http://127.0.0.1:8001>
    #[arg(long, global = true, value_name = "URL")]
    pub admin_url: Option<String>,

    /// Print exactly one JSON value (for `logs`, one a line)
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub flags: SettingFlags,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the daemon in the background, and return when it answers requests
    Start,
    /// Stop the daemon, and wait until the process is gone
    Stop(StopArgs),
    /// Replace the running daemon without losing a request, or start it if none runs
    Restart(RestartArgs),
    /// Read the settings again, and put in force what can be without a restart
    Reload,
    /// Tell how the daemon is doing
    Status,
    /// Print the last lines of the log, and follow it
    Logs(LogsArgs),
    /// Print an address that opens the console in a browser: once, and within a minute
    Console(ConsoleArgs),
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Print a token for the admin API
    Token(TokenArgs),
    /// Print every setting, its value and where it came from
    Config(ConfigArgs),
    /// Say what is wrong, and what to do
    #[command(after_help = EXIT_CODES)]
    Doctor,
    /// Print the OpenAPI document of an API
    Openapi(OpenapiArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
}

impl Command {
    /// Whether the command never contacts a running daemon.
    pub fn is_offline(&self) -> bool {
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
