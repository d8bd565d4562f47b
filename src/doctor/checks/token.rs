//! The secret that tokens are signed with, and whether the daemon accepts them.

use crate::auth::{KeyError, read_key_file};
use crate::client::ClientError;
use crate::config::Secret;
use crate::control::key_hint;
use crate::doctor::creation::creation_obstacle;
use crate::doctor::finding::{Finding, SIGNING_KEY};
use crate::doctor::snapshot::{DaemonState, Snapshot};

const TOKEN: &str = "token";
const JWT_SECRET_KEY: &str = "JWT_SECRET_KEY";

/// A random key of 32 bytes has more distinct bytes, in any alphabet.
const MIN_DISTINCT_BYTES: usize = 8;

/// Whether the secret exists, is protected, and cannot be guessed. An invalid `JWT_SECRET_KEY` is
/// reported with the other settings.
pub fn secret(snapshot: &Snapshot) -> Option<Finding> {
    let settings = &snapshot.settings.client;
    if let Some((_, source)) = snapshot.sources.get(JWT_SECRET_KEY) {
        let message = format!("{JWT_SECRET_KEY} ({source})");
        return Some(strength(settings.jwt_secret.as_ref()?, message));
    }
    let path = settings.key_file.as_ref()?;
    let shown = path.display();
    let (message, hint) = match read_key_file(path) {
        Ok(key) => return Some(strength(&key, shown.to_string())),
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
        Ok(_) => Some(Finding::ok(
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

fn strength(secret: &Secret, message: String) -> Finding {
    match weakness(secret.expose().as_bytes()) {
        None => Finding::ok(SIGNING_KEY, message),
        Some(weakness) => Finding::error(
            SIGNING_KEY,
            format!("{message} {weakness}: it can be guessed"),
            "replace the key by the output of `openssl rand -hex 32`, then run `fullon restart`",
        ),
    }
}

/// Why a secret that is long enough is still easy to guess.
fn weakness(secret: &[u8]) -> Option<String> {
    let period = (1..=secret.len() / 2)
        .find(|period| secret.iter().zip(&secret[*period..]).all(|(a, b)| a == b));
    if let Some(period) = period {
        return Some(match period {
            1 => "is one repeated byte".into(),
            period => format!("repeats a sequence of {period} bytes"),
        });
    }
    let mut distinct = secret.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() < MIN_DISTINCT_BYTES)
        .then(|| format!("has only {} different bytes", distinct.len()))
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
