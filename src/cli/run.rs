//! `fullon run`, the process behind `fullon start`, and the successor in a restart.

use std::io::{self, IsTerminal as _};

use super::{Context, Failure, Result};
use crate::config::{Problems, Settings, colour_wanted};
use crate::daemon::{Ended, Mode, Start, Succession, go_between, keeper};
use crate::instance::{Announcement, Announcer};
use crate::logs::Stdout;
use crate::server::public::Mounts;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct Arguments {
    /// As `fullon start` does it: in a session of its own, reporting on the pipe that is stdout
    #[arg(long, hide = true)]
    background: bool,

    /// The parent stands in for this process when it is replaced
    #[arg(long, hide = true)]
    kept: bool,

    /// Replace the daemon at the other end of the socket that is stdin
    #[arg(long, hide = true)]
    successor: bool,

    /// Run such a successor, and end as it does
    #[arg(long, hide = true)]
    go_between: bool,
}

pub fn run(context: &Context, arguments: &Arguments, mounts: Mounts) -> Result {
    if arguments.go_between {
        let code = go_between(context.launch()?.command(&["--successor"]))?;
        return exit_with(code);
    }
    let (succession, announcer) = if arguments.successor {
        let (succession, announcer) = Succession::from_stdin()?;
        (Some(succession), Some(announcer))
    } else if arguments.background {
        (None, Some(Announcer::from_stdout()?))
    } else {
        (None, None)
    };
    if arguments.background {
        // Fails only for the leader of a process group, which is what it makes us.
        let _ = nix::unistd::setsid();
    }
    let settings = match settings(context, arguments) {
        Ok(settings) => settings,
        Err(problems) => return refuse(problems, announcer),
    };
    let is_heard = announcer.is_some();
    let pid_file = settings.pid_file.clone();
    let launch = context.launch()?;
    if keeper::is_first_process() && !arguments.background {
        let code = keeper::run(launch.command(&["--kept"]), &pid_file)?;
        return exit_with(code);
    }
    let mode = if arguments.background {
        Mode::Background
    } else {
        Mode::Foreground {
            terminal: io::stdout().is_terminal().then(|| Stdout {
                colour: colour_wanted(),
            }),
            is_kept: arguments.kept,
        }
    };
    let start = Start {
        settings,
        launch,
        mode,
        announcer,
        succession,
        mounts,
    };
    match start.run() {
        Ok(Ended::Gracefully) => Ok(()),
        Ok(Ended::Interrupted) => Err(Failure::Exit(1)),
        Ok(Ended::Kept(code)) => exit_with(code),
        // What failed was announced.
        Err(_) if is_heard => Err(Failure::Exit(1)),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

fn settings(context: &Context, arguments: &Arguments) -> std::result::Result<Settings, Problems> {
    let settings = Settings::load(&context.origin.sources())?;
    if arguments.background {
        settings.check_background()?;
    }
    Ok(settings)
}

fn refuse(problems: Problems, announcer: Option<Announcer>) -> Result {
    let Some(announcer) = announcer else {
        return Err(problems.into());
    };
    announcer.announce(&Announcement::Failed {
        message: problems.to_string(),
        exit_code: 2,
    });
    Err(Failure::Exit(2))
}

fn exit_with(code: u8) -> Result {
    match code {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}
