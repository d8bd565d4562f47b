//! Sockets at the admin port that keep a daemon from starting.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::environment::user_name;
use crate::sys::{
    TcpSocket, can_hold_port, foreign_socket_at_port, is_ephemeral_port, other_socket_at_port,
};

/// A socket at the admin port that could take over connections, or beside which other users could
/// bind sockets that can.
#[derive(Debug, Error)]
#[error("ADMIN_PORT: {}: {}", self.problem(), self.next_step())]
pub struct SharedAdminPort(TcpSocket);

impl SharedAdminPort {
    /// Looks for one of another user.
    ///
    /// # Errors
    ///
    /// The kernel does not report the sockets.
    pub fn find(port: u16) -> io::Result<Option<Self>> {
        foreign_socket_at_port(port).map(|found| found.map(Self))
    }

    /// Looks for any beside which a daemon cannot hold the port of this address.
    ///
    /// # Errors
    ///
    /// The kernel does not report the sockets.
    pub fn find_obstacle(address: SocketAddr) -> io::Result<Option<Self>> {
        if can_hold_port(address.port()) {
            return Ok(None);
        }
        other_socket_at_port(address).map(|found| found.map(Self))
    }

    /// The user that the socket belongs to.
    #[must_use]
    pub fn user(&self) -> u32 {
        self.0.uid
    }

    #[must_use]
    pub fn problem(&self) -> String {
        let address = self.0.address;
        if self.0.is_closed() {
            return format!(
                "a connection of another program at {address} has just ended, and other users could bind the port beside it"
            );
        }
        format!(
            "a program of {} has a socket at {address}, so that connections could be taken over",
            user_name(self.0.uid)
        )
    }

    #[must_use]
    pub fn next_step(&self) -> String {
        let other_port = if is_ephemeral_port(self.0.address.port()) {
            " outside of net.ipv4.ip_local_port_range, whose ports the system gives to clients"
        } else {
            ""
        };
        let first = if self.0.is_closed() {
            "try again in a minute".to_owned()
        } else {
            format!(
                "stop that program (`ps -u {}` shows those of the user)",
                self.0.uid
            )
        };
        format!("{first}, or set another ADMIN_PORT{other_port}")
    }
}

impl From<TcpSocket> for SharedAdminPort {
    fn from(socket: TcpSocket) -> Self {
        Self(socket)
    }
}
