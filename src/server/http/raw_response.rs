//! Error responses as bytes, for input that never became a request: hyper has nothing to respond
//! to, or would respond with an empty body.

use bytes::Bytes;
use poem::http::StatusCode;

use super::problem;
use super::request_id::REQUEST_ID;

/// A whole response. The connection is closed after it.
pub fn error_response(
    status: StatusCode,
    detail: &str,
    request_id: &str,
    retry_after: Option<u32>,
) -> Bytes {
    let body = problem::problem_json(status, detail, None);
    let retry_after = retry_after
        .map(|seconds| format!("retry-after: {seconds}\r\n"))
        .unwrap_or_default();
    let headers = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{REQUEST_ID}: {request_id}\r\n{retry_after}cache-control: no-store\r\nconnection: close\r\n\r\n",
        problem::PROBLEM_JSON,
        body.len(),
    );
    [headers.as_bytes(), &body].concat().into()
}

/// The status of an error response that hyper generated itself. All responses of the
/// [`Service`](super::Service) have a request id.
pub fn hyper_error_status(response: &[u8]) -> Option<StatusCode> {
    let head = response.strip_prefix(b"HTTP/1.1 ")?;
    let status = StatusCode::from_bytes(head.get(..3)?).ok()?;
    let is_hypers = status.is_client_error()
        && memchr::memmem::find(head, REQUEST_ID.as_str().as_bytes()).is_none();
    is_hypers.then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_errors_are_recognized() {
        let hypers = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(hyper_error_status(hypers), Some(status));
        let ours = error_response(StatusCode::NOT_FOUND, "nothing", "a-1", None);
        assert_eq!(hyper_error_status(&ours), None);
        assert_eq!(hyper_error_status(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(hyper_error_status(b"HTTP"), None);
    }
}
