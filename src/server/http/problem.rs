//! Error responses: problem documents (RFC 9457).
//!
//! Domain errors know no HTTP. Operations convert them to an [`ApiError`]. [`problem_from_error`]
//! converts the errors of poem.

use std::fmt;
use std::time::Duration;

use poem::Response;
use poem::error::ResponseError;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem_openapi::ApiResponse;
use poem_openapi::error::ParseParamError;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;
use tokio::task::JoinError;

use crate::api::{Problem, SettingError};
use crate::auth::{Scope, Scopes, SessionError, TokenError};
use crate::config::{self, InvalidSettings};
use crate::identity::identity;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// A value of a request that is longer is not repeated. Tokens are.
const MAX_SHOWN_LEN: usize = 64;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, ApiError>;

/// The error of an operation.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    errors: Option<Vec<SettingError>>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ApiError {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: None,
            header: None,
        }
    }

    /// Something failed that is not the client's fault.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// The settings are invalid.
    pub fn invalid_configuration(problems: &InvalidSettings) -> Self {
        let error = |problem: &config::SettingProblem| SettingError {
            setting: problem.setting.clone(),
            message: problem.message.clone(),
        };
        Self {
            errors: Some(problems.0.iter().map(error).collect()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, problems.to_string())
        }
    }

    /// A parameter has an invalid value.
    pub fn invalid_parameter(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("parameter `{name}` {reason}"),
        )
    }

    /// A field of the request body has an invalid value.
    pub fn invalid_field(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("field `{name}`: {reason}"))
    }

    /// A field of the request body has an invalid value. The value is repeated only if it is short
    /// and visible: it may be a secret, and the message is logged. `reason` completes "the value …".
    pub fn invalid_value(name: &str, value: &str, reason: &str) -> Self {
        let is_shown =
            value.len() <= MAX_SHOWN_LEN && value.bytes().all(|b| matches!(b, b' '..=b'~'));
        if is_shown {
            Self::invalid_field(name, format_args!("`{value}` {reason}"))
        } else {
            Self::invalid_field(name, format_args!("the value {reason}"))
        }
    }

    /// The token is missing or invalid (RFC 6750, section 3).
    pub fn unauthorized(error: Option<TokenError>) -> Self {
        let command = identity().command;
        let detail = match error {
            None => {
                format!(
                    "the token is missing: send `Authorization: Bearer TOKEN` with a token of `{command} token`"
                )
            }
            Some(TokenError::BadSignature) => format!(
                "{}: run `{command} token` as the user who started the daemon, with the same JWT_SECRET_KEY",
                TokenError::BadSignature
            ),
            Some(error) => format!("{error}: run `{command} token` for a new one"),
        };
        Self::unauthenticated(detail, error.is_some())
    }

    /// The session is missing or invalid.
    pub fn invalid_session(error: Option<SessionError>) -> Self {
        let detail = match error {
            None => {
                "the browser session is missing: sign in with `POST /admin/session`, then send its cookie and X-Fullon-Session, and no Authorization header"
                    .into()
            }
            Some(error @ SessionError::WrongCookie) => error.to_string(),
            Some(error) => format!("{error}: sign in again"),
        };
        Self::unauthenticated(detail, false)
    }

    /// The challenge has an error code only if there was a token (RFC 6750, section 3.1).
    fn unauthenticated(detail: String, has_token: bool) -> Self {
        let challenge = if has_token {
            "Bearer error=\"invalid_token\""
        } else {
            "Bearer"
        };
        Self::new(StatusCode::UNAUTHORIZED, detail).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(challenge),
        )
    }

    /// The token lacks the scope (RFC 6750, section 3).
    pub fn forbidden(needed: Scope) -> Self {
        let command = identity().command;
        let needed = needed.as_str();
        let detail =
            format!("the token lacks the scope {needed}: run `{command} token --scope {needed}`");
        Self::insufficient_scope(needed, detail)
    }

    /// The token has no scope at all.
    pub fn no_scope() -> Self {
        let command = identity().command;
        let scopes = Scopes::ALL.to_string();
        let detail = format!(
            "the token has none of the scopes {scopes}: run `{command} token` for one with all of them"
        );
        Self::insufficient_scope(&scopes, detail)
    }

    fn insufficient_scope(needed: &str, detail: String) -> Self {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\"");
        let error = Self::new(StatusCode::FORBIDDEN, detail);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => error.with_header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    /// The client has sent too many invalid tokens (RFC 6585, section 4).
    pub fn too_many_requests(wait: Duration) -> Self {
        let command = identity().command;
        let seconds = wait.as_secs() + 1;
        let detail = format!(
            "too many invalid tokens from this client: wait {seconds} s, or run `{command} token` for a valid one, which is accepted at any time"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The log has as many readers as it may have.
    pub fn log_readers_full() -> Self {
        let detail = "the limit of clients that read the log is reached: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(1))
    }

    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some(Box::new((name, value))),
            ..self
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ApiError {}

/// A blocking task has panicked.
impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        Self::internal(&error)
    }
}

impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        let mut response = problem_with_errors(self.status, &self.detail, self.errors.clone());
        if let Some(header) = &self.header {
            let (name, value) = header.as_ref().clone();
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Problem details of an error (RFC 9457).",
                status: None,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: PROBLEM_JSON,
                    schema: Problem::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

/// The response to an error of poem: an unknown path, a wrong method, an invalid parameter or body.
/// `find_allow` returns the `Allow` header of a known path.
pub fn problem_from_error(
    error: poem::Error,
    path: &str,
    find_allow: impl FnOnce() -> Option<HeaderValue>,
) -> Response {
    if let Some(error) = error.downcast_ref::<ApiError>() {
        // `error.into_response()` would drop the extensions.
        return error.as_response();
    }
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let mut allow = None;
    let detail = match status {
        StatusCode::NOT_FOUND => Problem::unknown_path_detail(path),
        StatusCode::METHOD_NOT_ALLOWED => {
            allow = find_allow();
            let list = match &allow {
                Some(_) => ": the Allow header lists those it supports",
                None => "",
            };
            format!("{path} does not support this method{list}")
        }
        _ => match error.downcast_ref::<ParseParamError>() {
            Some(error) => format!(
                "parameter `{}` {}",
                error.name,
                describe_parse_error(&error.reason)
            ),
            None => error.to_string(),
        },
    };
    let mut response = problem_response(status, &detail);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// Rewords an error message of poem-openapi. Unknown messages are kept.
fn describe_parse_error(reason: &str) -> String {
    // The message of a type of this crate follows the name of the type.
    match reason.strip_prefix("failed to parse \"LineCount\": ") {
        Some(reason) => reason.into(),
        None => format!("is invalid: {reason}"),
    }
}

/// A response with a problem document.
pub fn problem_response(status: StatusCode, detail: &str) -> Response {
    problem_with_errors(status, detail, None)
}

fn problem_with_errors(
    status: StatusCode,
    detail: &str,
    errors: Option<Vec<SettingError>>,
) -> Response {
    let mut response = Response::builder()
        .status(status)
        .content_type(PROBLEM_JSON)
        .body(problem_json(status, detail, errors));
    response
        .extensions_mut()
        .insert(ProblemDetail(detail.to_owned()));
    response
}

/// The detail of a problem, for the audit trail: an extension of the response.
#[derive(Clone)]
pub struct ProblemDetail(pub String);

/// A problem document.
pub fn problem_json(
    status: StatusCode,
    detail: &str,
    errors: Option<Vec<SettingError>>,
) -> Vec<u8> {
    let problem = Problem {
        kind: "about:blank".into(),
        title: status.canonical_reason().unwrap_or("Error").into(),
        status: status.as_u16(),
        detail: detail.into(),
        errors,
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}
