//! The application: whether its program can be run, and how it learns its address.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::api::{HealthCheck, HealthCheckState};
use crate::config::{AppCommand, AppSettings, Placeholder, user_name, workers_directory};
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::Snapshot;
use crate::sys::{ProgramError, missing_interpreter};

const APPLICATION: &str = "application";

/// Programs that listen where an option says, and the words that give them the socket.
const LISTEN_OPTIONS: [(&str, &str); 5] = [
    ("flask", "add `--port {port}` after `run`"),
    ("gunicorn", "add `--bind fd://{fd}`"),
    ("hypercorn", "add `--bind fd://{fd}`"),
    (
        "node",
        "listen on process.env.PORT, or add `{fd}` and listen on `{ fd: Number(process.argv[2]) }`",
    ),
    ("uvicorn", "add `--fd {fd}`"),
];

/// Whether the program of the application can be run.
pub fn program(snapshot: &Snapshot) -> Option<Finding> {
    let app = snapshot.app.as_ref()?;
    if !app.directory.is_dir() {
        let directory = app.directory.display();
        return Some(Finding::error(
            APPLICATION,
            format!("its working directory {directory} does not exist"),
            "create it, or set APP_DIRECTORY to another one",
        ));
    }
    let file = match app.find_program() {
        Ok(file) => file,
        Err(problem) => return Some(not_runnable(app, &problem)),
    };
    Some(match missing_interpreter(&file) {
        None => Finding::ok(APPLICATION, app.command.to_string()),
        Some(interpreter) => Finding::error(
            APPLICATION,
            format!(
                "{} is a script of {}, which does not exist",
                file.display(),
                interpreter.display()
            ),
            "install the interpreter; a virtual environment that was moved must be created again",
        ),
    })
}

fn not_runnable(app: &AppSettings, problem: &ProgramError) -> Finding {
    let program = app.program();
    let hint = match problem {
        ProgramError::NotInPath => {
            "install it, or write its path in APP_COMMAND, such as `.venv/bin/uvicorn`".into()
        }
        ProgramError::Missing => format!(
            "correct the path in APP_COMMAND; it is relative to {}",
            app.directory.display()
        ),
        ProgramError::IsDirectory => "write the path of a program in APP_COMMAND".into(),
        ProgramError::NotExecutable => {
            format!("run `chmod +x {program}`, or begin APP_COMMAND with its interpreter")
        }
    };
    Finding::error(APPLICATION, format!("{program} {problem}"), hint)
}

/// Whether the application learns its address. A program that is ready has found it without a
/// placeholder, in the variable `PORT`.
pub fn placeholder(snapshot: &Snapshot) -> Option<Finding> {
    let app = snapshot.app.as_ref()?;
    let state = snapshot.app_check().map(|check| check.state);
    if app.command.placeholder() != Placeholder::Environment || state == Some(HealthCheckState::Up)
    {
        return None;
    }
    let hint = match listen_option(&app.command) {
        Some(option) => option,
        // Many programs listen on PORT.
        None if state.is_none() => return None,
        None => {
            "listen on PORT, or add {fd}, {socket} or {port} where the program takes an address"
        }
    };
    Some(Finding::warning(
        APPLICATION,
        "APP_COMMAND has no placeholder, so the program must listen on the variables PORT and HOST",
        hint,
    ))
}

/// The words that are missing for the first known program of the command, which another program may
/// run: `python -m uvicorn`, `sh -c 'exec uvicorn …'`.
fn listen_option(command: &AppCommand) -> Option<&'static str> {
    let words = command.words().iter();
    let mut names = words
        .flat_map(|word| word.split_whitespace())
        .filter_map(|word| Path::new(word).file_name()?.to_str());
    names.find_map(|name| {
        let mut known = LISTEN_OPTIONS.iter();
        known.find_map(|(program, option)| (*program == name).then_some(*option))
    })
}

/// Whether a worker is ready.
pub fn workers(snapshot: &Snapshot) -> Option<Finding> {
    let HealthCheck {
        state, last_error, ..
    } = snapshot.app_check()?;
    if *state != HealthCheckState::Down {
        return Some(Finding::ok(APPLICATION, "a worker is ready"));
    }
    let error = last_error.as_deref().unwrap_or("no reason was reported");
    Some(Finding::error(
        APPLICATION,
        format!("no worker is ready: {error}"),
        "`fullon logs` has its output; fix the application, then run `fullon restart`",
    ))
}

/// Whether the directory of the sockets can be used.
pub fn sockets(snapshot: &Snapshot) -> Option<Finding> {
    snapshot.app.as_ref()?;
    let path = workers_directory(&snapshot.settings.client.pid_file);
    let found = fs::symlink_metadata(&path).ok()?;
    let me = nix::unistd::geteuid().as_raw();
    let problem = if !found.is_dir() {
        "is not a directory".into()
    } else if found.uid() != me && me != 0 {
        format!("belongs to {}", user_name(found.uid()))
    } else {
        return None;
    };
    Some(Finding::error(
        APPLICATION,
        format!(
            "{} {problem}, but workers need it for their sockets",
            path.display()
        ),
        "remove it, or set PID_FILE to a file in a directory that only this user can write to",
    ))
}
