//! The secret that tokens are signed with, and whether the daemon accepts them.

use crate::auth::{KeyError, Revocations, check_revocations, read_key_file};
use crate::client::ClientError;
use crate::control::key_hint;
use crate::doctor::creation::creation_obstacle;
use crate::doctor::finding::{Finding, SIGNING_KEY};
use crate::doctor::snapshot::{DaemonState, Snapshot};
use crate::instance::StateFile;

const TOKEN: &str = "token";
const REVOKED: &str = "revoked tokens";
const JWT_SECRET_KEY: &str = "JWT_SECRET_KEY";

/// Whether the secret exists, is protected, and cannot be guessed. An invalid `JWT_SECRET_KEY` is
/// reported with the other settings.
pub fn secret(snapshot: &Snapshot) -> Option<Finding> {
    let settings = &snapshot.settings.client;
    if let Some((_, source)) = snapshot.sources.get(JWT_SECRET_KEY) {
        settings.jwt_secret.as_ref()?;
        let message = format!("{JWT_SECRET_KEY} ({source})");
        return Some(Finding::ok(SIGNING_KEY, message));
    }
    let path = settings.key_file.as_ref()?;
    let shown = path.display();
    let (message, hint) = match read_key_file(path) {
        Ok(_) => return Some(Finding::ok(SIGNING_KEY, shown.to_string())),
        Err(error) if error.is_missing() => {
            if snapshot.daemon_state == DaemonState::Running {
                return Some(Finding::warning(
                    SIGNING_KEY,
                    format!(
                        "{shown} does not exist although the daemon is running: the daemon uses another key, or the file was removed"
                    ),
                    key_hint(snapshot.process()),
                ));
            }
            let Some(obstacle) = creation_obstacle(path) else {
                let message = format!("{shown} does not exist yet; the first start creates it");
                return Some(Finding::ok(SIGNING_KEY, message));
            };
            (
                format!("{shown} cannot be created: {obstacle}"),
                "set HOME to a directory that this user can write to, or set JWT_SECRET_KEY".into(),
            )
        }
        Err(KeyError::Exposed { mode, .. }) => (
            format!("{shown} is readable by other users (mode {mode:o})"),
            format!("run `chmod 600 {shown}`, and consider a new key"),
        ),
        Err(KeyError::WrongOwner(_)) => (
            format!("{shown} belongs to another user"),
            "move the file away; the next start creates a new key".into(),
        ),
        Err(KeyError::HardLinked(_)) => (
            format!("{shown} has more than one hard link"),
            "move the file away; the next start creates a new key".into(),
        ),
        Err(KeyError::TooShort(_)) => (
            format!("{shown} contains fewer than 32 bytes"),
            "remove the file; the next start creates a new key".into(),
        ),
        Err(KeyError::Weak { weakness, .. }) => (
            format!("the key in {shown} {weakness}: it can be guessed"),
            "remove the file, then run `fullon restart`, which creates a new key".into(),
        ),
        Err(error) => (
            error.to_string(),
            "run this as the file's owner, or set JWT_SECRET_KEY".into(),
        ),
    };
    Some(Finding::error(SIGNING_KEY, message, hint))
}

/// Whether the daemon accepts the tokens of `fullon token`. A missing key is reported by
/// [`secret`].
pub fn token(snapshot: &Snapshot) -> Option<Finding> {
    match snapshot.token.as_ref()? {
        Ok(()) => Some(Finding::ok(
            TOKEN,
            "the running daemon accepts tokens signed with the local key",
        )),
        Err(ClientError::TokenRefused { problem, .. }) => Some(Finding::warning(
            TOKEN,
            format!(
                "the running daemon rejects tokens signed with the local key: {}",
                problem.reason()
            ),
            key_hint(snapshot.process()),
        )),
        Err(_) => None,
    }
}

/// Whether the file of revoked tokens can be read. The daemon of `--admin-url` reads its own.
pub fn revocations(snapshot: &Snapshot) -> Option<Finding> {
    if snapshot.daemon_state == DaemonState::Remote {
        return None;
    }
    let client = &snapshot.settings.client;
    let key_file = client.key_file.as_ref()?;
    let key = match &client.jwt_secret {
        Some(secret) => Some(secret.clone()),
        None => read_key_file(key_file).ok(),
    };
    let path = Revocations::path(key_file);
    let last = StateFile::read_own(&client.pid_file).ok();
    let had_list = last.is_some_and(|state| state.knows_revocations_of(key_file));
    let is_removed = had_list && !path.exists();
    let is_readable = !is_removed && check_revocations(&path).is_ok();
    let revocations = Revocations::new(Some(path)).expecting(had_list);
    let found = revocations.problem(key.as_ref())?;
    let finding = if is_readable {
        Finding::warning
    } else {
        Finding::error
    };
    Some(finding(REVOKED, found.problem, &found.hint))
}
