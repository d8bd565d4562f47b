//! `fullon run`, and the process behind `fullon start`.

use std::io::{self, IsTerminal as _};

use super::{Context, Failure, Result};
use crate::config::{Settings, colour_wanted};
use crate::daemon::{self, Ended, Mode, Origin};
use crate::instance::{Announcement, Announcer};
use crate::logs::Stdout;
use crate::server::public::Mounts;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// As `fullon start` does it: in a session of its own, reporting on the pipe that is stdout
    #[arg(long, hide = true)]
    background: bool,
}

pub fn run(context: &Context, arguments: &Arguments, mounts: Mounts) -> Result {
    let settings = Settings::load(&context.sources());
    let origin = Origin {
        working_directory: context.directory.clone(),
        env_file: context
            .env_file
            .as_ref()
            .map(|path| context.directory.join(path)),
        flags: context.flags.clone(),
    };
    if !arguments.background {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal().then(|| Stdout {
            colour: colour_wanted(),
        });
        let mode = Mode::Foreground { terminal };
        let ended = daemon::run(settings?, origin, mode, mounts).map_err(anyhow::Error::from)?;
        return exit_code(ended);
    }

    let announcer = Announcer::from_stdout()?;
    // Fails only for the leader of a process group, which is what it makes us.
    let _ = nix::unistd::setsid();
    match settings.and_then(|settings| settings.check_background().map(|()| settings)) {
        Ok(settings) => {
            let mode = Mode::Background(announcer);
            // What failed was announced.
            let ended =
                daemon::run(settings, origin, mode, mounts).map_err(|_| Failure::Exit(1))?;
            exit_code(ended)
        }
        Err(problems) => {
            announcer.announce(&Announcement::Failed {
                message: problems.to_string(),
                exit_code: 2,
            });
            Err(Failure::Exit(2))
        }
    }
}

fn exit_code(ended: Ended) -> Result {
    match ended {
        Ended::Gracefully => Ok(()),
        Ended::Interrupted => Err(Failure::Exit(1)),
    }
}
