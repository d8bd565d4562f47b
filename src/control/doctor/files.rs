//! What a daemon leaves on the machine: its PID file, and the state file beside it.

use std::path::Path;

use super::Finding;
use super::machine::obstacle;
use crate::api::Status;
use crate::instance::{
    Holder, PidFile, PidFileError, Presence, Process, State, StateFileError, inspect, number_in,
};

pub const PID_FILE: &str = "PID file";
const STATE_FILE: &str = "state file";

/// A PID file that a daemon holds.
pub fn held(path: &Path, holder: &Holder) -> Finding {
    let shown = path.display();
    match holder {
        Holder::Process(process) => match number_in(path) {
            Some(number) if number == process.pid() || is_held_by(path, number) => Finding::ok(
                PID_FILE,
                format!("{shown}: {} holds it", process.describe()),
            ),
            number => Finding::warning(
                PID_FILE,
                format!(
                    "{shown}: {} holds it, but the number in it is {}",
                    process.describe(),
                    number.map_or("missing".into(), |number| number.to_string()),
                ),
                "fullon restart puts it right; until then do not signal that number",
            ),
        },
        Holder::Hidden(number) => Finding::warning(
            PID_FILE,
            format!(
                "{shown}: a process holds it that this user may not look at{}",
                number.map_or(String::new(), |number| format!(" (PID {number}, it says)")),
            ),
            "run this as the daemon's user, or as root",
        ),
    }
}

/// Whether it is another daemon's by now: one may have been replaced since it was seen to hold the file.
fn is_held_by(path: &Path, pid: u32) -> bool {
    matches!(inspect(path), Ok(Presence::Held(holder)) if holder.pid() == Some(pid))
}

/// A PID file that nobody holds, though the daemon may run that should.
pub fn not_held(path: &Path, running: Option<&Status>) -> Finding {
    let shown = path.display();
    let presence = inspect(path);
    if let Some(status) = running {
        let was = match presence {
            Ok(Presence::Absent) => "was removed",
            _ => "was replaced",
        };
        return Finding::wrong(
            PID_FILE,
            format!("{shown} {was} while its daemon runs (PID {})", status.pid),
            "fullon stop, then fullon start",
        );
    }
    match presence {
        Err(error) => unusable(path, &error),
        // It was started just now.
        Ok(Presence::Held(holder)) => held(path, &holder),
        Ok(Presence::Absent) => match obstacle(path) {
            None => Finding::ok(
                PID_FILE,
                format!("{shown} is not there: no daemon runs under it"),
            )
            .then("fullon start"),
            Some(why) => cannot_be_made(path, &why),
        },
        Ok(Presence::Stale(number)) => match (PidFile::check(path), obstacle(path)) {
            (Err(error), _) => unusable(path, &error),
            (Ok(()), Some(why)) => cannot_be_made(&State::path(path), &why),
            (Ok(()), None) => stale(path, number),
        },
    }
}

fn stale(path: &Path, number: Option<u32>) -> Finding {
    let shown = path.display();
    let stranger = number
        .and_then(Process::open)
        .filter(|process| !process.is_gone());
    match (stranger, number) {
        (Some(stranger), _) => Finding::warning(
            PID_FILE,
            format!(
                "{shown} is stale, and its number is now that of a stranger: {}",
                stranger.describe()
            ),
            "do not signal it; fullon start takes the file over",
        ),
        (None, Some(number)) => Finding::warning(
            PID_FILE,
            format!(
                "{shown} is stale: PID {number} crashed or was killed, and nothing was started since"
            ),
            "fullon start takes it over; fullon logs --no-follow may tell why",
        ),
        (None, None) => Finding::warning(
            PID_FILE,
            format!("{shown} is stale, and has no number in it"),
            "fullon start takes it over",
        ),
    }
}

fn cannot_be_made(path: &Path, why: &str) -> Finding {
    Finding::wrong(
        PID_FILE,
        format!("{} cannot be made: {why}", path.display()),
        "set PID_FILE to a file in a directory of this user",
    )
}

pub fn unusable(path: &Path, error: &PidFileError) -> Finding {
    let shown = path.display();
    let (seen, next) = match error {
        PidFileError::Foreign(_) => (
            format!("{shown} is locked by a program that is not this daemon"),
            "choose another PID_FILE (lslocks names the program)",
        ),
        PidFileError::Unusable { reason, .. } => (
            format!("{shown} {reason}"),
            "choose another PID_FILE, or move away what is there",
        ),
        PidFileError::Io { action, source, .. } => (
            format!("{shown} cannot be {action}: {source}"),
            "run this as its owner, or set PID_FILE to a file in a directory of this user",
        ),
        _ => (error.to_string(), "fullon status"),
    };
    Finding::wrong(PID_FILE, seen, next)
}

/// The state file of a daemon that holds the PID file.
pub fn state_file(pid_file: &Path, holder: &Holder, was_read: bool) -> Option<Finding> {
    let path = State::path(pid_file);
    let shown = path.display();
    if was_read {
        return Some(Finding::ok(STATE_FILE, shown.to_string()));
    }
    let why = match State::read(pid_file, holder.pid()?).err()? {
        StateFileError::Io { source, .. } => format!("cannot be read: {source}"),
        StateFileError::Untrusted { reason, .. } => reason.into(),
    };
    let is_ours = matches!(holder, Holder::Process(process) if process.is_ours());
    Some(Finding::warning(
        STATE_FILE,
        format!("{shown} {why}: verbs have to go by the settings here"),
        if is_ours {
            "fullon restart writes it again"
        } else {
            "run this as the daemon's user"
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_daemon_that_was_replaced_meanwhile_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut successor = PidFile::acquire(&path).unwrap();
        let predecessor =
            Holder::Process(Process::open(std::os::unix::process::parent_id()).unwrap());
        assert_eq!(held(&path, &predecessor).verdict, Verdict::Warning);
        successor.take_over().unwrap();
        assert_eq!(held(&path, &predecessor).verdict, Verdict::Ok);
        std::fs::write(&path, "1").unwrap();
        assert_eq!(held(&path, &predecessor).verdict, Verdict::Warning);
    }
}
