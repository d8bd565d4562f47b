//! The settings, the file that they come from, and the secret.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{AccessFlags, access};

use super::super::token::key_hint;
use super::Finding;
use super::daemon::{DaemonState, Snapshot};
use super::machine::obstacle;
use crate::auth::{KeyError, read_key_file};
use crate::config::{ClientSettings, Secret, SettingProblem, Source, Sources, flag_name};

pub const SETTINGS: &str = "settings";
const ENV_FILE: &str = ".env";
const SECRET: &str = "secret";
const JWT_SECRET_KEY: &str = "JWT_SECRET_KEY";

/// A random key of 32 bytes has more different ones in it, in whatever alphabet.
const MIN_DIFFERENT_BYTES: usize = 8;

/// A finding for each problem, or one that there is none.
pub fn findings(sources: &Sources, problems: &[SettingProblem]) -> Vec<Finding> {
    if problems.is_empty() {
        return vec![Finding::ok(SETTINGS, "valid")];
    }
    let of_problem = |problem: &SettingProblem| {
        let subject = if is_of_file(problem, sources) {
            ENV_FILE
        } else if problem.setting == JWT_SECRET_KEY {
            SECRET
        } else {
            SETTINGS
        };
        Finding::error(
            subject,
            problem.to_string(),
            next_step(problem, sources, false),
        )
    };
    problems.iter().map(of_problem).collect()
}

fn is_of_file(problem: &SettingProblem, sources: &Sources) -> bool {
    problem.setting == sources.file().display().to_string()
}

/// What to do about a problem, which may be one of a running daemon: that keeps its file.
pub fn next_step(problem: &SettingProblem, sources: &Sources, is_running: bool) -> String {
    if is_of_file(problem, sources) {
        if !sources.is_file_trusted() {
            return "chown it to yourself and chmod go-w, remove it, or work in another directory"
                .into();
        }
        return match access(sources.file(), AccessFlags::R_OK).map_err(io::Error::from) {
            Ok(()) => "mend the file: NAME=value lines, and with secrets in it chmod 600".into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_running => {
                "put it back, or name another: fullon --env-file FILE restart --hard".into()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "give --env-file a file that is there".into()
            }
            Err(_) => "run this as its owner, or let this user read it (chmod, chown)".into(),
        };
    }
    let name = &problem.setting;
    match sources.get(name) {
        Some((_, Source::File(path))) => format!("edit {}", path.display()),
        Some((_, Source::Environment)) => format!("change {name} in the environment"),
        Some((_, Source::Flag)) => format!("change --{}", flag_name(name)),
        Some((_, Source::Default)) | None => format!("set {name}"),
    }
}

/// A finding for each name in the file that looks like a setting.
pub fn typos(sources: &Sources) -> impl Iterator<Item = Finding> {
    let shown = sources.file().display();
    sources.typos().iter().map(move |miss| {
        Finding::warning(
            ENV_FILE,
            format!("{} in {shown} is no setting", miss.name),
            format!("if {} is meant, correct it there", miss.setting),
        )
    })
}

/// Whether the file is there; `None` where a problem tells that it cannot be used.
pub fn env_file(sources: &Sources, problems: &[SettingProblem]) -> Option<Finding> {
    if problems.iter().any(|problem| is_of_file(problem, sources)) {
        return None;
    }
    let path = sources.file();
    let shown = path.display();
    if !path.exists() {
        let directory = path
            .parent()
            .and_then(|directory| directory.metadata().ok());
        return Some(if directory.is_some_and(|there| there.nlink() == 0) {
            Finding::warning(
                ENV_FILE,
                "the working directory was removed, and any .env with it",
                "cd to a directory that is there",
            )
        } else {
            Finding::ok(ENV_FILE, format!("{shown} is not there, and need not be"))
        });
    }
    Some(Finding::ok(ENV_FILE, shown.to_string()))
}

/// Whether the secret can be had, and guessed; `None` where a problem tells that it is no secret.
pub fn secret(sources: &Sources, locator: &ClientSettings, daemon: &Snapshot) -> Option<Finding> {
    if let Some((_, source)) = sources.get(JWT_SECRET_KEY) {
        let seen = format!("{JWT_SECRET_KEY} ({source})");
        return Some(strength(locator.jwt_secret.as_ref()?, seen));
    }
    let path = locator.key_file.as_ref()?;
    let shown = path.display();
    let (seen, next) = match read_key_file(path) {
        Ok(key) => return Some(strength(&key, shown.to_string())),
        Err(error) if error.is_missing() => {
            if daemon.daemon_state == DaemonState::Running {
                return Some(Finding::warning(
                    SECRET,
                    format!(
                        "{shown} is not there, while the daemon runs: it has another secret, or this one was removed"
                    ),
                    key_hint(daemon.process.as_ref()),
                ));
            }
            let Some(why) = obstacle(path) else {
                let seen = format!("{shown} is made by the first start");
                return Some(Finding::ok(SECRET, seen));
            };
            (
                format!("{shown} cannot be made: {why}"),
                "set HOME to a directory of this user, or set JWT_SECRET_KEY".into(),
            )
        }
        Err(KeyError::Exposed { mode, .. }) => (
            format!("{shown} can be read by others (mode {mode:o})"),
            format!("chmod 600 {shown}, and consider a new key"),
        ),
        Err(KeyError::WrongOwner(_)) => (
            format!("{shown} belongs to another user"),
            "move it away: the next start makes a key".into(),
        ),
        Err(KeyError::HardLinked(_)) => (
            format!("{shown} has another name, too (a hard link)"),
            "move it away: the next start makes a key".into(),
        ),
        Err(KeyError::TooShort(_)) => (
            format!("{shown} holds less than 32 bytes"),
            "remove it: the next start makes a key".into(),
        ),
        Err(error) => (
            error.to_string(),
            "run this as its owner, or set JWT_SECRET_KEY".into(),
        ),
    };
    Some(Finding::error(SECRET, seen, next))
}

fn strength(secret: &Secret, seen: String) -> Finding {
    match weakness(secret.expose().as_bytes()) {
        None => Finding::ok(SECRET, seen),
        Some(weakness) => Finding::error(
            SECRET,
            format!("{seen} {weakness}: it can be guessed"),
            "put the output of `openssl rand -hex 32` there, and restart",
        ),
    }
}

/// Why a secret that is long enough is easily guessed all the same.
fn weakness(secret: &[u8]) -> Option<String> {
    let period = (1..=secret.len() / 2)
        .find(|period| secret.iter().zip(&secret[*period..]).all(|(a, b)| a == b));
    if let Some(period) = period {
        return Some(match period {
            1 => "is one byte, repeated".into(),
            period => format!("is {period} bytes, repeated"),
        });
    }
    let mut different = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    (different.len() < MIN_DIFFERENT_BYTES)
        .then(|| format!("has {} different bytes", different.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::generate_key;

    #[test]
    fn secret_with_little_entropy_is_weak() {
        for weak in [
            "k".repeat(32),
            "secret".repeat(6),
            "change-me!".repeat(4) + "chan",
            "00112233445566001122334455660001".into(),
        ] {
            assert!(weakness(weak.as_bytes()).is_some(), "{weak}");
        }
        for _ in 0..1000 {
            let key = generate_key().unwrap();
            assert_eq!(weakness(key.expose().as_bytes()), None, "{}", key.expose());
        }
        assert_eq!(weakness(b"31415926535897932384626433832795"), None);
    }
}
