//! Revokes tokens: through the daemon, or in its files when it is not running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use thiserror::Error;
use uuid::Uuid;

use super::target::{DaemonControl, Endpoint};
use crate::api::{RevokeRequest, RevokeResult};
use crate::audit::{AuditFile, AuditTrail, Event, Outcome};
use crate::auth::{Revocations, RevokeError, RevokedToken};
use crate::client::{AdminClient, ClientError};
use crate::config::{InvalidSettings, SettingProblem};
use crate::instance::{PidFileError, StateFile};

/// The setting that the signing key may come from.
const KEY_SETTING: &str = "JWT_SECRET_KEY";
/// The action in the audit trail.
const ACTION: &str = "revoke_tokens";
/// How often a request is repeated while the daemon is being replaced, and how long in between.
const TRIES: u32 = 120;
const TRY_INTERVAL: Duration = Duration::from_millis(500);
/// The same for one token: the limit on tokens has the same status.
const TRIES_FOR_ONE: u32 = 3;
/// The longest wait for the second from which new tokens are valid.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The tokens are not revoked.
#[derive(Debug, Error)]
pub enum RevokeTokensError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The files cannot be changed.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// It is unknown whether the program generated the key.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
}

/// The outcome of a revocation.
#[derive(Debug)]
pub struct RevokeOutcome {
    pub result: RevokeResult,
    /// Whether the files were changed, because no daemon runs.
    pub is_offline: bool,
    /// Why the audit trail has no record of it.
    pub audit_error: Option<String>,
    /// The key file that was changed without a daemon.
    pub key_file: Option<PathBuf>,
}

impl DaemonControl {
    /// Revokes one token or all of them. `problems` are those of the settings.
    ///
    /// # Errors
    ///
    /// Why they are not revoked.
    pub async fn revoke_tokens(
        &self,
        request: &RevokeRequest,
        problems: &[SettingProblem],
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        if let Some(endpoint) = self.find_endpoint().await? {
            return self.revoke_through(endpoint, request).await;
        }
        let outcome = self.revoke_in_files(request, problems).await?;
        // A daemon that has started meanwhile may have read the old key.
        match self.find_endpoint().await? {
            Some(endpoint) if request.all == Some(true) => {
                self.revoke_through(endpoint, request).await
            }
            _ => Ok(outcome),
        }
    }

    /// Repeats the request while a restart is in progress. Each try is to the process that is then
    /// the daemon.
    async fn revoke_through(
        &self,
        endpoint: Endpoint,
        request: &RevokeRequest,
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        let mut client = endpoint.client?;
        let mut tries = if request.all == Some(true) {
            TRIES
        } else {
            TRIES_FOR_ONE
        };
        let result = loop {
            tries -= 1;
            match client.revoke_tokens(request).await {
                Err(error) if error.is_conflict() && tries > 0 => {
                    tokio::time::sleep(TRY_INTERVAL).await;
                    client = self.current_client(client).await?;
                }
                result => break result?,
            }
        };
        Ok(RevokeOutcome {
            result,
            is_offline: false,
            audit_error: None,
            key_file: None,
        })
    }

    async fn current_client(&self, known: AdminClient) -> Result<AdminClient, RevokeTokensError> {
        match self.find_endpoint().await? {
            Some(endpoint) => Ok(endpoint.client?),
            None => Ok(known),
        }
    }

    /// No daemon runs. The next one reads these files.
    async fn revoke_in_files(
        &self,
        request: &RevokeRequest,
        problems: &[SettingProblem],
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        let key_file = self.settings.key_file.as_deref();
        let revocations = Revocations::new(key_file.map(Revocations::path));
        let token = match (&request.token, &request.jti) {
            (Some(token), _) => Some(RevokedToken::Token(token.clone())),
            (None, Some(jti)) => Some(RevokedToken::Id(jti.clone())),
            (None, None) => None,
        };
        let mut signing_key = RevokeResult::UNCHANGED;
        let mut replaced_file = None;
        let (audit_error, result) = if let Some(token) = token {
            token.check()?;
            let audit_error = self.record_revocation(&token.audit_name());
            (audit_error, revocations.revoke(&token))
        } else {
            let is_about_key = |problem: &&SettingProblem| problem.setting == KEY_SETTING;
            let about_key: Vec<_> = problems.iter().filter(is_about_key).cloned().collect();
            if !about_key.is_empty() {
                return Err(InvalidSettings(about_key).into());
            }
            let audit_error = self.record_revocation("all");
            let own_key = key_file.filter(|_| !self.is_key_configured());
            let result = revocations.revoke_all_offline(own_key);
            if let Ok(all) = &result {
                if all.new_key.is_some() {
                    signing_key = RevokeResult::REPLACED;
                    replaced_file = own_key.map(Path::to_owned);
                }
                // A token that is issued in this second would be revoked.
                let wait = Duration::try_from(all.valid_from.duration_since(Timestamp::now()));
                tokio::time::sleep(wait.unwrap_or_default().min(MAX_WAIT)).await;
            }
            (audit_error, result.map(drop))
        };
        if let Err(error) = result {
            self.record(Outcome::Failed, |event| {
                event.reason = Some(error.to_string());
            });
            return Err(error.into());
        }
        Ok(RevokeOutcome {
            result: RevokeResult {
                sessions_ended: None,
                signing_key: signing_key.into(),
            },
            is_offline: true,
            audit_error,
            key_file: replaced_file,
        })
    }

    /// Whether `JWT_SECRET_KEY` is set, here or where the last daemon was started: the command may
    /// run in another directory.
    fn is_key_configured(&self) -> bool {
        let of_last_daemon = || {
            let state = StateFile::read_last(&self.settings.pid_file).ok()?;
            let sources = state.settings_location().read_sources();
            sources.get(KEY_SETTING).map(|_| ())
        };
        self.settings.jwt_secret.is_some() || of_last_daemon().is_some()
    }

    fn record_revocation(&self, revoked: &str) -> Option<String> {
        self.record(Outcome::Accepted, |event| {
            event.detail.insert("revoked".into(), json!(revoked));
        })
    }

    /// Records a change that this command makes itself, as the daemon would. Returns why there is
    /// no record.
    fn record(&self, outcome: Outcome, describe: impl FnOnce(&mut Event)) -> Option<String> {
        let path = self.settings.audit_file.as_deref()?;
        // The daemon creates the file. It must not belong to another user, such as root.
        let file = match AuditFile::check(path) {
            Ok(true) => AuditFile::open(path),
            Ok(false) => return None,
            Err(error) => Err(error),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) => return Some(error.to_string()),
        };
        let trail = AuditTrail::new(Some(file), &Uuid::nil().to_string());
        let mut event = Event::new(ACTION, outcome);
        event.subject = Some(self.subject.clone());
        describe(&mut event);
        trail.record(&event);
        trail.status()?.error
    }
}
