//! Error responses of operations. poem-openapi derives one `default` response for all errors; it is
//! replaced by one response for each status.

use poem::http::StatusCode;
use serde_json::{Value, json};

use super::access::Access;
use crate::server::http::problem::ApiError;

/// A cause of an error response, with an example of the problem's `detail`.
pub struct DocumentedError {
    status: u16,
    description: &'static str,
    detail: &'static str,
}

impl DocumentedError {
    pub const fn new(status: u16, description: &'static str, detail: &'static str) -> Self {
        Self {
            status,
            description,
            detail,
        }
    }
}

impl From<&DocumentedError> for ApiError {
    fn from(error: &DocumentedError) -> Self {
        let status = StatusCode::from_u16(error.status);
        Self::new(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            error.detail,
        )
    }
}

/// Errors of every operation.
const COMMON_ERRORS: [DocumentedError; 5] = [
    DocumentedError::new(
        400,
        "The request is invalid. `detail` names the parameter, or the field of the body.",
        "unknown parameter `lines`: this operation has no parameters",
    ),
    DocumentedError::new(
        408,
        "The request did not arrive within `HEADER_TIMEOUT` or `BODY_TIMEOUT`.",
        "the request headers did not arrive within 10s (HEADER_TIMEOUT)",
    ),
    DocumentedError::new(
        431,
        "The request headers are larger than `MAX_HEADER_SIZE`, or more than 100.",
        "the request headers are too large: at most 16384 bytes (MAX_HEADER_SIZE) and 100 headers",
    ),
    DocumentedError::new(
        500,
        "An internal error. The log of the daemon has the details.",
        "internal error: see the log of the daemon",
    ),
    DocumentedError::new(
        503,
        "The connection limit is reached. `Retry-After` says when to try again.",
        "connection limit reached, and all connections are busy: try again",
    ),
];

/// Errors of operations that require authentication.
const AUTH_ERRORS: [DocumentedError; 3] = [
    DocumentedError::new(
        401,
        "The token or the browser session is missing or invalid.",
        "the token has expired: run `fullon token` for a new one",
    ),
    DocumentedError::new(
        403,
        "The token or the browser session lacks the required scope, or the request comes from a page of another origin.",
        "requests from pages of other origins are rejected",
    ),
    DocumentedError::new(
        429,
        "The client has sent too many invalid tokens. `Retry-After` says when to try again; a valid token is accepted at any time.",
        "too many invalid tokens from this client: wait 60 s, or run `fullon token` for a valid one, which is accepted at any time",
    ),
];

/// Errors of operations with a request body.
const BODY_ERRORS: [DocumentedError; 2] = [
    DocumentedError::new(
        413,
        "The body is larger than `MAX_BODY_SIZE`.",
        "the request body is too large: at most 1048576 bytes (MAX_BODY_SIZE)",
    ),
    DocumentedError::new(
        415,
        "The `Content-Type` of the body is not `application/json`.",
        "unsupported Content-Type: send the body as `Content-Type: application/json`",
    ),
];

/// Adds the common errors and `own` to an operation. An own error replaces the common one with the
/// same status.
pub fn add_errors(operation: &mut Value, own: &[DocumentedError], access: Access) {
    let is_guarded = !matches!(access, Access::Public);
    let has_body = !operation["requestBody"].is_null();
    let is_replaced = |error: &&DocumentedError| own.iter().any(|own| own.status == error.status);
    let errors = COMMON_ERRORS
        .iter()
        .chain(AUTH_ERRORS.iter().filter(|_| is_guarded))
        .chain(BODY_ERRORS.iter().filter(|_| has_body))
        .filter(|error| !is_replaced(error))
        .chain(own);
    let Some(problem) = operation["responses"]
        .as_object_mut()
        .and_then(|responses| responses.remove("default"))
    else {
        return;
    };
    let mut responses: Vec<_> = errors
        .map(|error| (error.status.to_string(), response(&problem, error, access)))
        .collect();
    responses.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (status, response) in responses {
        let existing = &mut operation["responses"][status];
        if existing.is_null() {
            *existing = response;
        } else if let Some(content) = existing.get_mut("content").and_then(Value::as_object_mut) {
            // The operation itself may respond with this status; the problem is another form of
            // that response.
            let mut contents = response["content"].as_object().cloned().unwrap_or_default();
            content.append(&mut contents);
        }
    }
}

fn response(problem: &Value, error: &DocumentedError, access: Access) -> Value {
    let mut response = problem.clone();
    response["description"] = json!(error.description);
    for content in response["content"]
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        content["example"] = example(error, access);
    }
    let header = match error.status {
        401 => challenge("Bearer error=\"invalid_token\""),
        403 => match access.scopes() {
            Some(scopes) => challenge(&format!(
                "Bearer error=\"insufficient_scope\", scope=\"{scopes}\""
            )),
            None => return response,
        },
        429 | 503 => json!({
            "Retry-After": {
                "description": "Seconds to wait before the next try (RFC 9110, section 10.2.3).",
                "schema": { "type": "integer", "format": "int32", "minimum": 0 },
                "example": 1,
            },
        }),
        _ => return response,
    };
    response["headers"] = header;
    response
}

fn challenge(example: &str) -> Value {
    json!({
        "WWW-Authenticate": {
            "description": "Authentication scheme (RFC 6750, section 3). A request with a token also gets an error code.",
            "schema": { "type": "string" },
            "example": example,
        },
    })
}

fn example(error: &DocumentedError, access: Access) -> Value {
    let status = StatusCode::from_u16(error.status).ok();
    let detail = match access.insufficient_scope() {
        Some(insufficient) if error.status == 403 => insufficient.to_string(),
        _ => error.detail.to_owned(),
    };
    json!({
        "type": "about:blank",
        "title": status.and_then(|status| status.canonical_reason()),
        "status": error.status,
        "detail": detail,
    })
}
