//! Verifies the credentials of a request.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use poem::Request;
use poem::http::{HeaderMap, StatusCode, header};

use super::cookie::SessionCookie;
use super::failure_limit::AuthFailureLimiter;
use crate::auth::{Claims, Keyring, Scope, Session, SessionStore, SignInTokens, TokenError};
use crate::server::http::origin;
use crate::server::http::problem::{ApiError, Result};

/// Names of the query parameters of each path.
type QueryParameters = HashMap<String, Vec<String>>;

/// What verifies the credentials of admin requests. It is attached to every request.
pub struct AuthState {
    pub(in crate::server) keyring: Keyring,
    pub(in crate::server) sessions: Arc<SessionStore>,
    pub(in crate::server) sign_in_tokens: SignInTokens,
    pub(in crate::server) cookie: SessionCookie,
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
    pub fn new(
        admin_port: u16,
        keyring: Keyring,
        sessions: Arc<SessionStore>,
        failed_tokens_per_minute: u32,
        query_parameters: impl FnOnce() -> QueryParameters + Send + 'static,
    ) -> Self {
        Self {
            keyring,
            sessions,
            sign_in_tokens: SignInTokens::default(),
            cookie: SessionCookie::new(admin_port),
            failure_limiter: AuthFailureLimiter::new(failed_tokens_per_minute),
            query_parameters: LazyLock::new(Box::new(query_parameters)),
        }
    }

    pub fn from_request(request: &Request) -> Result<&Self> {
        request
            .data::<Arc<Self>>()
            .map(Arc::as_ref)
            .ok_or_else(|| ApiError::unauthorized(None))
    }

    /// Verifies a token or a session.
    ///
    /// If the request has an `Authorization` header, the cookie is ignored: a client that sends a
    /// token does not want to act as the user who signed in with its browser.
    pub fn verify_token_or_session(
        &self,
        request: &Request,
        needed: Scope,
    ) -> Result<(Claims, Option<Session>)> {
        let has_token = request.headers().contains_key(header::AUTHORIZATION);
        if has_token || self.cookie.values(request.headers()).next().is_none() {
            return Ok((self.verify_token(request)?, None));
        }
        let is_change = needed == Scope::Control || !request.method().is_safe();
        let session = self.verify_session(request, is_change)?;
        Ok((Claims::from(session.clone()), Some(session)))
    }

    /// Verifies a JWT, or redeems a sign-in token.
    pub fn verify_sign_in(&self, request: &Request) -> Result<Claims> {
        let token = bearer_token(request.headers());
        match token.and_then(|token| self.sign_in_tokens.redeem(token, Instant::now())) {
            Some(claims) => Ok(claims),
            None => self.verify_token(request),
        }
    }

    pub fn verify_token(&self, request: &Request) -> Result<Claims> {
        if !request.headers().contains_key(header::AUTHORIZATION) {
            return Err(ApiError::unauthorized(None));
        }
        let token = bearer_token(request.headers()).ok_or(TokenError::Malformed);
        token
            .and_then(|token| self.keyring.verify(token))
            .map_err(|error| self.count_failure(request, ApiError::unauthorized(Some(error))))
    }

    /// Verifies the session cookie and that a page of this API sent it: a browser adds the cookie
    /// to requests that other pages make, too.
    pub fn verify_session(&self, request: &Request, is_change: bool) -> Result<Session> {
        let headers = request.headers();
        if headers.contains_key(header::AUTHORIZATION) {
            return Err(ApiError::invalid_session(None));
        }
        let mut result = Err(ApiError::invalid_session(None));
        let mut has_cookie = false;
        for value in self.cookie.values(headers) {
            has_cookie = true;
            result = self
                .sessions
                .verify(value)
                .map_err(|error| ApiError::invalid_session(Some(error)));
            if result.is_ok() {
                break;
            }
        }
        let session = result.map_err(|error| {
            if has_cookie {
                self.count_failure(request, error)
            } else {
                error
            }
        })?;
        let forbidden = |detail| Err(ApiError::new(StatusCode::FORBIDDEN, detail));
        if origin::is_cross_origin(headers) {
            return forbidden("a browser session is valid only for pages of this origin");
        }
        if is_change && !origin::is_same_origin(headers) {
            return forbidden(
                "a change with a browser session needs the Origin header of this API",
            );
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
                let detail = match known {
                    [] => format!("unknown parameter `{name}`: this operation has no parameters"),
                    known => format!("unknown parameter `{name}`: use {}", known.join(", ")),
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
        match self.failure_limiter.record(peer.map(SocketAddr::ip)) {
            None => error,
            Some(wait) => ApiError::too_many_requests(wait),
        }
    }
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
