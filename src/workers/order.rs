//! The messages between daemon, guard and worker stage.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::mark::Mark;
use crate::sys::{SoftLimits, receive_with_fds, send_with_fds};

/// A longer order, in bytes, is a mistake.
const MAX_ORDER_LEN: u64 = 64 * 1024 * 1024;

/// How to run a worker. The daemon sends it to the guard, and the guard to the worker stage.
///
/// With it come descriptors: the pipe for the output (to the guard only), then the listening socket,
/// if the worker inherits one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub mark: Mark,
    pub words: Vec<OsString>,
    pub directory: OsString,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether variables announce the inherited socket (`sd_listen_fds(3)`).
    pub announces_socket: bool,
    pub limits: SoftLimits,
    /// The socket file. The guard removes it at the end, in case the daemon has died.
    pub socket: Option<OsString>,
}

impl Order {
    /// Sends the order. The first bytes carry the descriptors, and the length of the rest.
    pub fn send(&self, channel: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        send_with_fds(channel, &(text.len() as u64).to_be_bytes(), descriptors)?;
        let mut channel = channel;
        channel.write_all(&text)
    }

    /// Receives an order.
    pub fn receive(channel: &UnixStream) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut length = [0; 8];
        let (received, descriptors) = receive_with_fds(channel.as_fd(), &mut length)?;
        let mut channel = channel;
        channel.read_exact(&mut length[received..])?;
        let length = u64::from_be_bytes(length);
        if length > MAX_ORDER_LEN {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = Vec::new();
        channel.take(length).read_to_end(&mut text)?;
        Ok((serde_json::from_slice(&text)?, descriptors))
    }
}

/// A message of the daemon to a guard, one line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// SIGTERM to the process group of the worker, SIGKILL to everything below the guard after the
    /// timeout.
    Terminate { timeout: Duration },
    /// SIGKILL to everything below the guard.
    Kill,
}

/// A message of a guard to the daemon, one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The program runs.
    Started { pid: u32 },
    /// The program cannot be run.
    Failed { reason: String },
    /// The program has exited. The guard ends its descendants now, and exits.
    Exited(WorkerExit),
}

/// How a worker exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerExit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "was killed by {}", signal.as_str()),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::sys::original_limits;

    #[test]
    fn order_with_descriptors_and_any_bytes_is_received() {
        let (sender, receiver) = UnixStream::pair().unwrap();
        let odd = OsString::from_vec(vec![b'a', 0xff, b'\n']);
        let order = Order {
            mark: Mark::new("hash"),
            words: vec!["program".into(), odd.clone()],
            directory: odd.clone(),
            // More than the buffer of a socket.
            environment: vec![("A".into(), "x".repeat(500_000).into()), ("B".into(), odd)],
            announces_socket: true,
            limits: original_limits(),
            socket: Some("/tmp/socket".into()),
        };
        let (received, descriptors) = std::thread::scope(|scope| {
            let received = scope.spawn(|| Order::receive(&receiver).unwrap());
            order
                .send(&sender, &[sender.as_fd(), sender.as_fd()])
                .unwrap();
            received.join().unwrap()
        });
        assert_eq!(format!("{received:?}"), format!("{order:?}"));
        assert_eq!(descriptors.len(), 2);
        drop((sender, descriptors));
        assert!(Order::receive(&receiver).is_err());
    }

    #[test]
    fn messages_are_one_line() {
        let timeout = Duration::from_millis(1500);
        for command in [Command::Terminate { timeout }, Command::Kill] {
            let text = serde_json::to_string(&command).unwrap();
            assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
        }
        let reason = "a\nb".to_owned();
        for report in [
            Report::Failed { reason },
            Report::Exited(WorkerExit::Code(1)),
        ] {
            let text = serde_json::to_string(&report).unwrap();
            assert!(!text.contains('\n'), "{text}");
            assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        }
    }

    #[test]
    fn exit_is_described() {
        assert_eq!(WorkerExit::Code(3).to_string(), "exited with code 3");
        assert_eq!(WorkerExit::Signal(9).to_string(), "was killed by SIGKILL");
        assert_eq!(
            WorkerExit::Signal(40).to_string(),
            "was killed by signal 40"
        );
    }
}
