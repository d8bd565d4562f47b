//! Browser sessions, in place of tokens, for pages.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use poem::http::header::SET_COOKIE;
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use poem::web::Data;
use poem::{IntoResponse, Request, Response};
use poem_openapi::param::Path;
use poem_openapi::registry::{MetaHeader, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::state::{AdminState, NOT_ACTIVE, StateHandle, submit};
use super::tag::AdminTag;
use crate::api::{BrowserSession, CreatedSession, SessionSummary, SignInPreview, SignInToken};
use crate::auth::{
    self, CreateSessionError, SIGN_IN_LIFETIME, Scope, Scopes, SessionValues, TokenError,
};
use crate::server::api::control_request::{ControlRequest, SessionCommand};
use crate::server::auth::{
    AnyToken, Auth, Control, InspectSignIn, Logs, SignIn, SignOut, SignedIn,
};
use crate::server::http::access_log::UsedSession;
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::{self, JsonResponse};
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

const NO_SUCH_SESSION: DocumentedError = DocumentedError::new(
    404,
    "No session has this id: it has ended.",
    "there is no session with this id, or it has ended: `fullon sessions` lists them",
);

/// Also [`NOT_ACTIVE`], which has the same status.
const NOT_CREATED: DocumentedError = DocumentedError::new(
    409,
    "The process was replaced, or a restart or a stop is in progress: send the request again on a new connection. Or the clock is behind the time until which all sessions are revoked.",
    "all sessions from before this moment are revoked, because the clock was set back or all tokens were just revoked: correct the clock if it is behind, and sign in again",
);

pub const OPERATIONS: [Operation; 7] = [
    Operation::change("create_session", "sign_in", &[NOT_CREATED]),
    Operation::query("get_sign_in_token", &[]),
    Operation::change("create_sign_in_token", "sign_in_token", &[NOT_ACTIVE]),
    Operation::query("get_session", &[]),
    Operation::change("delete_session", "sign_out", &[NOT_ACTIVE]),
    Operation::query("list_sessions", &[NOT_ACTIVE]),
    Operation::change("end_session", "end_session", &[NO_SUCH_SESSION, NOT_ACTIVE]),
];

pub struct SessionApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SessionApi {
    /// Sign in: exchange a token for a browser session.
    ///
    /// A session is three values: the cookie, `session` and `ticket`. Requests need the cookie and
    /// `session`, which is the header `X-Fullon-Session`. For an `EventSource`, which cannot send
    /// headers, the log stream also accepts the cookie and `ticket`, which is a parameter.
    ///
    /// The session has the scopes of the token, and ends with the token, after 12 hours at the
    /// latest. It stays valid across `fullon restart`. Any other end of the process also ends it,
    /// but the log stream reconnects. A one-time token of `POST /admin/session/token` is accepted,
    /// too. A request that also presents a session ends that one. At most 64 sessions exist:
    /// a new one ends the one that was used least recently, first of those without more scopes, and
    /// of these first of the same subject.
    #[oai(
        path = "/admin/session",
        method = "post",
        operation_id = "create_session",
        tag = "AdminTag::Session"
    )]
    async fn create_session(
        &self,
        caller: Auth<SignIn>,
        request: &Request,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<SessionCreated> {
        let state = self.0.get()?;
        state.require_active()?;
        let auth = &state.auth;
        let new = auth.sessions.prepare(&caller.claims)?;
        audit.sign_in_accepted(new.id());
        let (session, values) = auth.sessions.add(new)?;
        if let Some(used) = request.data::<UsedSession>() {
            used.set(session.id);
        }
        let previous = auth.previous_sessions(request);
        let saved = save_sessions(state, previous).await;
        // Otherwise the session is valid until the process ends. The error is logged.
        let _ = saved.inspect_err(|_| {
            // The new process does not know of it.
            auth.sessions.end(session.id);
        })?;
        SessionCreated::new(state, request.headers(), &session, values)
    }

    /// Show whom a token signs in.
    ///
    /// A page can ask before it signs in: a link may contain the token of somebody else. The one-time
    /// token is not used up.
    #[oai(
        path = "/admin/session/token",
        method = "get",
        operation_id = "get_sign_in_token",
        tag = "AdminTag::Session"
    )]
    async fn sign_in_token(
        &self,
        caller: Auth<InspectSignIn>,
        request: &Request,
    ) -> Result<JsonResponse<SignInPreview>> {
        let auth = &self.0.get()?.auth;
        let current = auth.presented_session(request);
        // Another server on this host can replace the cookie, but not make such a token.
        let is_expected =
            caller.claims.is_of_console_command() && !auth.has_session_cookie(request);
        Ok(JsonResponse(SignInPreview {
            needs_confirmation: !is_expected,
            signed_in_as: current.map(|session| session.subject),
            subject: caller.claims.subject,
            scopes: scope_names(caller.claims.scopes),
        }))
    }

    /// Create a one-time token for the console.
    ///
    /// The token can only sign in, once, within 60 seconds, so it may be part of an address:
    /// `fullon console` prints one. The session gets the scopes of the caller's token. A restart or
    /// a change of the signing key invalidates it. At most 64 exist: a new one replaces the oldest,
    /// first of those without more scopes, and of these first of the same subject.
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
    /// Returns the id, the subject, the scopes and the expiry of the session.
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
    /// Ends the session, also for later processes. Log streams that were opened with it end. Removes
    /// the cookie from the browser, unless it belongs to another session by now.
    #[oai(
        path = "/admin/session",
        method = "delete",
        operation_id = "delete_session",
        tag = "AdminTag::Session"
    )]
    async fn delete_session(
        &self,
        caller: Auth<SignOut>,
        request: &Request,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<SessionDeleted> {
        let state = self.0.get()?;
        state.require_active()?;
        end_session(state, caller.session.id, audit.0).await?;
        let auth = &state.auth;
        let is_of_another = auth.has_session_cookie(request);
        let remove = (!is_of_another).then(|| auth.cookie.remove(request.headers()));
        Ok(SessionDeleted {
            cookie: remove.transpose()?,
        })
    }

    /// List the browser sessions.
    ///
    /// Returns who is signed in, oldest first. The list holds no secret values.
    #[oai(
        path = "/admin/sessions",
        method = "get",
        operation_id = "list_sessions",
        tag = "AdminTag::Session"
    )]
    async fn sessions(&self, _caller: Auth<Logs>) -> Result<JsonResponse<Vec<SessionSummary>>> {
        let state = self.0.get()?;
        state.require_not_replaced()?;
        let sessions = state.auth.sessions.list();
        Ok(JsonResponse(
            sessions.into_iter().map(SessionSummary::from).collect(),
        ))
    }

    /// End a browser session.
    ///
    /// The session, and log streams that were opened with it, end at once, also for later
    /// processes.
    #[oai(
        path = "/admin/sessions/:id",
        method = "delete",
        operation_id = "end_session",
        tag = "AdminTag::Session"
    )]
    async fn end_session(
        &self,
        _caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        /// `id` of the session.
        id: Path<String>,
    ) -> Result<SessionEnded> {
        let state = self.0.get()?;
        state.require_active()?;
        let id: Option<Uuid> = id.0.parse().ok();
        let sessions = state.auth.sessions.list();
        let session = sessions.iter().find(|session| Some(session.id) == id);
        let session = session.ok_or_else(|| ApiError::from(&NO_SUCH_SESSION))?;
        end_session(state, session.id, audit.0).await?;
        Ok(SessionEnded)
    }
}

/// `204`.
struct SessionEnded;

impl IntoResponse for SessionEnded {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl ApiResponse for SessionEnded {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The session has ended.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: vec![],
                headers: vec![],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

/// Saves the sessions for the next process, and ends some of them.
async fn save_sessions(state: &AdminState, ended: Vec<Uuid>) -> Result<io::Result<()>> {
    let request = |reply| ControlRequest::Sessions(SessionCommand { ended, reply });
    submit(&state.control, request).await
}

/// Ends a session for this process and those after it.
async fn end_session(state: &AdminState, id: Uuid, audit: &Arc<AuditRecord>) -> Result<()> {
    audit.end_session_accepted(id);
    save_sessions(state, vec![id]).await?.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "the session has ended, but its log stream would be valid again after a crash, because the state file cannot be written: {error}"
            ),
        )
    })
}

impl From<CreateSessionError> for ApiError {
    fn from(error: CreateSessionError) -> Self {
        match error {
            CreateSessionError::TokenInvalid => Self::unauthorized(Some(TokenError::BadSignature)),
            CreateSessionError::Expired => Self::unauthorized(Some(TokenError::Expired)),
            CreateSessionError::Revoked => Self::from(&NOT_CREATED),
            CreateSessionError::Random(error) => Self::internal(&error),
        }
    }
}

fn scope_names(scopes: Scopes) -> Vec<String> {
    let scopes = Scope::ALL
        .into_iter()
        .filter(|scope| scopes.contains(*scope));
    scopes.map(|scope| scope.as_str().to_owned()).collect()
}

/// `201` with the session and its cookie.
struct SessionCreated {
    session: CreatedSession,
    cookie: HeaderValue,
}

impl SessionCreated {
    fn new(
        state: &AdminState,
        request_headers: &HeaderMap,
        session: &auth::Session,
        values: SessionValues,
    ) -> Result<Self> {
        let lifetime = session.expires_at.duration_since(Timestamp::now());
        let lifetime = Duration::try_from(lifetime).unwrap_or_default();
        let cookie = &state.auth.cookie;
        Ok(Self {
            cookie: cookie.set(request_headers, &values.cookie, lifetime)?,
            session: CreatedSession {
                id: session.id.to_string(),
                subject: session.subject.clone(),
                scopes: scope_names(session.scopes),
                expires_at: session.expires_at.to_string(),
                session: values.session,
                ticket: values.ticket,
            },
        })
    }
}

impl From<auth::Session> for SessionSummary {
    fn from(session: auth::Session) -> Self {
        Self {
            id: session.id.to_string(),
            token_id: session.token_id().map(str::to_owned),
            scopes: scope_names(session.scopes),
            subject: session.subject,
            created_at: session.created_at.to_string(),
            expires_at: session.expires_at.to_string(),
            log_only: !session.has_session_value,
        }
    }
}

impl From<auth::Session> for BrowserSession {
    fn from(session: auth::Session) -> Self {
        Self {
            id: session.id.to_string(),
            scopes: scope_names(session.scopes),
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
        let mut meta = json::meta::<CreatedSession>(StatusCode::CREATED, "Signed in. {body}");
        meta.headers.push(set_cookie_header_meta(
            "The session cookie: `HttpOnly`, `SameSite=Strict`.",
            true,
        ));
        MetaResponses {
            responses: vec![meta],
        }
    }

    fn register(registry: &mut Registry) {
        CreatedSession::register(registry);
    }
}

/// `204`, which removes the cookie.
struct SessionDeleted {
    cookie: Option<HeaderValue>,
}

impl IntoResponse for SessionDeleted {
    fn into_response(self) -> Response {
        let response = Response::builder().status(StatusCode::NO_CONTENT);
        match self.cookie {
            Some(cookie) => response.header(SET_COOKIE, cookie).finish(),
            None => response.finish(),
        }
    }
}

impl ApiResponse for SessionDeleted {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Signed out. The session has ended.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: vec![],
                headers: vec![set_cookie_header_meta(
                    "Removes the session cookie from the browser. Missing if the cookie belongs to another session by now.",
                    false,
                )],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

fn set_cookie_header_meta(description: &str, required: bool) -> MetaHeader {
    MetaHeader {
        name: "Set-Cookie".into(),
        description: Some(description.into()),
        required,
        deprecated: false,
        schema: String::schema_ref(),
    }
}
