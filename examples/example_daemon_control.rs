//! Controls the daemon with the library that the command line uses.
//!
//! ```text
//! cargo run --example example_daemon_control -- --action lifecycle
//! cargo run --example example_daemon_control -- --action logs --lines 20
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use fullon_master_api::api::StopRequest;
use fullon_master_api::client::LogQuery;
use fullon_master_api::config::{ClientSettings, SettingsLocation};
use fullon_master_api::control::{
    DaemonControl, Launch, RestartOptions, RestartOutcome, StatusReport, StopOutcome,
};

#[derive(Parser)]
struct Arguments {
    /// Action to perform; lifecycle performs all of them
    #[arg(long, value_enum)]
    action: Action,
    /// Number of last log lines to print
    #[arg(long, default_value_t = 10)]
    lines: usize,
    /// Path of the fullon program; by default the one that was built with this example
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    Start,
    Stop,
    Restart,
    Status,
    Logs,
    Lifecycle,
}

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result {
    let daemon = Daemon::in_current_directory(&arguments)?;
    match arguments.action {
        Action::Start => daemon.start(),
        Action::Stop => daemon.stop().await,
        Action::Restart => daemon.restart().await,
        Action::Status => daemon.status().await,
        Action::Logs => daemon.logs().await,
        Action::Lifecycle => {
            daemon.start()?;
            daemon.status().await?;
            daemon.logs().await?;
            daemon.restart().await?;
            daemon.status().await?;
            daemon.stop().await?;
            daemon.status().await
        }
    }
}

struct Daemon {
    control: DaemonControl,
    launch: Launch,
    lines: usize,
}

impl Daemon {
    /// The daemon that `fullon` would control here: settings from the environment and `.env`.
    fn in_current_directory(arguments: &Arguments) -> Result<Self> {
        let directory = std::env::current_dir()?;
        let location = SettingsLocation {
            directory,
            ..SettingsLocation::default()
        };
        let settings = ClientSettings::load(&location.read_sources())?;
        let control = DaemonControl::new(settings, None, "example_daemon_control")?;
        let program = match &arguments.program {
            Some(program) => program.clone(),
            None => built_program()?,
        };
        Ok(Self {
            control,
            launch: Launch {
                program,
                settings_location: location,
                environment: BTreeMap::new(),
            },
            lines: arguments.lines,
        })
    }

    fn start(&self) -> Result {
        let daemon = self.launch.start()?;
        println!("started: PID {}, serving {}", daemon.pid, daemon.server);
        Ok(())
    }

    async fn stop(&self) -> Result {
        match self
            .control
            .stop(&StopRequest::default(), &mut notice)
            .await?
        {
            StopOutcome::Stopped { pid, method } => println!("stopped: PID {pid}, by {method:?}"),
            StopOutcome::NotRunning | StopOutcome::Dead(_) => println!("not running"),
        }
        Ok(())
    }

    async fn restart(&self) -> Result {
        let options = RestartOptions::default();
        let outcome = self
            .control
            .restart(self.launch.clone(), &options, &mut notice)
            .await?;
        match outcome {
            RestartOutcome::Replaced(done) => {
                println!("restarted: PID {} -> {}", done.old_pid, done.pid);
            }
            RestartOutcome::Started { daemon, .. } => {
                println!("started (was not running): PID {}", daemon.pid);
            }
        }
        Ok(())
    }

    async fn status(&self) -> Result {
        match self.control.status().await? {
            StatusReport::Running(status) => println!(
                "status: {:?}, PID {}, up {:.1} s, {} requests",
                status.phase, status.pid, status.uptime_seconds, status.http.requests_total
            ),
            StatusReport::Unresponsive { pid, error, .. } => {
                println!("status: running with PID {pid:?}; {error}");
            }
            StatusReport::Dead(pid) => println!("status: dead, was PID {pid:?}"),
            StatusReport::NotRunning => println!("status: not running"),
            StatusReport::Unknown(error) => println!("status: unknown, {error}"),
        }
        Ok(())
    }

    async fn logs(&self) -> Result {
        let query = LogQuery {
            lines: self.lines,
            ..LogQuery::default()
        };
        for entry in self.control.last_lines(&query, &mut notice).await? {
            println!("log: {}", entry.line);
        }
        Ok(())
    }
}

/// `target/PROFILE/fullon`, two levels up from `target/PROFILE/examples/example_daemon_control`.
fn built_program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let program = here
        .parent()
        .and_then(|examples| examples.parent())
        .map(|profile| profile.join("fullon"))
        .filter(|program| program.exists());
    program.ok_or_else(|| {
        "the fullon program was not found: run `cargo build`, or use --program".into()
    })
}

fn notice(text: &str) {
    eprintln!("{text}");
}
