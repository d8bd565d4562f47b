//! Sockets at the admin port that keep a daemon from starting.

use std::net::SocketAddr;

use thiserror::Error;

use super::bind_advice::EndingConnection;
use crate::config::user_name;
use crate::sys::{self, TcpSocket};

/// A socket at the admin port that could take over connections, or beside which other users could
/// bind sockets that can.
#[derive(Debug, Error)]
#[error("ADMIN_PORT: {}: {}", self.problem(), self.next_step())]
pub struct SharedAdminPort(TcpSocket);

impl SharedAdminPort {
    /// Looks for one of another user; then for any beside which a daemon cannot hold the port of the
    /// address, unless `is_of_daemon`: nothing but a running daemon occupies it.
    pub fn find(address: SocketAddr, is_of_daemon: impl FnOnce() -> bool) -> Option<Self> {
        let foreign = sys::foreign_socket_at_port(address.port()).ok().flatten();
        let socket = foreign.or_else(|| {
            if sys::can_hold_port(address.port()) || is_of_daemon() {
                return None;
            }
            sys::other_socket_at_port(address).ok().flatten()
        });
        socket.map(Self)
    }

    /// The user that the socket belongs to.
    #[must_use]
    pub fn user(&self) -> u32 {
        self.0.uid
    }

    #[must_use]
    pub fn problem(&self) -> String {
        if let Some(connection) = EndingConnection::of(&self.0) {
            return format!(
                "{}, and other users could bind the port beside it",
                connection.problem()
            );
        }
        format!(
            "a program of {} has a socket at {}, so that connections could be taken over",
            user_name(self.0.uid),
            self.0.address
        )
    }

    #[must_use]
    pub fn next_step(&self) -> String {
        let other_port = if sys::is_ephemeral_port(self.0.address.port()) {
            " outside of net.ipv4.ip_local_port_range, whose ports the system gives to clients"
        } else {
            ""
        };
        let first = match EndingConnection::of(&self.0) {
            Some(connection) => connection.next_step(),
            None => format!(
                "stop that program (`ps -u {}` shows those of the user)",
                self.0.uid
            ),
        };
        format!("{first}, or set another ADMIN_PORT{other_port}")
    }
}

impl From<TcpSocket> for SharedAdminPort {
    fn from(socket: TcpSocket) -> Self {
        Self(socket)
    }
}
