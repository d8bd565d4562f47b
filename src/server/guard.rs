//! The proof of authorisation. An operation of the admin API takes an [`Auth`] in its arguments, and there
//! is no other way to get one than a token or a session that allows it. Only the operations on sessions themselves
//! take the one or the other: a [`SignInAuth`] signs in, somebody [`SessionAuth`] signs out.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use poem::http::{HeaderMap, StatusCode, header};
use poem::{Request, RequestBody, Result};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::audit::AuditRecord;
use super::problem::ApiError;
use super::refused_tokens::AuthFailureLimiter;
use super::session::SessionCookie;
use super::{openapi, site};
use crate::auth::{Claims, Keyring, Scope, Session, SessionStore, SignInTokens, TokenError};

/// Name of the tokens' scheme in the OpenAPI document.
const BEARER_SCHEME: &str = "bearer";
/// Name of the sessions' scheme in the OpenAPI document.
const SESSION_SCHEME: &str = "session";

/// What callers are checked against; a datum of every request.
pub struct AuthState {
    pub(super) keyring: Keyring,
    pub(super) sessions: Arc<SessionStore>,
    pub(super) sign_in_tokens: SignInTokens,
    pub(super) cookie: SessionCookie,
    pub(super) failure_limiter: AuthFailureLimiter,
}

/// Who asks, and by which session if it is by one.
struct Caller {
    claims: Claims,
    session: Option<Session>,
}

type AuthResult<T> = std::result::Result<T, ApiError>;

impl AuthState {
    fn from_request(request: &Request) -> AuthResult<&Self> {
        request
            .data::<Arc<Self>>()
            .map(Arc::as_ref)
            .ok_or_else(|| ApiError::unauthorized(None))
    }

    /// Where there is an `Authorization`, it alone counts: a client that sends one does not want to be taken for
    /// whoever signed in with its browser.
    fn authenticate(&self, request: &Request, scope: Scope) -> AuthResult<Caller> {
        let has_token = request.headers().contains_key(header::AUTHORIZATION);
        if has_token || self.cookie.values(request.headers()).next().is_none() {
            let claims = self.verify_bearer(request)?;
            return Ok(Caller {
                claims,
                session: None,
            });
        }
        let is_change = scope == Scope::Control || !request.method().is_safe();
        let session = self.verify_session(request, is_change)?;
        Ok(Caller {
            claims: Claims::from(session.clone()),
            session: Some(session),
        })
    }

    /// Somebody with a token of any kind; one that signs in once has done so.
    fn verify_sign_in(&self, request: &Request) -> AuthResult<Claims> {
        let once = bearer_token(request.headers());
        match once.and_then(|token| self.sign_in_tokens.redeem(token, Instant::now())) {
            Some(claims) => Ok(claims),
            None => self.verify_bearer(request),
        }
    }

    fn verify_bearer(&self, request: &Request) -> AuthResult<Claims> {
        if !request.headers().contains_key(header::AUTHORIZATION) {
            return Err(ApiError::unauthorized(None));
        }
        let token = bearer_token(request.headers()).ok_or(TokenError::Malformed);
        token
            .and_then(|token| self.keyring.verify(token))
            .map_err(|refused| self.count_failure(request, ApiError::unauthorized(Some(refused))))
    }

    /// What is said of a token or a session that does not count: why, or that there were too many of them.
    fn count_failure(&self, request: &Request, failure: ApiError) -> ApiError {
        let peer = request.remote_addr().as_socket_addr();
        match self
            .failure_limiter
            .record(peer.map(std::net::SocketAddr::ip))
        {
            None => failure,
            Some(wait) => ApiError::too_many_requests(wait),
        }
    }

    /// A browser sends the cookie by itself, so whose page made it do so counts as much as the cookie.
    fn verify_session(&self, request: &Request, is_change: bool) -> AuthResult<Session> {
        if request.headers().contains_key(header::AUTHORIZATION) {
            return Err(ApiError::invalid_session(None));
        }
        let mut result = Err(ApiError::invalid_session(None));
        for value in self.cookie.values(request.headers()) {
            result = self
                .sessions
                .verify(value)
                .map_err(|refused| ApiError::invalid_session(Some(refused)));
            if result.is_ok() {
                break;
            }
        }
        let has_value = self.cookie.values(request.headers()).next().is_some();
        let session = result.map_err(|failure| {
            if has_value {
                self.count_failure(request, failure)
            } else {
                failure
            }
        })?;
        let refuse = |detail| Err(ApiError::new(StatusCode::FORBIDDEN, detail));
        if site::is_cross_origin(request.headers()) {
            return refuse("a session counts only for pages of this API");
        }
        if is_change && !site::is_same_origin(request.headers()) {
            return refuse(
                "with a session, what changes something has to come from a page of this API, and say so with `Origin`",
            );
        }
        Ok(session)
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

/// A scope, as a type.
pub trait Policy: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// `admin:read`
pub struct Read;
/// `admin:logs`
pub struct Logs;
/// `admin:control`
pub struct Control;

impl Policy for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Policy for Logs {
    const SCOPE: Scope = Scope::Logs;
}

impl Policy for Control {
    const SCOPE: Scope = Scope::Control;
}

/// Somebody who may do what needs the scope `S`.
pub struct Auth<S> {
    pub claims: Claims,
    /// The session by which it may, if it is not a token.
    pub session: Option<Session>,
    scope: PhantomData<S>,
}

impl<S: Policy> Auth<S> {
    fn check(request: &Request) -> AuthResult<Self> {
        let Caller { claims, session } =
            AuthState::from_request(request)?.authenticate(request, S::SCOPE)?;
        record_caller(request, &claims);
        if !claims.scopes.contains(S::SCOPE) {
            return Err(ApiError::forbidden(S::SCOPE));
        }
        Ok(Self {
            claims,
            session,
            scope: PhantomData,
        })
    }
}

impl<'a, S: Policy> ApiExtractor<'a> for Auth<S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(registry);
        register_session(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER_SCHEME, SESSION_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let authorized = Self::check(request)?;
        reject_unknown_parameters(request)?;
        Ok(authorized)
    }
}

/// Somebody with a token that allows something, whatever that is. A session does not do, or it could be prolonged for ever.
pub struct BearerAuth {
    pub claims: Claims,
}

impl<'a> ApiExtractor<'a> for BearerAuth {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let claims =
            AuthState::from_request(request).and_then(|gate| gate.verify_bearer(request))?;
        record_caller(request, &claims);
        require_any_scope(&claims)?;
        reject_unknown_parameters(request)?;
        Ok(Self { claims })
    }
}

/// Somebody with a token, or one that does nothing but sign in.
pub struct SignInAuth {
    pub claims: Claims,
}

impl<'a> ApiExtractor<'a> for SignInAuth {
    const TYPES: &'static [ApiExtractorType] = BearerAuth::TYPES;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        BearerAuth::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        BearerAuth::security_schemes()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let claims =
            AuthState::from_request(request).and_then(|gate| gate.verify_sign_in(request))?;
        record_caller(request, &claims);
        require_any_scope(&claims)?;
        reject_unknown_parameters(request)?;
        Ok(Self { claims })
    }
}

/// Somebody with a session.
pub struct SessionAuth {
    pub session: Session,
}

impl<'a> ApiExtractor<'a> for SessionAuth {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_session(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SESSION_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let is_change = !request.method().is_safe();
        let session = AuthState::from_request(request)
            .and_then(|gate| gate.verify_session(request, is_change))?;
        record_caller(request, &Claims::from(session.clone()));
        reject_unknown_parameters(request)?;
        Ok(Self { session })
    }
}

/// A session that allows nothing only takes the place of another.
fn require_any_scope(claims: &Claims) -> AuthResult<()> {
    if claims.scopes.is_empty() {
        return Err(ApiError::no_scope());
    }
    Ok(())
}

/// A misspelt parameter would be passed over, and the answer taken for what was meant. Only those who are let in learn it.
fn reject_unknown_parameters(request: &Request) -> AuthResult<()> {
    static KNOWN: LazyLock<HashMap<String, Vec<String>>> =
        LazyLock::new(|| openapi::query_parameters(&openapi::admin_document()));
    let uri = request.original_uri();
    if uri.query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let known = KNOWN.get(uri.path()).map_or(&[][..], Vec::as_slice);
    let given = request
        .params::<Vec<(String, String)>>()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    for (at, (name, _)) in given.iter().enumerate() {
        if !known.contains(name) {
            let reason = match known {
                [] => "is not known: there are none here".to_owned(),
                known => format!("is not known: there are {}", known.join(", ")),
            };
            return Err(ApiError::invalid_parameter(name, reason));
        }
        if given[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::invalid_parameter(name, "is there more than once"));
        }
    }
    Ok(())
}

/// For the audit trail, if it is a change that is asked for.
fn record_caller(request: &Request, claims: &Claims) {
    if let Some(audit) = request.data::<Arc<AuditRecord>>() {
        audit.set_caller(claims);
    }
}

fn register_bearer(registry: &mut Registry) {
    registry.create_security_scheme(
        BEARER_SCHEME,
        MetaSecurityScheme {
            ty: "http",
            description: Some(
                "A JWT signed with HS256: `fullon token` prints one. Claims: `exp`, `sub`, `aud` = `fullon-admin`, `scope` out of `admin:read`, `admin:logs`, `admin:control`.",
            ),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    );
}

fn register_session(registry: &mut Registry) {
    registry.create_security_scheme(
        SESSION_SCHEME,
        MetaSecurityScheme {
            ty: "apiKey",
            description: Some(
                "What `POST /admin/session` gives for a token. The number in the name is the port of the `Host` that was asked, or else the one of the admin API. Does not count beside an `Authorization` header; what changes something also needs the `Origin` of this API.",
            ),
            name: Some("fullon-session-8001"),
            key_in: Some("cookie"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    );
}
