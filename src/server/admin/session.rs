//! Cookies in place of tokens, for pages.

use std::sync::Arc;
use std::time::Instant;

use poem::http::{HeaderMap, StatusCode};
use poem::web::Data;
use poem_openapi::OpenApi;
use tokio::sync::oneshot;

use super::{Result, StateHandle, Tag};
use crate::api::{Session, SignInToken};
use crate::auth::{CreateSessionError, SIGN_IN_LIFETIME, TokenError};
use crate::server::audit::AuditRecord;
use crate::server::context::shutting_down;
use crate::server::guard::{AuthState, BearerAuth, SessionAuth, SignInAuth};
use crate::server::orders::{ControlRequest, SignOutCommand};
use crate::server::payload::{Created, JsonResponse};
use crate::server::problem::ApiError;
use crate::server::session::{SessionCreated, SessionDeleted};

/// Operations on sessions.
pub struct SessionApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SessionApi {
    /// Sign in: trade a token for a session.
    ///
    /// The session is a cookie, for pages whose `EventSource` cannot send a token. It allows what the token did, lives
    /// for twelve hours, and counts also after the daemon was restarted. There are 64 at once: one more ends the one that was
    /// used least recently, of the same subject if there is one. A token of `POST /admin/session/token` does, too, once.
    #[oai(
        path = "/admin/session",
        method = "post",
        operation_id = "create_session",
        tag = "Tag::Session"
    )]
    async fn create_session(
        &self,
        caller: SignInAuth,
        asked: &HeaderMap,
        audit: Data<&Arc<AuditRecord>>,
        gate: Data<&Arc<AuthState>>,
    ) -> Result<SessionCreated> {
        let failed = |error: &dyn std::error::Error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let begun = gate.sessions.create(&caller.claims);
        let (session, value) = begun.map_err(|error| match error {
            CreateSessionError::KeyChanged => {
                ApiError::unauthorized(Some(TokenError::BadSignature))
            }
            CreateSessionError::Sign(error) => failed(&error),
        })?;
        audit.session_accepted(session.id);
        SessionCreated::new(&gate.cookie, asked, session, &value).map_err(|error| failed(&error))
    }

    /// A token that does nothing but sign in, once and within a minute.
    ///
    /// For an address that others may see afterwards: `fullon console` prints one. What it signs in to allows what the caller's
    /// token does. A restart or another key forgets it; there are 64 at once, and one more drops the oldest, of the same subject if there is one.
    #[oai(
        path = "/admin/session/token",
        method = "post",
        operation_id = "create_sign_in_token",
        tag = "Tag::Session"
    )]
    async fn create_sign_in_token(
        &self,
        caller: BearerAuth,
        audit: Data<&Arc<AuditRecord>>,
        gate: Data<&Arc<AuthState>>,
    ) -> Result<Created<SignInToken>> {
        self.0.get()?.require_active()?;
        let token = gate.sign_in_tokens.issue(&caller.claims, Instant::now());
        let token = token
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        audit.accepted(Some(SIGN_IN_LIFETIME));
        Ok(Created(SignInToken {
            token: token.expose().to_owned(),
            expires_in_seconds: SIGN_IN_LIFETIME.as_secs(),
        }))
    }

    /// Who is signed in, and what the session allows.
    #[oai(
        path = "/admin/session",
        method = "get",
        operation_id = "get_session",
        tag = "Tag::Session"
    )]
    async fn session(&self, caller: SessionAuth) -> Result<JsonResponse<Session>> {
        Ok(JsonResponse(caller.session.into()))
    }

    /// Sign out: end the session.
    ///
    /// Its cookie is removed from the browser and counts no more, also after a restart or a crash. Streams that were opened
    /// with it end. 409 while a restart or a stop is under way.
    #[oai(
        path = "/admin/session",
        method = "delete",
        operation_id = "delete_session",
        tag = "Tag::Session"
    )]
    async fn delete_session(
        &self,
        caller: SessionAuth,
        asked: &HeaderMap,
        audit: Data<&Arc<AuditRecord>>,
        gate: Data<&Arc<AuthState>>,
    ) -> Result<SessionDeleted> {
        let context = self.0.get()?;
        context.require_active()?;
        let session = caller.session;
        let id = session.id;
        let audit = Arc::clone(audit.0);
        let orders = context.control.clone();
        // Carried out, it is in the audit trail, also when the client has gone meanwhile.
        let ended = tokio::spawn(async move {
            let (answer, ended) = oneshot::channel();
            let _ = orders
                .send(ControlRequest::SignOut(SignOutCommand {
                    session,
                    reply: answer,
                }))
                .await;
            let ended = ended.await;
            if ended.is_ok() {
                audit.session_accepted(id);
            }
            ended
        });
        match ended.await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                return Err(ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!(
                        "the session has ended, but a crash would bring it back, because the state file could not be written: {error}"
                    ),
                ));
            }
            _ => return Err(shutting_down()),
        }
        SessionDeleted::new(&gate.cookie, asked)
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}
