//! Addresses of servers, and hosts as settings and URLs name them.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    Network {
        /// A name or an IP address.
        host: String,
        /// The address, if it need not be looked up.
        address: Option<IpAddr>,
        port: u16,
    },
    /// Path of a Unix socket.
    Socket(PathBuf),
}

/// A host as settings and URLs name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerHost {
    /// A name or an IP address.
    Name(String),
    /// A directory with the Unix socket of PostgreSQL, or the socket itself.
    Directory(PathBuf),
    /// A Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for ServerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Directory(path) | Self::Socket(path) => path.display().fmt(f),
        }
    }
}

impl ServerHost {
    /// The address at a port. `address` is that of a name, if it is known.
    pub fn at(self, port: u16, address: Option<IpAddr>) -> ServerAddress {
        match self {
            Self::Name(host) => ServerAddress::Network {
                address: address.or_else(|| host.parse().ok()),
                host,
                port,
            },
            Self::Directory(path) if is_socket_of_postgresql(&path) => ServerAddress::Socket(path),
            Self::Directory(path) => {
                ServerAddress::Socket(path.join(format!("{SOCKET_OF_POSTGRESQL}{port}")))
            }
            Self::Socket(path) => ServerAddress::Socket(path),
        }
    }
}

const SOCKET_OF_POSTGRESQL: &str = ".s.PGSQL.";

fn is_socket_of_postgresql(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(SOCKET_OF_POSTGRESQL))
}
