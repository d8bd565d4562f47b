//! Asks a worker over HTTP whether it is ready.

use std::io;

use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use thiserror::Error;

use super::connection::Connection;
use super::request_body::RequestBody;
use super::stream::UpstreamAddress;

/// A worker is not ready.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no HTTP response: {0}")]
    NoResponse(#[source] hyper::Error),
    #[error("GET {path} responds with {status}")]
    Status { path: String, status: StatusCode },
    #[error("`{0}` is no path of a request")]
    Path(String),
}

/// Sends one request, and waits for the response. A connection alone shows nothing: the kernel
/// accepts it for an inherited socket before a program runs.
///
/// Without a path, any response to `GET /` is one of a worker that is ready. A response to a path
/// must have the status 2xx or 3xx.
///
/// # Errors
///
/// The worker is not ready. A worker that never responds keeps the caller waiting.
pub async fn probe(address: &UpstreamAddress, path: Option<&str>) -> Result<(), ProbeError> {
    let target = path.unwrap_or("/");
    let request = Request::get(target)
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .body(RequestBody::empty())
        .map_err(|_| ProbeError::Path(target.to_owned()))?;
    let connection = Connection::open(address).await;
    let mut connection = connection.map_err(ProbeError::Connect)?;
    let response = connection.send(request).await;
    // The connection ends here: the body is not read.
    let status = response
        .map_err(|failure| ProbeError::NoResponse(failure.error))?
        .status();
    if path.is_none() || status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        let path = target.to_owned();
        Err(ProbeError::Status { path, status })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// The result of a probe that a worker answers with these bytes, and its request.
    async fn probed(path: Option<&str>, response: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let address = UpstreamAddress::Unix(socket);
        let mut probe = pin!(probe(&address, path));
        // The kernel has accepted the connection, and no program is there.
        assert!(probe.as_mut().now_or_never().is_none());
        let worker = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(response.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let (result, request) = tokio::join!(probe, worker);
        let result = result.err().map_or_else(String::new, |it| it.to_string());
        (result, request)
    }

    #[tokio::test]
    async fn worker_is_ready_once_it_responds() {
        let not_found = "HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n";
        let found = "HTTP/1.0 302 Found\r\n\r\n";
        let (result, request) = probed(None, not_found).await;
        assert_eq!(result, "");
        assert!(request.starts_with("GET / HTTP/1.1\r\nhost: localhost\r\n"));
        let (result, request) = probed(Some("/ready?x"), not_found).await;
        assert_eq!(result, "GET /ready?x responds with 404 Not Found");
        assert!(request.starts_with("GET /ready?x HTTP/1.1\r\n"));
        assert_eq!(probed(Some("/ready"), found).await.0, "");
        for broken in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n"] {
            let (result, _) = probed(None, broken).await;
            assert!(result.starts_with("no HTTP response: "), "{result}");
        }
        let nowhere = UpstreamAddress::Unix("/nowhere/socket".into());
        let result = super::probe(&nowhere, None).await.unwrap_err().to_string();
        assert!(
            result.starts_with("cannot connect: No such file"),
            "{result}"
        );
    }
}
