//! Why an address cannot be bound, and the next step.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::sys::{self, Ending, Process, TcpSocket};

/// How long the kernel keeps a connection in `TIME_WAIT` (`TCP_TIMEWAIT_LEN`), in seconds.
const TIME_WAIT: u64 = 60;

/// A connection that its program has closed, and that still occupies its address.
#[derive(Debug)]
pub struct EndingConnection {
    address: SocketAddr,
    remote: SocketAddr,
    state: Ending,
}

impl EndingConnection {
    /// The one that keeps the address from being bound, if nothing else does.
    #[must_use]
    pub fn find(address: SocketAddr) -> Option<Self> {
        Self::of(&sys::overlapping_socket(address).ok()??)
    }

    /// `None` if a program has the socket.
    #[must_use]
    pub fn of(socket: &TcpSocket) -> Option<Self> {
        Some(Self {
            address: socket.address,
            remote: socket.remote,
            state: socket.ending()?,
        })
    }

    #[must_use]
    pub fn problem(&self) -> String {
        let Self {
            address, remote, ..
        } = self;
        match self.state {
            Ending::TimeWait => format!(
                "a connection at {address} has just ended, and the kernel keeps its address for {TIME_WAIT} s (TIME_WAIT)"
            ),
            Ending::FinWait2 => format!(
                "a connection at {address} was closed here, but not by the program at {remote} (FIN_WAIT2)"
            ),
            Ending::Unacknowledged(state) => format!(
                "a connection at {address} was closed here, but the program at {remote} has not received its end ({state})"
            ),
        }
    }

    #[must_use]
    pub fn next_step(&self) -> String {
        match self.state {
            Ending::TimeWait => "try again in a minute".to_owned(),
            // The program may close it in the last moment.
            Ending::FinWait2 => {
                format!("try again in {} s", sys::fin_timeout() + TIME_WAIT)
            }
            Ending::Unacknowledged(_) => format!(
                "end that program (`sudo ss -tnp src {}` shows it), or wait until the kernel gives up, which can take minutes",
                self.remote
            ),
        }
    }
}

/// Occupies an address.
#[derive(Debug)]
pub enum Occupant {
    /// A process that listens there: its name and PID.
    Process(String),
    Connection(Box<EndingConnection>),
}

impl Occupant {
    /// Looks for it, where an address is in use. `daemon` is known to listen there, and is not named.
    #[must_use]
    pub fn find(address: SocketAddr, daemon: Option<&Process>) -> Option<Self> {
        match sys::find_listener(address.port()) {
            Some(process) if daemon.is_some_and(|daemon| daemon.pid() == process.pid()) => None,
            Some(process) => Some(Self::Process(process.describe())),
            None => EndingConnection::find(address)
                .map(Box::new)
                .map(Self::Connection),
        }
    }
}

/// Explains why an address cannot be bound, and what to do: the error, what occupies the address, if
/// known, and the setting of the port.
pub struct BindAdvice<'a>(pub &'a io::Error, pub Option<&'a Occupant>, pub &'a str);

impl fmt::Display for BindAdvice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error, occupant, setting) = self;
        match (error.kind(), occupant) {
            (io::ErrorKind::AddrInUse, Some(Occupant::Process(owner))) => {
                write!(
                    f,
                    ": {owner} already listens there; stop that process or choose another {setting}"
                )
            }
            (io::ErrorKind::AddrInUse, Some(Occupant::Connection(connection))) => write!(
                f,
                ": {}: {}, or choose another {setting}",
                connection.problem(),
                connection.next_step()
            ),
            (io::ErrorKind::AddrInUse, None) => write!(
                f,
                "; `sudo ss -ltnp` shows the process that listens there; stop that process or choose another {setting}"
            ),
            (io::ErrorKind::PermissionDenied, _) => write!(
                f,
                "; ports below 1024 need CAP_NET_BIND_SERVICE: choose another {setting}"
            ),
            _ => {
                let host = setting.replace("PORT", "HOST");
                write!(f, "; set {host} to an address of this machine")
            }
        }
    }
}
