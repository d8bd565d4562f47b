//! The socket of a client that waits for a response, for work that should end with the client.

use std::sync::{Arc, Weak};

use poem::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// Reports whether the client of a request still waits.
#[derive(Debug, Clone, Default)]
pub struct ClientSocket(Weak<TcpStream>);

impl ClientSocket {
    pub fn new(stream: &Arc<TcpStream>) -> Self {
        Self(Arc::downgrade(stream))
    }

    /// The client of this request.
    pub fn of(request: &Request) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Whether the connection is open in both directions. A client that has closed only its own
    /// side looks like one that has disconnected, so long work should end with a result.
    pub fn is_connected(&self) -> bool {
        let Some(stream) = self.0.upgrade() else {
            return false;
        };
        let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut sockets = [PollFd::new(&stream, closed)];
        // An error is no sign of the client.
        poll(&mut sockets, Some(&Timespec::default())).map_or(true, |count| count == 0)
    }
}
