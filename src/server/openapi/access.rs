//! The scope that an operation needs, read from the type of its `Auth` argument.

use serde_json::{Value, json};

use crate::auth::{Scope, Scopes};
use crate::server::http::problem::ApiError;

/// The scope that an operation needs.
#[derive(Clone, Copy)]
pub enum Access {
    /// No token: the public API.
    Public,
    /// A browser session, with any scopes or none.
    Session,
    /// Any scope.
    AnyScope,
    /// This scope.
    Scope(Scope),
}

impl Access {
    const GUARDED: [Self; 5] = [
        Self::Session,
        Self::AnyScope,
        Self::Scope(Scope::Read),
        Self::Scope(Scope::Logs),
        Self::Scope(Scope::Control),
    ];

    /// A name beside those of the security schemes. poem-openapi passes nothing else from the type
    /// of an argument to the document of its operation.
    pub const fn marker(self) -> &'static str {
        match self {
            Self::Public => "access public",
            Self::Session => "access session",
            Self::AnyScope => "access any",
            Self::Scope(Scope::Read) => "access admin:read",
            Self::Scope(Scope::Logs) => "access admin:logs",
            Self::Scope(Scope::Control) => "access admin:control",
        }
    }

    /// Removes the marker from the security schemes of an operation.
    pub fn take_from(operation: &mut Value) -> Self {
        let Some(schemes) = operation["security"].as_array_mut() else {
            // States explicitly that no credentials are required.
            operation["security"] = json!([]);
            return Self::Public;
        };
        let named = |scheme: &Value, access: &Self| !scheme[access.marker()].is_null();
        let found = Self::GUARDED
            .into_iter()
            .find(|access| schemes.iter().any(|scheme| named(scheme, access)));
        schemes.retain(|scheme| !Self::GUARDED.iter().any(|access| named(scheme, access)));
        found.unwrap_or(Self::Public)
    }

    /// The last paragraph of the description of an operation.
    pub fn describe(self) -> String {
        match self {
            Self::Public => "No token needed.".into(),
            Self::Session => "Scope: none, only a browser session.".into(),
            Self::AnyScope => "Scope: any.".into(),
            Self::Scope(scope) => format!("Scope: `{}`.", scope.as_str()),
        }
    }

    /// The response to a caller without the scope; `None` if no scope is needed.
    pub fn insufficient_scope(self) -> Option<ApiError> {
        match self {
            Self::Public | Self::Session => None,
            Self::AnyScope => Some(ApiError::no_scope()),
            Self::Scope(scope) => Some(ApiError::forbidden(scope)),
        }
    }

    /// The scopes in the challenge of that response, separated by spaces.
    pub fn scopes(self) -> Option<String> {
        match self {
            Self::Public | Self::Session => None,
            Self::AnyScope => Some(Scopes::ALL.to_string()),
            Self::Scope(scope) => Some(scope.as_str().into()),
        }
    }
}
