//! The address of one worker: a new one for each process, never used again, so nothing waits in a
//! queue for a client that has left.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::directory::{SocketPath, WorkersDirectory};
use super::mark::Mark;
use super::stage::SOCKET_FD;
use crate::config::Placeholder;
use crate::proxy::UpstreamAddress;
use crate::sys::{Process, is_listening_below};

/// The address of a worker, before it runs.
#[derive(Debug)]
pub struct Address {
    pub upstream: UpstreamAddress,
    /// The listening socket that the worker inherits.
    pub listener: Option<OwnedFd>,
    /// The socket file, if there is one.
    socket: Option<SocketPath>,
    placeholder: Placeholder,
}

impl Address {
    /// # Errors
    ///
    /// The system refused.
    pub fn new(
        placeholder: Placeholder,
        directory: &WorkersDirectory,
        mark: &Mark,
    ) -> io::Result<Self> {
        let mut address = Self {
            upstream: UpstreamAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
            listener: None,
            socket: None,
            placeholder,
        };
        match placeholder {
            Placeholder::Fd | Placeholder::Socket => {
                let socket = directory.socket(mark)?;
                if placeholder == Placeholder::Fd {
                    address.listener = Some(UnixListener::bind(socket.own())?.into());
                }
                address.upstream = UpstreamAddress::Unix(socket.own());
                address.socket = Some(socket);
            }
            Placeholder::Port | Placeholder::Environment => {
                let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                address.upstream = UpstreamAddress::Tcp(free.local_addr()?);
            }
        }
        Ok(address)
    }

    /// The word of a command line, with the address in place of its placeholder.
    pub fn fill(&self, word: &str) -> String {
        match (&self.upstream, &self.socket) {
            (_, Some(_)) if self.placeholder == Placeholder::Fd => {
                word.replace("{fd}", &SOCKET_FD.to_string())
            }
            (_, Some(socket)) => word.replace("{socket}", &socket.shared().to_string_lossy()),
            (UpstreamAddress::Tcp(address), None) => {
                word.replace("{port}", &address.port().to_string())
            }
            (UpstreamAddress::Unix(_), None) => word.to_owned(),
        }
    }

    /// The variables that name the address.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        match (self.placeholder, &self.upstream) {
            (Placeholder::Environment, UpstreamAddress::Tcp(address)) => vec![
                ("HOST", address.ip().to_string()),
                ("PORT", address.port().to_string()),
            ],
            _ => Vec::new(),
        }
    }

    /// The socket file, if there is one.
    pub fn socket_file(&self) -> Option<&Path> {
        self.socket.as_ref().map(SocketPath::file)
    }

    /// Whether what listens there is the worker or a descendant of its guard. Another program may
    /// have taken the port first.
    pub fn is_held_below(&self, guard: &Process) -> bool {
        match self.upstream {
            UpstreamAddress::Unix(_) => true,
            UpstreamAddress::Tcp(address) => is_listening_below(guard, address),
        }
    }

    /// The TCP address, for messages.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self.upstream {
            UpstreamAddress::Unix(_) => None,
            UpstreamAddress::Tcp(address) => Some(address),
        }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            socket.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_placeholder_has_its_own_address() {
        let directory = tempfile::tempdir().unwrap();
        let workers = WorkersDirectory::create(&directory.path().join("pid")).unwrap();
        let new = |placeholder| Address::new(placeholder, &workers, &Mark::new("hash")).unwrap();

        let fd = new(Placeholder::Fd);
        assert!(fd.listener.is_some());
        assert_eq!(fd.fill("fd://{fd}"), "fd://3");
        assert!(fd.variables().is_empty());

        let socket = new(Placeholder::Socket);
        let UpstreamAddress::Unix(path) = socket.upstream.clone() else {
            panic!("{socket:?}");
        };
        assert_eq!(
            socket.fill("unix:{socket}"),
            format!("unix:{}", path.display())
        );
        drop(UnixListener::bind(&path).unwrap());
        drop(socket);
        assert!(!path.exists());

        let port = new(Placeholder::Port);
        let number = port.tcp().unwrap().port();
        assert_eq!(port.fill("[{port}]"), format!("[{number}]"));
        assert!(port.variables().is_empty());

        let environment = new(Placeholder::Environment);
        let number = environment.tcp().unwrap().port().to_string();
        let expected = [("HOST", "127.0.0.1".to_owned()), ("PORT", number)];
        assert_eq!(environment.variables(), expected);
    }
}
