//! Sessions: cookies in place of tokens, for pages.

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
use crate::api::{Session, SignInToken};
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
    /// Sign in: trade a token for a session.
    ///
    /// The session is a cookie, for pages whose `EventSource` cannot send a token. It allows what the token did, lives
    /// for twelve hours, and counts also after the daemon was restarted. There are 64 at once: one more ends the one that was
    /// used least recently, of the same subject if there is one. A token of `POST /admin/session/token` does, too, once.
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

    /// A token that does nothing but sign in, once and within a minute.
    ///
    /// For an address that others may see afterwards: `fullon console` prints one. What it signs in to allows what the caller's
    /// token does. A restart or another key forgets it; there are 64 at once, and one more drops the oldest, of the same subject if there is one.
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
        let tokens = &state.auth.sign_in_tokens;
        let token = tokens.issue(&caller.claims, Instant::now());
        let token = token.map_err(|error| ApiError::internal(&error))?;
        audit.accepted(Some(SIGN_IN_LIFETIME));
        Ok(JsonResponse(SignInToken {
            token: token.expose().to_owned(),
            expires_in_seconds: SIGN_IN_LIFETIME.as_secs(),
        }))
    }

    /// Who is signed in, and what the session allows.
    #[oai(
        path = "/admin/session",
        method = "get",
        operation_id = "get_session",
        tag = "AdminTag::Session"
    )]
    async fn session(&self, caller: Auth<SignedIn>) -> Result<JsonResponse<Session>> {
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
                    "the session has ended, but a crash would bring it back, because the state file could not be written: {error}"
                ),
            )
        })?;
        let cookie = state.auth.cookie.remove(request_headers)?;
        Ok(SessionDeleted { cookie })
    }
}

/// `201` with the session and its cookie.
struct SessionCreated {
    session: Session,
    cookie: HeaderValue,
}

impl From<auth::Session> for Session {
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
        let mut meta = json::meta::<Session>(StatusCode::CREATED, "Signed in.");
        meta.headers.push(set_cookie_header_meta("The session."));
        MetaResponses {
            responses: vec![meta],
        }
    }

    fn register(registry: &mut Registry) {
        Session::register(registry);
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
                description: "Signed out.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: vec![],
                headers: vec![set_cookie_header_meta(
                    "Removes the session from the browser.",
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
