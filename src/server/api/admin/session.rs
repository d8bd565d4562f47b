//! Browser sessions: cookies in place of tokens, for pages.

use std::sync::Arc;
use std::time::Instant;

use poem::http::header::SET_COOKIE;
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaHeader, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};

use super::state::{NOT_ACTIVE, StateHandle, submit};
use super::tag::AdminTag;
use crate::api::{BrowserSession, SignInToken};
use crate::auth::{self, CreateSessionError, SIGN_IN_LIFETIME, Scope, TokenError};
use crate::server::api::control_request::{ControlRequest, SignOutCommand};
use crate::server::auth::{AnyToken, Auth, SignIn, SignedIn};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::{self, JsonResponse};
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::Operation;

pub const OPERATIONS: [Operation; 4] = [
    Operation::change("create_session", "sign_in", &[]),
    Operation::change("create_sign_in_token", "sign_in_token", &[NOT_ACTIVE]),
    Operation::query("get_session", &[]),
    Operation::change("delete_session", "sign_out", &[NOT_ACTIVE]),
];

pub struct SessionApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SessionApi {
    /// Sign in: exchange a token for a browser session.
    ///
    /// Sets the session cookie, for pages whose `EventSource` cannot send a token. The session has
    /// the scopes of the token, lasts 12 hours, and stays valid when the daemon restarts. A
    /// one-time token of `POST /admin/session/token` is accepted, too. At most 64 sessions exist: a
    /// new one ends the one that was used least recently, of the same subject if there is one.
    #[oai(
        path = "/admin/session",
        method = "post",
        operation_id = "create_session",
        tag = "AdminTag::Session"
    )]
    async fn create_session(
        &self,
        caller: Auth<SignIn>,
        request_headers: &HeaderMap,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<SessionCreated> {
        let auth = &self.0.get()?.auth;
        let created = auth.sessions.create(&caller.claims);
        let (session, cookie) = created.map_err(|error| match error {
            CreateSessionError::KeyChanged => {
                ApiError::unauthorized(Some(TokenError::BadSignature))
            }
            CreateSessionError::Sign(error) => ApiError::internal(&error),
        })?;
        audit.session_accepted(session.id);
        Ok(SessionCreated {
            session: session.into(),
            cookie: auth.cookie.set(request_headers, &cookie)?,
        })
    }

    /// Create a one-time token for the console.
    ///
    /// The token can only sign in, once, within 60 seconds, so it may be part of an address:
    /// `fullon console` prints one. The session gets the scopes of the caller's token. A restart or
    /// a change of the signing key invalidates it. At most 64 exist: a new one replaces the oldest,
    /// of the same subject if there is one.
    #[oai(
        path = "/admin/session/token",
        method = "post",
        operation_id = "create_sign_in_token",
        tag = "AdminTag::Session"
    )]
    async fn create_sign_in_token(
        &self,
        caller: Auth<AnyToken>,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<JsonResponse<SignInToken, 201>> {
        let state = self.0.get()?;
        state.require_active()?;
        audit.accepted(Some(SIGN_IN_LIFETIME));
        let tokens = &state.auth.sign_in_tokens;
        let token = tokens.issue(&caller.claims, Instant::now());
        let token = token.map_err(|error| ApiError::internal(&error))?;
        Ok(JsonResponse(SignInToken {
            token: token.expose().to_owned(),
            expires_in_seconds: SIGN_IN_LIFETIME.as_secs(),
        }))
    }

    /// Get the current browser session.
    ///
    /// Returns the subject, the scopes and the expiry of the session of the cookie.
    #[oai(
        path = "/admin/session",
        method = "get",
        operation_id = "get_session",
        tag = "AdminTag::Session"
    )]
    async fn session(&self, caller: Auth<SignedIn>) -> Result<JsonResponse<BrowserSession>> {
        Ok(JsonResponse(caller.session.into()))
    }

    /// Sign out: end the current browser session.
    ///
    /// Removes the cookie from the browser and revokes the session, also for later processes. Log
    /// streams that were opened with it end.
    #[oai(
        path = "/admin/session",
        method = "delete",
        operation_id = "delete_session",
        tag = "AdminTag::Session"
    )]
    async fn delete_session(
        &self,
        caller: Auth<SignedIn>,
        request_headers: &HeaderMap,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<SessionDeleted> {
        let state = self.0.get()?;
        state.require_active()?;
        let session = caller.session;
        let id = session.id;
        let audit = Arc::clone(audit.0);
        let control = state.control.clone();
        // A session that ends is in the audit trail even if the client has disconnected meanwhile.
        let ended = tokio::spawn(async move {
            let request = |reply| ControlRequest::SignOut(SignOutCommand { session, reply });
            let ended = submit(&control, request).await;
            if ended.is_ok() {
                audit.session_accepted(id);
            }
            ended
        });
        ended.await??.map_err(|error| {
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!(
                    "the session has ended, but it would be valid again after a crash, because the state file cannot be written: {error}"
                ),
            )
        })?;
        let cookie = state.auth.cookie.remove(request_headers)?;
        Ok(SessionDeleted { cookie })
    }
}

/// `201` with the session and its cookie.
struct SessionCreated {
    session: BrowserSession,
    cookie: HeaderValue,
}

impl From<auth::Session> for BrowserSession {
    fn from(session: auth::Session) -> Self {
        let scopes = Scope::ALL
            .into_iter()
            .filter(|scope| session.scopes.contains(*scope));
        Self {
            scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
            subject: session.subject,
            expires_at: session.expires_at.to_string(),
        }
    }
}

impl IntoResponse for SessionCreated {
    fn into_response(self) -> Response {
        let mut response = json::render(StatusCode::CREATED, &self.session);
        response.headers_mut().insert(SET_COOKIE, self.cookie);
        response
    }
}

impl ApiResponse for SessionCreated {
    fn meta() -> MetaResponses {
        let mut meta = json::meta::<BrowserSession>(StatusCode::CREATED, "Signed in. {body}");
        meta.headers.push(set_cookie_header_meta(
            "The session cookie: `HttpOnly`, `SameSite=Strict`.",
        ));
        MetaResponses {
            responses: vec![meta],
        }
    }

    fn register(registry: &mut Registry) {
        BrowserSession::register(registry);
    }
}

/// `204`, which removes the cookie.
struct SessionDeleted {
    cookie: HeaderValue,
}

impl IntoResponse for SessionDeleted {
    fn into_response(self) -> Response {
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(SET_COOKIE, self.cookie)
            .finish()
    }
}

impl ApiResponse for SessionDeleted {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Signed out. The session is revoked.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: vec![],
                headers: vec![set_cookie_header_meta(
                    "Removes the session cookie from the browser.",
                )],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

fn set_cookie_header_meta(description: &str) -> MetaHeader {
    MetaHeader {
        name: "Set-Cookie".into(),
        description: Some(description.into()),
        required: true,
        deprecated: false,
        schema: String::schema_ref(),
    }
}
