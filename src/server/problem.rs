//! Errors on the wire. Domain errors know no HTTP; this is the one place that turns them, and poem's own, into
//! answers: [`ApiError`] is what an operation returns, [`problem_from_error`] is for everything that poem refuses itself.

use std::fmt;
use std::time::Duration;

use poem::Response;
use poem::error::ResponseError;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem_openapi::ApiResponse;
use poem_openapi::error::ParseParamError;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use crate::api::{Problem, SettingError};
use crate::auth::{Scope, Scopes, TokenError};
use crate::config::{self, InvalidSettings};
use crate::identity::identity;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// An operation's error.
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

    /// The configuration is not valid.
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

    /// A parameter that was understood as text but not as what it should be.
    pub fn invalid_parameter(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("parameter `{name}` {reason}"),
        )
    }

    /// RFC 6750, section 3: the token is missing or does not count.
    pub fn unauthorized(refused: Option<TokenError>) -> Self {
        let command = identity().command;
        let detail = match refused {
            None => {
                format!("this needs `Authorization: Bearer TOKEN`: `{command} token` prints one")
            }
            Some(TokenError::BadSignature) => format!(
                "{}: `{command} token` prints one that counts when it is run as the user who started this daemon, with its JWT_SECRET_KEY",
                TokenError::BadSignature
            ),
            Some(refused) => format!("{refused}: `{command} token` prints a new one"),
        };
        Self::unauthenticated(detail)
    }

    /// The session is missing or does not count.
    pub fn invalid_session(refused: Option<TokenError>) -> Self {
        let detail = match refused {
            None => {
                "this needs a session, and no `Authorization`: sign in with `POST /admin/session`"
                    .into()
            }
            Some(TokenError::SessionRevoked) => {
                format!("{}: sign in again", TokenError::SessionRevoked)
            }
            Some(refused) => format!("the session does not count ({refused}): sign in again"),
        };
        Self::unauthenticated(detail)
    }

    fn unauthenticated(detail: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer error=\"invalid_token\""),
        )
    }

    /// RFC 6750, section 3: the token does not allow this.
    pub fn forbidden(needed: Scope) -> Self {
        let command = identity().command;
        let needed = needed.as_str();
        let detail = format!(
            "the token lacks the scope {needed}: `{command} token --scope {needed}` prints one that has it"
        );
        Self::insufficient_scope(needed, detail)
    }

    /// The token allows nothing at all.
    pub fn no_scope() -> Self {
        let command = identity().command;
        let scopes = Scopes::ALL.to_string();
        let detail = format!(
            "the token has none of the scopes {scopes}: `{command} token` prints one that has"
        );
        Self::insufficient_scope(&scopes, detail)
    }

    fn insufficient_scope(needed: &str, detail: String) -> Self {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\"");
        let failure = Self::new(StatusCode::FORBIDDEN, detail);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => failure.with_header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => failure,
        }
    }

    /// RFC 6585, section 4: too many tokens that did not count.
    pub fn too_many_requests(wait: Duration) -> Self {
        let command = identity().command;
        let seconds = wait.as_secs() + 1;
        let detail = format!(
            "too many tokens of this peer did not count: wait {seconds} s; one that counts is accepted at any time, and `{command} token` prints one"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// As many read the log as may.
    pub fn log_readers_full() -> Self {
        let detail = "there is no room for another client that reads the log: try again";
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
                description: "An error, as described by RFC 9457.",
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

/// The answer to what poem refused: an unknown path, a wrong method, a bad parameter or body. `allow` is what
/// the path allows, if the path is known.
pub fn problem_from_error(
    error: poem::Error,
    path: &str,
    allow: impl FnOnce() -> Option<HeaderValue>,
) -> Response {
    if let Some(failure) = error.downcast_ref::<ApiError>() {
        // poem would leave out the extensions.
        return failure.as_response();
    }
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let detail = match status {
        StatusCode::NOT_FOUND => Problem::unknown_path_detail(path),
        StatusCode::METHOD_NOT_ALLOWED => format!("{path} does not know this method"),
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
    if status == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allow) = allow()
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// A reason of poem-openapi for people; one that is not known is left as it is.
fn describe_parse_error(reason: &str) -> String {
    let bound = |kind: &str| {
        let bound = reason.strip_prefix("verification failed. ")?;
        let (number, _) = bound.strip_prefix(kind)?.split_once(',')?;
        Some(number)
    };
    if let Some(least) = bound("minimum(") {
        format!("is less than {least}")
    } else if let Some(most) = bound("maximum(") {
        format!("is more than {most}")
    } else if reason.starts_with("failed to parse \"integer(") {
        "is not a whole number, 0 or more".into()
    } else {
        format!("is wrong: {reason}")
    }
}

/// A problem whose status says what kind it is.
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

/// What a problem says, for the audit trail; an extension of its answer.
#[derive(Clone)]
pub struct ProblemDetail(pub String);

/// A problem as JSON.
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
