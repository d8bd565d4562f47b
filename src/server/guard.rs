//! The proof of authorisation. An operation of the admin API takes an [`Authorized`] in its arguments, and there
//! is no other way to get one than a token that allows it.

use std::marker::PhantomData;
use std::sync::Arc;

use poem::http::header;
use poem::{Request, RequestBody, Result};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::problem::Failure;
use crate::auth::{Claims, Keyring, Scope};

/// Name of the scheme in the OpenAPI document.
pub const SCHEME: &str = "bearer";

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
    scope: PhantomData<S>,
}

impl<S: Needs> Authorized<S> {
    fn check(request: &Request) -> std::result::Result<Self, Failure> {
        let token = request
            .header(header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Failure::unauthorized(None))?;
        let keyring = request
            .data::<Arc<Keyring>>()
            .ok_or_else(|| Failure::unauthorized(None))?;
        let claims = keyring
            .verify(token)
            .map_err(|refused| Failure::unauthorized(Some(refused)))?;
        if !claims.scopes.contains(S::SCOPE) {
            return Err(Failure::forbidden(S::SCOPE));
        }
        Ok(Self {
            claims,
            scope: PhantomData,
        })
    }
}

impl<'a, S: Needs> ApiExtractor<'a> for Authorized<S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
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

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let checked = Self::check(request);
        if let Err(failure) = &checked
            && S::SCOPE == Scope::Control
        {
            tracing::warn!(
                target: "audit",
                action = request.uri().path(),
                outcome = "refused",
                reason = %failure,
                peer = request.remote_addr().as_socket_addr().map(tracing::field::display),
            );
        }
        Ok(checked?)
    }
}
