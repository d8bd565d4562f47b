//! The end of the right to read the log while a response is under way.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use uuid::Uuid;

use crate::api::LogStreamEnd;
use crate::auth::{Claims, Session};
use crate::server::auth::AuthState;

/// How soon a stream ends after another process has revoked its token.
const REVOCATION_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// When the right to read the log ends: with the session, or with the token.
pub struct AccessEnd {
    /// Set for a session: when it is ended before it expires.
    signed_out: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Its id, for a session.
    session: Option<Uuid>,
    /// `None` for a token that a local command has signed for itself.
    expires_at: Option<Instant>,
    auth: Arc<AuthState>,
    caller: Claims,
    /// Notified when this process revokes a token.
    revocations: watch::Receiver<()>,
    /// When to look for revocations by other processes.
    next_check: Instant,
    /// The reason in the event `end`.
    reason: &'static str,
}

impl AccessEnd {
    /// The end of the caller's session, or else of its token. The response to a local command has
    /// no end, although its token is valid for one minute.
    pub fn new(auth: &Arc<AuthState>, caller: Claims, session: Option<&Session>) -> Self {
        let remaining = caller.expires_at.duration_since(Timestamp::now());
        let remaining = Duration::try_from(remaining).unwrap_or_default();
        let has_end = session.is_some() || !caller.is_of_command();
        let mut revocations = auth.keyring.revocations().subscribe();
        // The token may have been revoked since it was verified.
        revocations.mark_changed();
        Self {
            signed_out: session.map(|session| Box::pin(session.ended.clone().cancelled_owned())),
            session: session.map(|session| session.id),
            expires_at: has_end.then(|| Instant::now() + remaining),
            auth: Arc::clone(auth),
            caller,
            revocations,
            next_check: Instant::now() + REVOCATION_CHECK_INTERVAL,
            reason: match session {
                Some(_) => LogStreamEnd::SIGNED_OUT,
                None => LogStreamEnd::TOKEN_EXPIRED,
            },
        }
    }

    /// Returns the reason once it is reached.
    pub async fn reached(&mut self) -> &'static str {
        loop {
            let expires_at = self.expires_at.unwrap_or(self.next_check);
            let wake_at = expires_at.min(self.next_check);
            let signed_out = async {
                match &mut self.signed_out {
                    Some(signed_out) => signed_out.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = signed_out => return self.reason,
                _ = self.revocations.changed() => {}
                () = sleep_until(wake_at) => {
                    self.next_check = Instant::now() + REVOCATION_CHECK_INTERVAL;
                }
            }
            if self.is_reached() {
                return self.reason;
            }
        }
    }

    /// Whether it is reached now.
    pub fn is_reached(&self) -> bool {
        let is_expired = self.expires_at.is_some_and(|at| at <= Instant::now());
        is_expired
            || match self.session {
                Some(id) => !self.auth.sessions.contains(id),
                None => self.auth.keyring.refuses(&self.caller),
            }
    }
}
