//! Verifies the credentials of a request.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use poem::Request;
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use uuid::Uuid;

use super::cookie::SessionCookie;
use super::failure_limit::AuthFailureLimiter;
use crate::api::{ProofRequest, ProofResult};
use crate::auth::{
    Claims, FailedAttempts, InvalidProof, Keyring, Scope, Session, SessionCredential, SessionStore,
    SignInTokens, TokenError, is_nonce,
};
use crate::config::LiveSettings;
use crate::server::http::access_log::UsedSession;
use crate::server::http::forwarded::ForwardedClient;
use crate::server::http::origin::{self, OwnOrigins};
use crate::server::http::problem::{ApiError, Result};
use crate::server::http::unique_fields::is_like_a_field;

/// The header of API requests with a session.
pub const SESSION_HEADER: &str = "X-Fullon-Session";
/// The query parameter of log streams with a session.
pub const TICKET_PARAMETER: &str = "ticket";

/// Names of the query parameters of each path.
type QueryParameters = HashMap<String, Vec<String>>;

/// Verifies the credentials of admin requests. It is attached to every request.
pub struct AuthState {
    pub(in crate::server) keyring: Keyring,
    pub(in crate::server) sessions: Arc<SessionStore>,
    pub(in crate::server) sign_in_tokens: SignInTokens,
    pub(in crate::server) cookie: SessionCookie,
    pub(in crate::server) origins: OwnOrigins,
    pub(in crate::server) failure_limiter: AuthFailureLimiter,
    /// Computed at the first request with a query.
    query_parameters: LazyLock<QueryParameters, Box<dyn FnOnce() -> QueryParameters + Send>>,
}

impl fmt::Debug for AuthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthState").finish_non_exhaustive()
    }
}

impl AuthState {
    /// Whether the token of this caller was revoked since it was verified.
    #[must_use]
    pub fn refuses(&self, caller: &Claims) -> bool {
        self.keyring.refuses(caller)
    }

    pub fn new(
        admin_address: SocketAddr,
        live_settings: Arc<LiveSettings>,
        keyring: Keyring,
        sessions: Arc<SessionStore>,
        failed_tokens_per_minute: u32,
        query_parameters: impl FnOnce() -> QueryParameters + Send + 'static,
    ) -> Self {
        let origins = OwnOrigins::new(admin_address.ip(), live_settings);
        Self {
            keyring,
            sessions,
            sign_in_tokens: SignInTokens::default(),
            cookie: SessionCookie::new(admin_address.port(), origins.clone()),
            origins,
            failure_limiter: AuthFailureLimiter::new(failed_tokens_per_minute),
            query_parameters: LazyLock::new(Box::new(query_parameters)),
        }
    }

    /// The failed attempts in the current minute, for the next process.
    pub fn recent_failures(&self) -> Vec<FailedAttempts> {
        self.failure_limiter.recent()
    }

    /// Continues the failed attempts that the old process passed on.
    pub fn restore_failures(&self, failures: &[FailedAttempts]) {
        self.failure_limiter.restore(failures);
    }

    pub fn from_request(request: &Request) -> Result<&Self> {
        request
            .data::<Arc<Self>>()
            .map(Arc::as_ref)
            .ok_or_else(|| ApiError::unauthorized(None))
    }

    /// Verifies a token or a session.
    ///
    /// If the request has a bearer token, the session is ignored: a client that sends a token does
    /// not want to act as the user who signed in with its browser. Beside a session, credentials of
    /// another scheme are ignored: a browser adds those that another program on this port asked for.
    pub fn verify_token_or_session(
        &self,
        request: &Request,
        needed: Scope,
    ) -> Result<(Claims, Option<Session>)> {
        let headers = request.headers();
        let has_session =
            headers.contains_key(SESSION_HEADER) || self.cookie.values(headers).next().is_some();
        if has_bearer_scheme(headers) || !has_session {
            return Ok((self.verify_token(request)?, None));
        }
        let is_change = needed == Scope::Control || !request.method().is_safe();
        let session = self.verify_session(request, is_change)?;
        Ok((Claims::from(session.clone()), Some(session)))
    }

    /// The same for the log stream, which also accepts the ticket of a session.
    pub fn verify_follower(
        &self,
        request: &Request,
        needed: Scope,
    ) -> Result<(Claims, Option<Session>)> {
        let headers = request.headers();
        let has_other = has_bearer_scheme(headers) || headers.contains_key(SESSION_HEADER);
        match ticket(request) {
            Some(ticket) if !has_other => {
                let session = self.find_session(request, SessionCredential::Ticket(&ticket))?;
                Ok((Claims::from(session.clone()), Some(session)))
            }
            _ => self.verify_token_or_session(request, needed),
        }
    }

    /// Verifies a JWT, or redeems a sign-in token.
    pub fn verify_sign_in(&self, request: &Request) -> Result<Claims> {
        let token = bearer_token(request.headers());
        let redeemed = token.and_then(|token| self.sign_in_tokens.redeem(token, Instant::now()));
        match redeemed.filter(|claims| self.keyring.may_sign_in(claims)) {
            Some(claims) => Ok(claims),
            None => self.verify_token(request),
        }
    }

    /// Verifies a JWT or a sign-in token, which is not used up.
    pub fn inspect_sign_in(&self, request: &Request) -> Result<Claims> {
        let token = bearer_token(request.headers());
        let found = token.and_then(|token| self.sign_in_tokens.find(token, Instant::now()));
        match found.filter(|claims| self.keyring.may_sign_in(claims)) {
            Some(claims) => Ok(claims),
            None => self.verify_token(request),
        }
    }

    pub fn verify_token(&self, request: &Request) -> Result<Claims> {
        let headers = request.headers();
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(ApiError::unauthorized(None));
        }
        if !has_bearer_scheme(headers) {
            return Err(self.count_failure(request, ApiError::unauthorized(None)));
        }
        let token = bearer_token(headers).ok_or(TokenError::Malformed);
        token
            .and_then(|token| self.keyring.verify(token))
            .and_then(|claims| {
                let path = request.original_uri().path();
                let is_allowed = claims.allow_request(request.method().as_str(), path);
                is_allowed.then_some(claims).ok_or(TokenError::WrongRequest)
            })
            .map_err(|error| self.count_failure(request, ApiError::unauthorized(Some(error))))
    }

    /// Proves to a client that has a configured key that this daemon has it, too. A client whose
    /// proof is not valid gets nothing that depends on the key.
    pub fn answer_proof(&self, request: &Request, proof: &ProofRequest) -> Result<ProofResult> {
        let ProofRequest { nonce, req, mac } = proof;
        if !is_nonce(nonce) {
            let reason = "is not 32 bytes in base64url";
            return Err(ApiError::invalid_parameter("nonce", reason));
        }
        let answer = self.keyring.answer_proof(nonce, req, mac);
        answer
            .map(|mac| ProofResult { mac })
            .map_err(|InvalidProof| {
                self.count_failure(
                    request,
                    ApiError::unauthorized(Some(TokenError::BadSignature)),
                )
            })
    }

    /// Verifies the session value and the cookie, and that a page of this API sent them: a browser
    /// adds the cookie to requests that other pages make, too.
    pub fn verify_session(&self, request: &Request, is_change: bool) -> Result<Session> {
        self.verify_session_value(request, SessionCredential::Session, is_change)
    }

    /// The same for signing out, which needs no cookie, and is also possible when only the log
    /// stream is left.
    pub fn verify_session_to_end(&self, request: &Request) -> Result<Session> {
        self.verify_session_value(request, SessionCredential::SessionToEnd, true)
    }

    fn verify_session_value<'a>(
        &self,
        request: &'a Request,
        credential: fn(&'a str) -> SessionCredential<'a>,
        is_change: bool,
    ) -> Result<Session> {
        let headers = request.headers();
        if has_bearer_scheme(headers) || !headers.contains_key(SESSION_HEADER) {
            return Err(ApiError::invalid_session(None));
        }
        let value = session_value(headers).unwrap_or_default();
        let session = self.find_session(request, credential(value))?;
        if is_change && !self.origins.is_same_origin(headers) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "a change with a browser session needs the Origin header of this API",
            ));
        }
        Ok(session)
    }

    /// The valid session that a page presents beside the token with which it signs in again.
    pub fn presented_session(&self, request: &Request) -> Option<Session> {
        let headers = request.headers();
        let value = SessionCredential::Session(session_value(headers)?);
        let session = self.sessions.verify(value, self.cookie.values(headers));
        session.ok()
    }

    /// The sessions that a new sign-in ends, if a page of this API sent it.
    pub fn previous_sessions(&self, request: &Request) -> Vec<Uuid> {
        let headers = request.headers();
        if !self.origins.is_same_origin(headers) {
            return Vec::new();
        }
        let cookies = self.cookie.values(headers);
        self.sessions.presented(session_value(headers), cookies)
    }

    /// Whether the browser has the cookie of a valid session, whose other values another tab has.
    pub fn has_session_cookie(&self, request: &Request) -> bool {
        let cookies = self.cookie.values(request.headers());
        self.sessions.has_cookie(cookies)
    }

    fn find_session(
        &self,
        request: &Request,
        credential: SessionCredential<'_>,
    ) -> Result<Session> {
        let headers = request.headers();
        let session = self
            .sessions
            .verify(credential, self.cookie.values(headers))
            .map_err(|error| self.count_failure(request, ApiError::invalid_session(Some(error))))?;
        if origin::is_cross_origin(headers) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "a browser session is valid only for pages of this origin",
            ));
        }
        if let Some(used) = request.data::<UsedSession>() {
            used.set(session.id);
        }
        Ok(session)
    }

    /// Rejects unknown and repeated query parameters. A misspelt one would be ignored otherwise,
    /// and the response taken for the filtered one.
    pub fn reject_unknown_parameters(&self, request: &Request) -> Result<()> {
        let uri = request.original_uri();
        if uri.query().is_none_or(str::is_empty) {
            return Ok(());
        }
        let known = self.query_parameters.get(uri.path());
        let known = known.map_or(&[][..], Vec::as_slice);
        let given = request
            .params::<Vec<(String, String)>>()
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        for (index, (name, _)) in given.iter().enumerate() {
            if !known.contains(name) {
                // A name that is none may be a secret.
                let unknown = if is_like_a_field(name) {
                    format!("unknown parameter `{name}`")
                } else {
                    "unknown parameter".to_owned()
                };
                let detail = match known {
                    [] => format!("{unknown}: this operation has no parameters"),
                    known => format!("{unknown}: use {}", known.join(", ")),
                };
                return Err(ApiError::new(StatusCode::BAD_REQUEST, detail));
            }
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::invalid_parameter(name, "is given more than once"));
            }
        }
        Ok(())
    }

    /// Counts a failed attempt. Returns `error`, or 429 if the client had too many.
    fn count_failure(&self, request: &Request, error: ApiError) -> ApiError {
        let peer = request.remote_addr().as_socket_addr();
        let client = request.extensions().get::<ForwardedClient>();
        let client = client.map_or(peer.map(SocketAddr::ip), |client| Some(client.0));
        match self.failure_limiter.record(client) {
            None => error,
            Some(wait) => ApiError::too_many_requests(wait),
        }
    }
}

/// The value of the one session header.
fn session_value(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(SESSION_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    value.to_str().ok()
}

/// The ticket in the query.
fn ticket(request: &Request) -> Option<String> {
    let query = request.params::<Vec<(String, String)>>().ok()?;
    let ticket = query.into_iter().find(|(name, _)| name == TICKET_PARAMETER);
    Some(ticket?.1)
}

/// Whether an `Authorization` header is about a token, and not for another scheme such as `Basic`.
fn has_bearer_scheme(headers: &HeaderMap) -> bool {
    let scheme = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    headers.get_all(header::AUTHORIZATION).iter().any(scheme)
}

/// The token of the one `Authorization` header (RFC 6750, section 2.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}
