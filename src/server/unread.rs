//! Answers to what never became a request: written straight to the socket, because hyper has nothing to answer, or would answer
//! with an empty body.

use std::time::Duration;

use bytes::Bytes;
use poem::http::StatusCode;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

use super::problem;
use super::service::REQUEST_ID;

/// How long a client that was refused may take to take the answer.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);
/// How much it may still send meanwhile, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;

/// A whole answer, after which the connection is closed.
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
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{REQUEST_ID}: {request_id}\r\n{retry_after}cache-control: no-store\r\nconnection: close\r\n\r\n",
        problem::PROBLEM_JSON,
        body.len(),
    );
    [head.as_bytes(), &body].concat().into()
}

/// The status of an answer that hyper has made of its own, in place of one of ours. All of ours have a name.
pub fn hyper_error_status(answer: &[u8]) -> Option<StatusCode> {
    let head = answer.strip_prefix(b"HTTP/1.1 ")?;
    let status = StatusCode::from_bytes(head.get(..3)?).ok()?;
    let is_hypers = status.is_client_error()
        && memchr::memmem::find(head, REQUEST_ID.as_str().as_bytes()).is_none();
    is_hypers.then_some(status)
}

/// Closes in a way that does not take the answer from a client that still sends: a close with bytes unread resets the
/// connection.
pub async fn lingering_close(stream: &TcpStream) {
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    let drained = async {
        let mut buffer = [0_u8; 4096];
        let mut left = LINGER_BYTES;
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(read) if read > 0 && read <= left => left -= read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, drained).await;
}

/// Whether the client has sent something that nobody has read yet. Closing now would lose it.
pub fn has_pending_input(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
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
