//! What a daemon leaves on the machine: its PID file, and the state file beside it.

use std::path::Path;

use super::Finding;
use super::machine::obstacle;
use crate::api::Status;
use crate::instance::{
    LockHolder, PidFile, PidFileError, PidFileStatus, Process, StateFile, StateFileError,
    inspect_pid_file, read_recorded_pid,
};

pub const PID_FILE: &str = "PID file";
const STATE_FILE: &str = "state file";

/// A PID file that a daemon holds.
pub fn held(path: &Path, holder: &LockHolder) -> Finding {
    let shown = path.display();
    match holder {
        LockHolder::Known(process) => match read_recorded_pid(path) {
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
        LockHolder::Hidden(number) => Finding::warning(
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
    matches!(inspect_pid_file(path), Ok(PidFileStatus::Held(holder)) if holder.pid() == Some(pid))
}

/// A PID file that nobody holds, though the daemon may run that should.
pub fn not_held(path: &Path, running: Option<&Status>) -> Finding {
    let shown = path.display();
    let presence = inspect_pid_file(path);
    if let Some(status) = running {
        let was = match presence {
            Ok(PidFileStatus::Absent) => "was removed",
            _ => "was replaced",
        };
        return Finding::error(
            PID_FILE,
            format!("{shown} {was} while its daemon runs (PID {})", status.pid),
            "fullon stop, then fullon start",
        );
    }
    match presence {
        Err(error) => unusable(path, &error),
        // It was started just now.
        Ok(PidFileStatus::Held(holder)) => held(path, &holder),
        Ok(PidFileStatus::Absent) => match obstacle(path) {
            None => Finding::ok(
                PID_FILE,
                format!("{shown} is not there: no daemon runs under it"),
            )
            .with_hint("fullon start"),
            Some(why) => cannot_create(path, &why),
        },
        Ok(PidFileStatus::Stale(number)) => match (PidFile::check_usable(path), obstacle(path)) {
            (Err(error), _) => unusable(path, &error),
            (Ok(()), Some(why)) => cannot_create(&StateFile::path(path), &why),
            (Ok(()), None) => stale(path, number),
        },
    }
}

fn stale(path: &Path, number: Option<u32>) -> Finding {
    let shown = path.display();
    let stranger = number
        .and_then(Process::open)
        .filter(|process| !process.has_exited());
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

fn cannot_create(path: &Path, why: &str) -> Finding {
    Finding::error(
        PID_FILE,
        format!("{} cannot be made: {why}", path.display()),
        "set PID_FILE to a file in a directory of this user",
    )
}

pub fn unusable(path: &Path, error: &PidFileError) -> Finding {
    let shown = path.display();
    let (seen, next) = match error {
        PidFileError::LockedByOtherProgram(_) => (
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
    Finding::error(PID_FILE, seen, next)
}

/// The state file of a daemon that holds the PID file.
pub fn state_file(pid_file: &Path, holder: &LockHolder, was_read: bool) -> Option<Finding> {
    let path = StateFile::path(pid_file);
    let shown = path.display();
    if was_read {
        return Some(Finding::ok(STATE_FILE, shown.to_string()));
    }
    let why = match StateFile::read_active(pid_file, holder.pid()?).err()? {
        StateFileError::Io { source, .. } => format!("cannot be read: {source}"),
        StateFileError::Untrusted { reason, .. } => reason.into(),
    };
    let is_ours = matches!(holder, LockHolder::Known(process) if process.belongs_to_this_user());
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
    use super::super::Severity;
    use super::*;

    #[test]
    fn daemon_replaced_meanwhile_is_no_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut successor = PidFile::acquire(&path).unwrap();
        let predecessor =
            LockHolder::Known(Process::open(std::os::unix::process::parent_id()).unwrap());
        assert_eq!(held(&path, &predecessor).verdict, Severity::Warning);
        successor.claim().unwrap();
        assert_eq!(held(&path, &predecessor).verdict, Severity::Ok);
        std::fs::write(&path, "1").unwrap();
        assert_eq!(held(&path, &predecessor).verdict, Severity::Warning);
    }
}
