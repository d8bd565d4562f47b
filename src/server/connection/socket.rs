//! Checks a socket before it is closed, and closes it without losing the last response.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv, sockopt};
use tokio::net::TcpStream;

/// How long a refused client may take to read its response.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a WebSocket may be quiet before the system asks the other machine whether it still runs.
const KEEP_ALIVE_AFTER: Duration = Duration::from_mins(1);
/// How many bytes it may still send meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;

/// Closes a connection whose client may still send. A close with unread input resets the
/// connection, and the client would lose the response.
pub async fn lingering_close(stream: &TcpStream) {
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    let drained = async {
        let mut buffer = [0_u8; 4096];
        let mut remaining = LINGER_BYTES;
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(read) if read > 0 && read <= remaining => remaining -= read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, drained).await;
}

/// Whether the client has sent bytes that were not read yet. A close would lose them.
pub fn has_pending_input(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
}

/// Whether the client has broken off the connection, in both directions.
pub fn is_reset(stream: &TcpStream) -> bool {
    let mut sockets = [PollFd::new(stream, PollFlags::empty())];
    let broken = PollFlags::HUP | PollFlags::ERR;
    poll(&mut sockets, Some(&Timespec::default()))
        .is_ok_and(|_| sockets[0].revents().intersects(broken))
}

/// Lets the system close a connection whose client has vanished, which may be quiet otherwise.
pub fn keep_alive(stream: &TcpStream) {
    // A failure costs only that.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_AFTER);
}
