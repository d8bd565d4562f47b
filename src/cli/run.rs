//! `fullon run`, the process behind `fullon start`, and the new process in a restart.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::app_command::AppCommandArgs;
use super::context::CommandContext;
use super::error::{CommandError, Result};
use super::output::print_warning;
use super::start::advise_log_file;
use crate::config::{
    InvalidSettings, Settings, Source, Sources, better_log_file, is_colour_wanted, is_journal,
    root_warning,
};
use crate::daemon::{
    self, ExitOutcome, RunMode, StartOptions, UpgradeChild, is_init, run_supervised,
    run_systemd_shim,
};
use crate::instance::{StartupReport, StartupReporter};
use crate::logs::StdoutOptions;
use crate::server::public::Mounts;
use crate::sys::{close_inherited_fds, inherited_file, is_same_file};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct RunArgs {
    #[command(flatten)]
    pub command: AppCommandArgs,

    /// Run as `fullon start` does: in a new session, with a startup report on stdout
    #[arg(long, hide = true)]
    background: bool,

    /// The parent process stays when this process is replaced
    #[arg(long, hide = true)]
    kept: bool,

    /// Replace the daemon that holds the other end of the socket on stdin
    #[arg(long, hide = true)]
    successor: bool,

    /// Run such a new process, and exit with its exit code
    #[arg(long, hide = true)]
    go_between: bool,
}

pub fn run(context: &CommandContext, arguments: &RunArgs, mounts: Mounts) -> Result {
    if arguments.background || arguments.successor || arguments.go_between {
        // A daemon must not hold the files of the shell that started it. A new process gets what it
        // needs over stdin.
        close_inherited_fds();
    }
    if arguments.go_between {
        let code = run_systemd_shim(context.launch()?.command(&["--successor"]))?;
        return exit_with(code);
    }
    let (upgrade, reporter) = if arguments.successor {
        let (upgrade, reporter) = UpgradeChild::from_stdin()?;
        (Some(upgrade), Some(reporter))
    } else if arguments.background {
        (None, Some(StartupReporter::from_stdout()?))
    } else {
        (None, None)
    };
    if arguments.background {
        // Fails only if this process leads a process group already.
        let _ = nix::unistd::setsid();
    }
    let sources = context.location.read_sources();
    let settings = match Settings::load_for_daemon(&sources, arguments.background) {
        Ok(settings) => settings,
        Err(problems) => {
            if let Some(upgrade) = upgrade {
                upgrade.decline();
            }
            return report_invalid_settings(problems, reporter);
        }
    };
    let has_reporter = reporter.is_some();
    // `fullon start` and `fullon restart` have their own messages.
    if let Some(warning) = root_warning(std::process::id())
        && !has_reporter
        && !arguments.kept
    {
        print_warning(&warning);
    }
    let pid_file = settings.pid_file.clone();
    let launch = context.launch()?;
    if is_init() && !arguments.background {
        let code = run_supervised(launch.command(&["--kept"]), &pid_file)?;
        return exit_with(code);
    }
    let mode = if arguments.background {
        RunMode::Background
    } else {
        RunMode::Foreground {
            stdout: stdout_options(&settings, &sources),
            is_supervised: arguments.kept,
        }
    };
    if !arguments.background && !has_reporter {
        advise_log_file(better_log_file(&sources));
    }
    let options = StartOptions {
        settings,
        launch,
        mode,
        reporter,
        upgrade,
        mounts,
    };
    match daemon::run(options) {
        Ok(ExitOutcome::Graceful) => Ok(()),
        Ok(ExitOutcome::Interrupted) => Err(CommandError::Exit(1)),
        Ok(ExitOutcome::Supervised(code)) => exit_with(code),
        // The failure was reported to the parent.
        Err(_) if has_reporter => Err(CommandError::Exit(1)),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

/// How stdout shows the log: always on a terminal, and otherwise if nobody chose another place for
/// the log. A reader of `fullon run | cat` would wait for lines in vain.
fn stdout_options(settings: &Settings, sources: &Sources) -> Option<StdoutOptions> {
    let is_terminal = io::stdout().is_terminal();
    let is_chosen = !matches!(sources.get("LOG_FILE"), Some((_, Source::Default)));
    let stdout = inherited_file(io::stdout().as_fd()).ok();
    let is_stdout = |path: &Path| {
        let other = fs::metadata(path).ok();
        stdout
            .as_ref()
            .zip(other.as_ref())
            .is_some_and(|(stdout, other)| is_same_file(stdout, other))
    };
    let is_shown = match settings.log.target.file() {
        None => true,
        Some(file) => {
            is_terminal || !(is_chosen || is_stdout(file) || is_stdout(Path::new("/dev/null")))
        }
    };
    is_shown.then(|| StdoutOptions {
        colour: is_terminal && is_colour_wanted(),
        priorities: is_journal(io::stdout().as_fd()),
    })
}

fn report_invalid_settings(problems: InvalidSettings, reporter: Option<StartupReporter>) -> Result {
    let Some(reporter) = reporter else {
        return Err(problems.into());
    };
    reporter.send(&StartupReport::Failed {
        message: problems.to_string(),
        exit_code: 2,
    });
    Err(CommandError::Exit(2))
}

fn exit_with(code: u8) -> Result {
    match code {
        0 => Ok(()),
        code => Err(CommandError::Exit(code)),
    }
}
