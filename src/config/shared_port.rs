//! Sockets of other users at the admin port.

use std::io;

use thiserror::Error;

use super::environment::user_name;
use crate::sys::{TcpSocket, foreign_socket_at_port, is_ephemeral_port};

/// A socket of another user at the admin port, which could take over connections.
#[derive(Debug, Error)]
#[error("ADMIN_PORT: {}: {}", self.problem(), self.next_step())]
pub struct SharedAdminPort(TcpSocket);

impl SharedAdminPort {
    /// Looks for one. A daemon does not start beside it.
    ///
    /// # Errors
    ///
    /// The kernel does not report the sockets.
    pub fn find(port: u16) -> io::Result<Option<Self>> {
        foreign_socket_at_port(port).map(|found| found.map(Self))
    }

    /// The user that the socket belongs to.
    #[must_use]
    pub fn user(&self) -> u32 {
        self.0.uid
    }

    #[must_use]
    pub fn problem(&self) -> String {
        format!(
            "a program of {} has a socket at {} that could take over connections",
            user_name(self.0.uid),
            self.0.address
        )
    }

    #[must_use]
    pub fn next_step(&self) -> String {
        let other_port = if is_ephemeral_port(self.0.address.port()) {
            " outside of net.ipv4.ip_local_port_range, whose ports the system gives to clients"
        } else {
            ""
        };
        format!(
            "stop that program (`ps -u {}` shows those of the user), or set another ADMIN_PORT{other_port}",
            self.0.uid
        )
    }
}

impl From<TcpSocket> for SharedAdminPort {
    fn from(socket: TcpSocket) -> Self {
        Self(socket)
    }
}
