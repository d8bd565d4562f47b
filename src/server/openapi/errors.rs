//! Error responses of operations. What poem-openapi derives has only a `default` response for all
//! errors.

use poem::http::StatusCode;
use serde_json::{Value, json};

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
        "The request, a parameter or the body is not valid; `detail` names what.",
        "parameter `lines` is not known: there are none here",
    ),
    DocumentedError::new(
        408,
        "The request did not come in time: HEADER_TIMEOUT, BODY_TIMEOUT.",
        "the head of the request did not come within 10s",
    ),
    DocumentedError::new(
        431,
        "The head of the request is larger than MAX_HEADER_SIZE.",
        "the head of a request may have 16384 bytes and 100 fields",
    ),
    DocumentedError::new(
        500,
        "Something failed that is not the caller's fault.",
        "the service failed on this request; its log says where",
    ),
    DocumentedError::new(
        503,
        "There is no room for another connection, and all are busy.",
        "there is no room for another connection, and all are busy: try again",
    ),
];

/// Errors of operations that require authentication.
const AUTH_ERRORS: [DocumentedError; 3] = [
    DocumentedError::new(
        401,
        "No valid token or session.",
        "the token has expired: `fullon token` prints a new one",
    ),
    DocumentedError::new(
        403,
        "The token or the session lacks the scope, or the request comes from a page of another site.",
        "the token lacks the scope admin:control: `fullon token --scope admin:control` prints one that has it",
    ),
    DocumentedError::new(
        429,
        "Too many tokens of this peer did not count; one that counts is accepted at any time.",
        "too many tokens of this peer did not count: wait 60 s; one that counts is accepted at any time, and `fullon token` prints one",
    ),
];

/// Errors of operations with a request body.
const BODY_ERRORS: [DocumentedError; 2] = [
    DocumentedError::new(
        413,
        "The body is larger than MAX_BODY_SIZE.",
        "a body may have 1048576 bytes",
    ),
    DocumentedError::new(
        415,
        "The body is not JSON.",
        "a body has to come as `Content-Type: application/json`",
    ),
];

/// Adds the common errors and `own` to an operation. An own error replaces the common one with the
/// same status.
pub fn add_errors(operation: &mut Value, own: &[DocumentedError]) {
    let is_guarded = operation["security"]
        .as_array()
        .is_some_and(|schemes| !schemes.is_empty());
    let has_body = !operation["requestBody"].is_null();
    let is_replaced = |error: &&DocumentedError| own.iter().any(|own| own.status == error.status);
    let errors = COMMON_ERRORS
        .iter()
        .chain(AUTH_ERRORS.iter().filter(|_| is_guarded))
        .chain(BODY_ERRORS.iter().filter(|_| has_body))
        .filter(|error| !is_replaced(error))
        .chain(own);
    let problem = operation["responses"]["default"].clone();
    let mut responses: Vec<_> = errors
        .map(|error| (error.status.to_string(), response(&problem, error)))
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

fn response(problem: &Value, error: &DocumentedError) -> Value {
    let mut response = problem.clone();
    response["description"] = json!(error.description);
    for content in response["content"]
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        content["example"] = example(error);
    }
    let header = match error.status {
        401 => challenge("Bearer error=\"invalid_token\""),
        403 => challenge("Bearer error=\"insufficient_scope\", scope=\"admin:control\""),
        429 | 503 => json!({
            "Retry-After": {
                "description": "Seconds to wait (RFC 9110, section 10.2.3).",
                "schema": { "type": "integer", "minimum": 0 },
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
            "description": "The challenge of RFC 6750.",
            "schema": { "type": "string" },
            "example": example,
        },
    })
}

fn example(error: &DocumentedError) -> Value {
    let status = StatusCode::from_u16(error.status).ok();
    json!({
        "type": "about:blank",
        "title": status.and_then(|status| status.canonical_reason()),
        "status": error.status,
        "detail": error.detail,
    })
}
