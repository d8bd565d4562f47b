//! Response bodies that are written without hyper.
//!
//! hyper keeps 16 KiB of buffers for each connection, which is more than everything else that a
//! follower of the log needs. So hyper writes only the headers of such a response. Then the
//! connection takes the socket back and the body writes to it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use poem::http::Version;
use tokio::io::AsyncWrite;

/// The socket that a detached body is written to.
pub type DetachedSocket = Box<dyn AsyncWrite + Send + Unpin>;

type Written = BoxFuture<'static, io::Result<()>>;

/// Writes a response body. The connection ends with it.
pub type DetachedBody = Box<dyn FnOnce(DetachedSocket) -> Written + Send>;

/// A detached body on its way from an operation to the connection: an extension of the response.
#[derive(Clone)]
pub struct DetachedResponse(Arc<Mutex<Option<Box<WriteBody>>>>);

type WriteBody = dyn FnOnce(Version, DetachedSocket) -> Written + Send;

impl DetachedResponse {
    /// `write` gets the HTTP version of the request, which determines the framing of the body.
    pub fn new(write: impl FnOnce(Version, DetachedSocket) -> Written + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(write)))))
    }

    /// Takes the body for a request of this version; `None` if it was taken before.
    pub fn take(&self, version: Version) -> Option<DetachedBody> {
        let write = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        Some(Box::new(move |socket| write(version, socket)))
    }
}
