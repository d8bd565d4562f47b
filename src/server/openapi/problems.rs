//! The errors of each operation. An operation's own type says only that there are some: `default`.

use serde_json::{Value, json};

/// Why an operation may answer with a status, and what the problem's detail says then.
struct DocumentedError {
    status: u16,
    description: &'static str,
    detail: &'static str,
}

const fn documented(
    status: u16,
    description: &'static str,
    detail: &'static str,
) -> DocumentedError {
    DocumentedError {
        status,
        description,
        detail,
    }
}

/// Of every request.
const COMMON_ERRORS: [DocumentedError; 5] = [
    documented(
        400,
        "The request, a parameter or the body is not valid; `detail` names what.",
        "parameter `lines` is not known: there are none here",
    ),
    documented(
        408,
        "The request did not come in time: HEADER_TIMEOUT, BODY_TIMEOUT.",
        "the head of the request did not come within 10s",
    ),
    documented(
        431,
        "The head of the request is larger than MAX_HEADER_SIZE.",
        "the head of a request may have 16384 bytes and 100 fields",
    ),
    documented(
        500,
        "Something failed that is not the caller's fault.",
        "the service failed on this request; its log says where",
    ),
    documented(
        503,
        "There is no room for another connection, and all are busy.",
        "there is no room for another connection, and all are busy: try again",
    ),
];

/// Of every request that has to prove who asks.
const AUTH_ERRORS: [DocumentedError; 3] = [
    documented(
        401,
        "No valid token or session.",
        "the token has expired: `fullon token` prints a new one",
    ),
    documented(
        403,
        "The token or the session lacks the scope, or the request comes from a page of another site.",
        "the token lacks the scope admin:control: `fullon token --scope admin:control` prints one that has it",
    ),
    documented(
        429,
        "Too many tokens of this peer did not count; one that counts is accepted at any time.",
        "too many tokens of this peer did not count: wait 60 s; one that counts is accepted at any time, and `fullon token` prints one",
    ),
];

/// Of every request with a body.
const BODY_ERRORS: [DocumentedError; 2] = [
    documented(
        413,
        "The body is larger than MAX_BODY_SIZE.",
        "a body may have 1048576 bytes",
    ),
    documented(
        415,
        "The body is not JSON.",
        "a body has to come as `Content-Type: application/json`",
    ),
];

/// Of one operation.
fn operation_errors(operation: &str) -> &'static [DocumentedError] {
    const BUSY: DocumentedError = documented(
        409,
        "The daemon is being replaced, was, or stops: ask again, on a new connection.",
        "this process was replaced and drains: ask again, on a new connection",
    );
    const NO_FILE: DocumentedError = documented(
        409,
        "The log goes to stdout.",
        "the log goes to stdout and cannot be read back: set LOG_FILE to a file",
    );
    const SETTINGS: DocumentedError = documented(
        422,
        "The settings are not valid, and nothing has changed.",
        "invalid configuration: PORT: `99999` is not a port number (0 to 65535, 0 for any free one) (environment)",
    );
    const LATE: DocumentedError = documented(
        504,
        "The successor did not serve in time, and this process goes on.",
        "the new process did not serve within 30s",
    );
    const GONE: DocumentedError = documented(
        404,
        "The line of the cursor is gone.",
        "the line of this cursor is gone: it was rotated away",
    );
    const NO_ROOM: DocumentedError = documented(
        503,
        "There is no room for another client that reads the log, or for another connection; or the log cannot be read.",
        "there is no room for another client that reads the log: try again",
    );
    match operation {
        "stop" | "set_log_level" | "delete_session" | "create_sign_in_token" => &[BUSY],
        "reload" => &[BUSY, SETTINGS],
        "restart" => &[BUSY, SETTINGS, LATE],
        "get_logs" => &[GONE, NO_FILE, NO_ROOM],
        "stream_logs" => &[NO_FILE, NO_ROOM],
        _ => &[],
    }
}

/// Adds them to the operation, whose default answer is a problem.
pub fn add_errors(operation: &mut Value) {
    let is_guarded = operation["security"]
        .as_array()
        .is_some_and(|schemes| !schemes.is_empty());
    let id = operation["operationId"].as_str().unwrap_or_default();
    let own = operation_errors(id);
    let says_itself = |cause: &&DocumentedError| own.iter().any(|own| own.status == cause.status);
    let causes = COMMON_ERRORS
        .iter()
        .chain(AUTH_ERRORS.iter().filter(|_| is_guarded))
        .chain(
            BODY_ERRORS
                .iter()
                .filter(|_| !operation["requestBody"].is_null()),
        )
        .filter(|cause| !says_itself(cause))
        .chain(own);
    let problem = operation["responses"]["default"].clone();
    let mut responses: Vec<_> = causes
        .map(|cause| (cause.status.to_string(), response(&problem, cause)))
        .collect();
    responses.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (status, response) in responses {
        let there = &mut operation["responses"][status];
        if there.is_null() {
            *there = response;
        } else if let Some(content) = there.get_mut("content").and_then(Value::as_object_mut) {
            // An answer of the operation's own with the same status; the problem is the other form it may have.
            let mut forms = response["content"].as_object().cloned().unwrap_or_default();
            content.append(&mut forms);
        }
    }
}

fn response(problem: &Value, cause: &DocumentedError) -> Value {
    let mut response = problem.clone();
    response["description"] = json!(cause.description);
    for form in response["content"]
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        form["example"] = example(cause);
    }
    let header = match cause.status {
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

fn example(cause: &DocumentedError) -> Value {
    let status = hyper::StatusCode::from_u16(cause.status).ok();
    json!({
        "type": "about:blank",
        "title": status.and_then(|status| status.canonical_reason()),
        "status": cause.status,
        "detail": cause.detail,
    })
}
