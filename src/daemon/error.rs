//! Why the daemon could not start, in words for the operator.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::audit::AuditFileError;
use crate::auth::KeyError;
use crate::instance::{BindAdvice, Occupant, PidFileError, SharedAdminPort, StateFileError};
use crate::logs::{InstallError, LogFileError};

/// Why the daemon could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// It runs already, or the PID file cannot be used.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// An address cannot be bound.
    #[error("{setting}: cannot listen on {address}: {source}{}", BindAdvice(.source, .occupant.as_ref(), setting))]
    Bind {
        /// `PORT` or `ADMIN_PORT`.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The process or connection that occupies the address, if known.
        occupant: Option<Occupant>,
        /// The cause.
        source: io::Error,
    },
    /// A metric has a name that Prometheus does not allow.
    #[error("the metrics cannot be created: {0}")]
    Metrics(#[source] prometheus::Error),
    /// A socket that was passed to this process cannot be used.
    #[error("a listening socket cannot be used: {0}")]
    Socket(#[source] io::Error),
    /// systemd passed a socket that matches no setting.
    #[error(
        "systemd passed a socket at {0}, which is neither HOST:PORT nor ADMIN_HOST:ADMIN_PORT: set FileDescriptorName=public or FileDescriptorName=admin in its .socket unit"
    )]
    UnknownSocket(SocketAddr),
    /// The admin socket that systemd passed is open to other hosts.
    #[error(
        "the admin socket that systemd passed is at {0}, which is not a loopback address: change ListenStream= in its .socket unit"
    )]
    AdminNotLoopback(SocketAddr),
    /// A program of another user could take over connections to the admin port.
    #[error(transparent)]
    SharedAdminPort(SharedAdminPort),
    /// It is unknown whether another user could take over connections to the admin port.
    #[error(
        "ADMIN_PORT: the kernel does not say which users have sockets at port {port} ({source}): start the daemon again a minute after the last connection there, or allow it netlink sockets (RestrictAddressFamilies=AF_NETLINK under systemd)"
    )]
    UncheckedAdminPort {
        /// The port.
        port: u16,
        /// The cause.
        source: io::Error,
    },
    /// The old process did not hand over.
    #[error("the old process did not hand over: {0}")]
    Handoff(#[source] io::Error),
    /// The workers cannot be run.
    #[error("the application cannot be started: {0}")]
    Workers(#[source] io::Error),
    /// The application did not become ready.
    #[error("{0}")]
    Application(String),
    /// The servers do not answer.
    #[error("the self-check of the servers failed: {0}")]
    ServersUnresponsive(#[source] io::Error),
    /// The audit file cannot be used.
    #[error(transparent)]
    AuditFile(#[from] AuditFileError),
    /// The log file cannot be used.
    #[error(transparent)]
    LogFile(#[from] LogFileError),
    /// The log file cannot be used; in the foreground, stdout is an alternative.
    #[error("{0}, or to - for stdout")]
    LogFileInForeground(LogFileError),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The state file cannot be written.
    #[error(transparent)]
    State(#[from] StateFileError),
    /// The log cannot be installed.
    #[error(transparent)]
    Log(#[from] InstallError),
    /// There are too few descriptors for clients.
    #[error(
        "the limit of open files is {limit}, but the daemon needs at least {needed}: raise it with `ulimit -n` (LimitNOFILE= under systemd)"
    )]
    FdLimitTooLow {
        /// The number of descriptors that it may have.
        limit: u64,
        /// The number that it needs.
        needed: u64,
    },
    /// stdout and stderr cannot be redirected to the log.
    #[error("stdout and stderr cannot be redirected to the log: {0}")]
    Stdio(#[source] io::Error),
    /// Signal handlers cannot be installed.
    #[error("the signal handlers cannot be installed: {0}")]
    Signals(#[source] io::Error),
    /// The system has no threads or descriptors left.
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] io::Error),
}
