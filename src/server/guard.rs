//! The proof of authorisation. An operation of the admin API takes an [`Authorized`] in its arguments, and there
//! is no other way to get one than a token or a session that allows it. Only the operations on sessions themselves
//! take the one or the other: a [`Newcomer`] signs in, somebody [`SignedIn`] signs out.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use poem::http::{HeaderMap, StatusCode, header};
use poem::{Request, RequestBody, Result};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::audit::Audit;
use super::problem::Failure;
use super::refused_tokens::RefusedTokens;
use super::session::SessionCookie;
use super::{openapi, site};
use crate::auth::{Claims, Keyring, Refused, Scope, Session, Sessions, SignIns};

/// Name of the tokens' scheme in the OpenAPI document.
const BEARER: &str = "bearer";
/// Name of the sessions' scheme in the OpenAPI document.
const SESSION: &str = "session";

/// What callers are checked against; a datum of every request.
pub struct Gate {
    pub(super) keyring: Keyring,
    pub(super) sessions: Arc<Sessions>,
    pub(super) sign_ins: SignIns,
    pub(super) cookie: SessionCookie,
    pub(super) refused: RefusedTokens,
}

/// Who asks, and by which session if it is by one.
struct Caller {
    claims: Claims,
    session: Option<Session>,
}

type Checked<T> = std::result::Result<T, Failure>;

impl Gate {
    fn of(request: &Request) -> Checked<&Self> {
        request
            .data::<Arc<Self>>()
            .map(Arc::as_ref)
            .ok_or_else(|| Failure::unauthorized(None))
    }

    /// Where there is an `Authorization`, it alone counts: a client that sends one does not want to be taken for
    /// whoever signed in with its browser.
    fn caller(&self, request: &Request, scope: Scope) -> Checked<Caller> {
        let has_token = request.headers().contains_key(header::AUTHORIZATION);
        if has_token || self.cookie.values(request.headers()).next().is_none() {
            let claims = self.token(request)?;
            return Ok(Caller {
                claims,
                session: None,
            });
        }
        let is_change = scope == Scope::Control || !request.method().is_safe();
        let session = self.session(request, is_change)?;
        Ok(Caller {
            claims: Claims::from(session.clone()),
            session: Some(session),
        })
    }

    /// Somebody with a token of any kind; one that signs in once has done so.
    fn newcomer(&self, request: &Request) -> Checked<Claims> {
        let once = bearer_token(request.headers());
        match once.and_then(|token| self.sign_ins.take(token, Instant::now())) {
            Some(claims) => Ok(claims),
            None => self.token(request),
        }
    }

    fn token(&self, request: &Request) -> Checked<Claims> {
        if !request.headers().contains_key(header::AUTHORIZATION) {
            return Err(Failure::unauthorized(None));
        }
        let token = bearer_token(request.headers()).ok_or(Refused::Malformed);
        token
            .and_then(|token| self.keyring.verify(token))
            .map_err(|refused| self.failed(request, Failure::unauthorized(Some(refused))))
    }

    /// What is said of a token or a session that does not count: why, or that there were too many of them.
    fn failed(&self, request: &Request, failure: Failure) -> Failure {
        let peer = request.remote_addr().as_socket_addr();
        match self.refused.note(peer.map(std::net::SocketAddr::ip)) {
            None => failure,
            Some(wait) => Failure::too_many(wait),
        }
    }

    /// A browser sends the cookie by itself, so whose page made it do so counts as much as the cookie.
    fn session(&self, request: &Request, is_change: bool) -> Checked<Session> {
        if request.headers().contains_key(header::AUTHORIZATION) {
            return Err(Failure::no_session(None));
        }
        let mut result = Err(Failure::no_session(None));
        for value in self.cookie.values(request.headers()) {
            result = self
                .sessions
                .verify(value)
                .map_err(|refused| Failure::no_session(Some(refused)));
            if result.is_ok() {
                break;
            }
        }
        let has_value = self.cookie.values(request.headers()).next().is_some();
        let session = result.map_err(|failure| {
            if has_value {
                self.failed(request, failure)
            } else {
                failure
            }
        })?;
        let refuse = |detail| Err(Failure::new(StatusCode::FORBIDDEN, detail));
        if site::is_of_other_page(request.headers()) {
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
pub trait Needs: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// `admin:read`
pub struct Read;
/// `admin:logs`
pub struct Logs;
/// `admin:control`
pub struct Control;

impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Needs for Logs {
    const SCOPE: Scope = Scope::Logs;
}

impl Needs for Control {
    const SCOPE: Scope = Scope::Control;
}

/// Somebody who may do what needs the scope `S`.
pub struct Authorized<S> {
    pub claims: Claims,
    /// The session by which it may, if it is not a token.
    pub session: Option<Session>,
    scope: PhantomData<S>,
}

impl<S: Needs> Authorized<S> {
    fn check(request: &Request) -> Checked<Self> {
        let Caller { claims, session } = Gate::of(request)?.caller(request, S::SCOPE)?;
        note_caller(request, &claims);
        if !claims.scopes.contains(S::SCOPE) {
            return Err(Failure::forbidden(S::SCOPE));
        }
        Ok(Self {
            claims,
            session,
            scope: PhantomData,
        })
    }
}

impl<'a, S: Needs> ApiExtractor<'a> for Authorized<S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(registry);
        register_session(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, SESSION]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let authorized = Self::check(request)?;
        refuse_unknown_parameters(request)?;
        Ok(authorized)
    }
}

/// Somebody with a token that allows something, whatever that is. A session does not do, or it could be prolonged for ever.
pub struct TokenHolder {
    pub claims: Claims,
}

impl<'a> ApiExtractor<'a> for TokenHolder {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let claims = Gate::of(request).and_then(|gate| gate.token(request))?;
        note_caller(request, &claims);
        refuse_powerless(&claims)?;
        refuse_unknown_parameters(request)?;
        Ok(Self { claims })
    }
}

/// Somebody with a token, or one that does nothing but sign in.
pub struct Newcomer {
    pub claims: Claims,
}

impl<'a> ApiExtractor<'a> for Newcomer {
    const TYPES: &'static [ApiExtractorType] = TokenHolder::TYPES;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        TokenHolder::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        TokenHolder::security_schemes()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let claims = Gate::of(request).and_then(|gate| gate.newcomer(request))?;
        note_caller(request, &claims);
        refuse_powerless(&claims)?;
        refuse_unknown_parameters(request)?;
        Ok(Self { claims })
    }
}

/// Somebody with a session.
pub struct SignedIn {
    pub session: Session,
}

impl<'a> ApiExtractor<'a> for SignedIn {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_session(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SESSION]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let is_change = !request.method().is_safe();
        let session = Gate::of(request).and_then(|gate| gate.session(request, is_change))?;
        note_caller(request, &Claims::from(session.clone()));
        refuse_unknown_parameters(request)?;
        Ok(Self { session })
    }
}

/// A session that allows nothing only takes the place of another.
fn refuse_powerless(claims: &Claims) -> Checked<()> {
    if claims.scopes.is_empty() {
        return Err(Failure::powerless());
    }
    Ok(())
}

/// A misspelt parameter would be passed over, and the answer taken for what was meant. Only those who are let in learn it.
fn refuse_unknown_parameters(request: &Request) -> Checked<()> {
    static KNOWN: LazyLock<HashMap<String, Vec<String>>> =
        LazyLock::new(|| openapi::query_parameters(&openapi::admin_document()));
    let uri = request.original_uri();
    if uri.query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let known = KNOWN.get(uri.path()).map_or(&[][..], Vec::as_slice);
    let given = request
        .params::<Vec<(String, String)>>()
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    for (at, (name, _)) in given.iter().enumerate() {
        if !known.contains(name) {
            let reason = match known {
                [] => "is not known: there are none here".to_owned(),
                known => format!("is not known: there are {}", known.join(", ")),
            };
            return Err(Failure::bad_parameter(name, reason));
        }
        if given[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(Failure::bad_parameter(name, "is there more than once"));
        }
    }
    Ok(())
}

/// For the audit trail, if it is a change that is asked for.
fn note_caller(request: &Request, claims: &Claims) {
    if let Some(audit) = request.data::<Arc<Audit>>() {
        audit.asked_by(claims);
    }
}

fn register_bearer(registry: &mut Registry) {
    registry.create_security_scheme(
        BEARER,
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
        SESSION,
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
