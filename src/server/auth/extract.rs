//! Authorization as a handler argument. Every operation of the admin API takes an [`Auth`], and the
//! only way to get one is a request that satisfies its [`Policy`].

use std::sync::Arc;

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::state::{AuthState, SESSION_HEADER, TICKET_PARAMETER};
use crate::auth::{Claims, Scope, Session};
use crate::server::http::audit::AuditRecord;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::Access;

/// Proof that the caller satisfies the policy `P`.
pub struct Auth<P: Policy> {
    pub claims: Claims,
    pub session: P::Session,
}

/// The requirement of an operation for its caller.
pub trait Policy: Send + Sync + 'static {
    /// The accepted credentials, for the OpenAPI document.
    const SCHEMES: &'static [SecurityScheme];
    /// The scope that [`Self::authorize`] requires, for the OpenAPI document.
    const ACCESS: Access = Access::AnyScope;
    /// The session of the caller: `()` if the policy accepts no session.
    type Session: Send;

    /// # Errors
    ///
    /// 401 for missing or invalid credentials, 403 for a request from a page of another origin, 429
    /// after too many failures.
    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, Self::Session)>;

    /// Requires any scope by default: a session without one would only take the place of another.
    ///
    /// # Errors
    ///
    /// 403 when the caller lacks the scope.
    fn authorize(claims: &Claims) -> Result<()> {
        if claims.scopes.is_empty() {
            return Err(ApiError::no_scope());
        }
        Ok(())
    }
}

/// A token or a session with a scope: the marker types [`Read`], [`Logs`] and [`Control`].
pub trait RequiredScope: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// Requires `admin:read`.
pub struct Read;
/// Requires `admin:logs`.
pub struct Logs;
/// Requires `admin:control`.
pub struct Control;

impl RequiredScope for Read {
    const SCOPE: Scope = Scope::Read;
}

impl RequiredScope for Logs {
    const SCOPE: Scope = Scope::Logs;
}

impl RequiredScope for Control {
    const SCOPE: Scope = Scope::Control;
}

impl<S: RequiredScope> Policy for S {
    const SCHEMES: &'static [SecurityScheme] = &[SecurityScheme::Bearer, SecurityScheme::Session];
    const ACCESS: Access = Access::Scope(S::SCOPE);
    type Session = Option<Session>;

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, Self::Session)> {
        auth.verify_token_or_session(request, S::SCOPE)
    }

    fn authorize(claims: &Claims) -> Result<()> {
        if !claims.scopes.contains(S::SCOPE) {
            return Err(ApiError::forbidden(S::SCOPE));
        }
        Ok(())
    }
}

/// Requires `admin:logs`, for the log stream: an `EventSource` sends the ticket of its session.
pub struct Follow;

impl Policy for Follow {
    const SCHEMES: &'static [SecurityScheme] = &[
        SecurityScheme::Bearer,
        SecurityScheme::Session,
        SecurityScheme::Ticket,
    ];
    const ACCESS: Access = Access::Scope(Scope::Logs);
    type Session = Option<Session>;

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, Self::Session)> {
        auth.verify_follower(request, Logs::SCOPE)
    }

    fn authorize(claims: &Claims) -> Result<()> {
        Logs::authorize(claims)
    }
}

/// Requires a token with any scope. A session is not accepted: it could prolong itself without end.
pub struct AnyToken;

impl Policy for AnyToken {
    const SCHEMES: &'static [SecurityScheme] = &[SecurityScheme::Bearer];
    type Session = ();

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, ())> {
        auth.verify_token(request).map(|claims| (claims, ()))
    }
}

/// Requires a token with any scope, or a sign-in token, which is used up.
pub struct SignIn;

impl Policy for SignIn {
    const SCHEMES: &'static [SecurityScheme] = &[SecurityScheme::Bearer];
    type Session = ();

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, ())> {
        auth.verify_sign_in(request).map(|claims| (claims, ()))
    }
}

/// Requires a token with any scope, or a sign-in token, which is not used up.
pub struct InspectSignIn;

impl Policy for InspectSignIn {
    const SCHEMES: &'static [SecurityScheme] = &[SecurityScheme::Bearer];
    type Session = ();

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, ())> {
        auth.inspect_sign_in(request).map(|claims| (claims, ()))
    }
}

/// Requires a session.
pub struct SignedIn;

impl Policy for SignedIn {
    const SCHEMES: &'static [SecurityScheme] = &[SecurityScheme::Session];
    const ACCESS: Access = Access::Session;
    type Session = Session;

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, Session)> {
        let session = auth.verify_session(request, !request.method().is_safe())?;
        Ok((Claims::from(session.clone()), session))
    }

    fn authorize(_: &Claims) -> Result<()> {
        Ok(())
    }
}

/// Requires a session, also one of which only the log stream is left.
pub struct SignOut;

impl Policy for SignOut {
    const SCHEMES: &'static [SecurityScheme] = SignedIn::SCHEMES;
    const ACCESS: Access = SignedIn::ACCESS;
    type Session = Session;

    fn authenticate(auth: &AuthState, request: &Request) -> Result<(Claims, Session)> {
        let session = auth.verify_session_to_end(request)?;
        Ok((Claims::from(session.clone()), session))
    }

    fn authorize(_: &Claims) -> Result<()> {
        Ok(())
    }
}

impl<'a, P: Policy> ApiExtractor<'a> for Auth<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        for scheme in P::SCHEMES {
            registry.create_security_scheme(scheme.name(), scheme.meta());
        }
        let cookie = SecurityScheme::Cookie;
        registry.create_security_scheme(cookie.name(), cookie.meta());
    }

    fn security_schemes() -> Vec<&'static str> {
        let schemes = P::SCHEMES.iter().map(SecurityScheme::name);
        schemes.chain([P::ACCESS.marker()]).collect()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        let auth = AuthState::from_request(request)?;
        let (claims, session) = P::authenticate(auth, request)?;
        // The audit trail names the caller of a request that is forbidden, too.
        if let Some(audit) = request.data::<Arc<AuditRecord>>() {
            audit.set_caller(&claims);
        }
        P::authorize(&claims)?;
        auth.reject_unknown_parameters(request)?;
        Ok(Self { claims, session })
    }
}

/// Credentials that an operation accepts, as the OpenAPI document describes them.
pub enum SecurityScheme {
    Bearer,
    /// The session value; the document adds the cookie.
    Session,
    /// The ticket; the document adds the cookie.
    Ticket,
    /// Never alone.
    Cookie,
}

impl SecurityScheme {
    fn name(&self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Session => "session",
            Self::Ticket => "ticket",
            Self::Cookie => "cookie",
        }
    }

    fn meta(&self) -> MetaSecurityScheme {
        let (ty, description) = match self {
            Self::Bearer => (
                "http",
                "A JWT that `fullon token` prints, signed with HS256 and the signing key. Required claims: `exp`, `sub`, `aud` = `fullon-admin`, and `scope`, a space-separated list of `admin:read`, `admin:logs` and `admin:control`. `exp` is at most 366 days ahead.",
            ),
            Self::Session => (
                "apiKey",
                "`session` of the response to `POST /admin/session`. It is valid together with the cookie of that response. A request with a bearer token ignores both. A request that changes something also needs the `Origin` header of this API. To sign out, the cookie is not needed.",
            ),
            Self::Ticket => (
                "apiKey",
                "`ticket` of the response to `POST /admin/session`, for an `EventSource`, which cannot send headers. It is valid together with the cookie of that response.",
            ),
            Self::Cookie => (
                "apiKey",
                "The cookie of a browser session, which `POST /admin/session` sets. The number in its name is the port of the `Host` header, or else the port of the admin API. For an https origin of `ADMIN_ORIGINS`, the name begins with `__Host-`. Browsers send it to every port of the host, so it is not enough alone.",
            ),
        };
        let (key_in, name) = match self {
            Self::Bearer => (None, None),
            Self::Session => (Some("header"), Some(SESSION_HEADER)),
            Self::Ticket => (Some("query"), Some(TICKET_PARAMETER)),
            Self::Cookie => (Some("cookie"), Some("fullon-session-8001")),
        };
        let is_bearer = matches!(self, Self::Bearer);
        MetaSecurityScheme {
            ty,
            description: Some(description),
            name,
            key_in,
            scheme: is_bearer.then_some("bearer"),
            bearer_format: is_bearer.then_some("JWT"),
            flows: None,
            openid_connect_url: None,
        }
    }
}
