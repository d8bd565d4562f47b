//! Revocation of tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use tokio::task::spawn_blocking;

use super::state::{AdminState, NOT_ACTIVE, StateHandle, submit};
use super::tag::AdminTag;
use crate::api::{RevokeRequest, RevokeResult};
use crate::auth::{Claims, LOCK_TIMEOUT, Revocation, RevokeError};
use crate::server::api::control_request::{
    ControlRequest, ControlSender, RevokeAllCommand, RevokeAllOutcome,
};
use crate::server::auth::{Auth, AuthorizedBody, Control};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

/// Also [`NOT_ACTIVE`], which has the same status.
const NOT_REVOKED: DocumentedError = DocumentedError::new(
    409,
    "10,000 tokens are revoked already, or 9,000 ids: revoke all, or give the token. Or the process was replaced, or (to revoke all) a restart or a stop is in progress: send the request again on a new connection.",
    "10000 tokens are revoked already: revoke all tokens instead (`fullon token --revoke-all`)",
);

pub const OPERATIONS: [Operation; 1] = [Operation::change(
    "revoke_tokens",
    "revoke_tokens",
    &[NOT_REVOKED],
)];

/// How often revoking all tokens is tried again while another process has locked the list.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

pub struct TokensApi(pub StateHandle);

#[OpenApi]
impl TokensApi {
    /// Revoke tokens.
    ///
    /// Revokes one token, or all tokens. The sessions that were created from them end, and so do
    /// log streams. When the response comes, the revocation is on the disk: it outlasts the daemon.
    /// Local commands, which sign with the key of the running daemon, keep working.
    #[oai(
        path = "/admin/tokens/revoke",
        method = "post",
        operation_id = "revoke_tokens",
        tag = "AdminTag::Session"
    )]
    async fn revoke_tokens(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: AuthorizedBody<Control, RevokeRequest>,
    ) -> Result<JsonResponse<RevokeResult>> {
        let state = self.0.get()?;
        let revoked = match Revocation::try_from(&body.0)? {
            Revocation::One(token) => token,
            Revocation::All => {
                let revoked = revoke_all(state, &caller.claims, audit.0).await;
                return revoked.map(JsonResponse);
            }
        };
        // The new process has the streams. During a restart, both processes accept revocations.
        state.require_not_replaced()?;
        if let Some(id) = revoked.id().and_then(|id| id.parse().ok())
            && state.auth.sessions.contains(id)
        {
            return Err(RevokeError::SessionAsId(id.to_string()).into());
        }
        let revoked = state.auth.keyring.check_revoked(revoked)?;
        audit.revocation_accepted(revoked.audit_name());
        let auth = Arc::clone(&state.auth);
        let sessions = spawn_blocking(move || {
            let before = auth.sessions.list();
            let revoked = auth.keyring.revocations().revoke(&revoked);
            let ended = auth.sessions.end_revoked(&before);
            revoked.map(|()| ended)
        });
        let sessions = sessions.await??;
        Ok(JsonResponse(RevokeResult {
            sessions_ended: Some(sessions as u64),
            signing_key: RevokeResult::UNCHANGED.into(),
        }))
    }
}

async fn revoke_all(
    state: &AdminState,
    caller: &Claims,
    audit: &Arc<AuditRecord>,
) -> Result<RevokeResult> {
    state.require_active()?;
    // It continues without the client: it may be in the audit trail already.
    let command = caller.is_of_command().then(|| Arc::new(caller.clone()));
    let revocation = submit_revoke_all(state.control.clone(), Arc::clone(audit), command);
    let outcome = tokio::spawn(revocation).await??;
    outcome.revoked.wait_until_valid().await;
    let has_new_key = outcome.revoked.new_key.is_some();
    Ok(RevokeResult {
        sessions_ended: Some(outcome.sessions as u64),
        signing_key: if has_new_key {
            RevokeResult::REPLACED.into()
        } else {
            RevokeResult::UNCHANGED.into()
        },
    })
}

/// Repeats the request while another process has locked the list. The daemon does not wait for it.
async fn submit_revoke_all(
    control: ControlSender,
    audit: Arc<AuditRecord>,
    command: Option<Arc<Claims>>,
) -> Result<RevokeAllOutcome> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let (audit, command) = (Arc::clone(&audit), command.clone());
        let request = |reply| {
            ControlRequest::RevokeAll(RevokeAllCommand {
                audit,
                command,
                reply,
            })
        };
        match submit(&control, request).await? {
            Some(Err(RevokeError::Locked(_))) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Some(outcome) => return Ok(outcome?),
            None => return Err(ApiError::from(&NOT_ACTIVE)),
        }
    }
}

impl From<RevokeError> for ApiError {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Malformed => {
                ApiError::invalid_field("token", "is malformed: check that it is complete")
            }
            RevokeError::NotSigned | RevokeError::NotOne => {
                ApiError::new(StatusCode::BAD_REQUEST, error.to_string())
            }
            RevokeError::InvalidId | RevokeError::TokenAsId | RevokeError::SessionAsId(_) => {
                ApiError::invalid_field("jti", error)
            }
            RevokeError::Full | RevokeError::FullOfIds => {
                ApiError::new(StatusCode::CONFLICT, error.to_string())
            }
            RevokeError::Read { .. }
            | RevokeError::Locked(_)
            | RevokeError::Write { .. }
            | RevokeError::NotSynced { .. }
            | RevokeError::NewKey(_)
            | RevokeError::SameKey(_)
            | RevokeError::NoFile => ApiError::internal(&error),
        }
    }
}
