//! The handoff from a daemon to its successor, over a Unix stream socket that is the successor's
//! stdin.
//!
//! The successor sends the first message. Another program, which does not, never gets a descriptor,
//! and so cannot keep the lock or a port when the old process dies. After the handoff the successor
//! sends a [`super::StartupReport`].

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stored_secret::StoredSecret;
use crate::auth::FailedAttempts;
use crate::health::Check;
use crate::identity::identity;
use crate::sys::{Process, receive_with_fds, send_with_fds};

/// Version of the protocol. Changes when the two sides would misunderstand each other.
const PROTOCOL: u32 = 1;
/// How many draining processes are passed on. Earlier ones exit at their own deadline.
const MAX_PREDECESSORS: usize = 32;
/// How much of an unknown message is quoted in an error, in bytes.
const MAX_QUOTED_LEN: usize = 100;
/// The maximum length of a message, in bytes.
const MAX_MESSAGE_LEN: usize = 64 * 1024;

/// The first message, from the successor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hello {
    Hello { protocol: u32 },
}

/// Which API a socket serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketRole {
    Public,
    Admin,
}

/// A listening socket of the old process.
#[derive(Debug)]
pub struct InheritedSocket {
    pub role: SocketRole,
    /// The address in the settings, whose port may be 0. `None` for a socket that systemd passed
    /// for this role, wherever it listens.
    pub configured: Option<SocketAddr>,
    /// No other user had a socket at its address when it began to listen, so none can have one now.
    /// Such a program could take over connections.
    pub is_exclusive: bool,
    pub listener: TcpListener,
}

/// The payload that the old process sends over the channel. Flags arrive as arguments, and browser
/// sessions in the state file.
#[derive(Debug)]
pub struct HandoffPayload {
    pub header: HandoffHeader,
    /// The open PID file, which holds the lock.
    pub lock: File,
    /// In the foreground, what the successor uses as stderr once it serves. Before that its stderr is a
    /// pipe to the old process.
    pub stderr: OwnedFd,
    pub sockets: Vec<InheritedSocket>,
    /// The counters of all processes so far, in a file that they share. `None` from an old process
    /// that does not send it.
    pub counters: Option<File>,
    /// Processes that still drain: the old one, unless it stays to supervise, and those before it.
    pub predecessors: Vec<Process>,
}

/// The values of a handoff. The names of the fields are part of the protocol.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandoffHeader {
    /// PID of the old process.
    pub pid: u32,
    /// Generation of the old process.
    pub generation: u32,
    /// The client or the signal that requested the restart.
    pub by: String,
    /// Path of the PID file.
    pub pid_file: PathBuf,
    /// The key with which the command line signs. It stays the same, so that a command that read it
    /// from the state file before the handoff is accepted after it.
    pub instance_key: StoredSecret,
    /// The configured key of tokens; `None` from an old process that does not send it.
    pub configured_key: Option<StoredSecret>,
    /// The previous configured key, and for how many more milliseconds it is valid.
    pub previous_key: Option<(StoredSecret, u64)>,
    /// PID of the first process of `fullon run`, which supervises the successor. `None` when there is
    /// none, and from an old process that does not send it.
    pub supervisor: Option<u32>,
    /// The state of each dependency, with a digest of its settings.
    #[serde(default)]
    pub checks: Vec<(Check, u64)>,
    /// Failed attempts to authenticate in the current minute.
    #[serde(default)]
    pub failed_attempts: Vec<FailedAttempts>,
    /// Whether there is, or was, a file of revoked tokens.
    #[serde(default)]
    pub has_revocations: bool,
}

/// The message that carries the descriptors: the lock, stderr, the sockets, the older processes, and
/// the counters.
#[derive(Serialize, Deserialize)]
struct HandoffMessage {
    #[serde(flatten)]
    header: HandoffHeader,
    sockets: Vec<(SocketRole, Option<SocketAddr>)>,
    /// [`InheritedSocket::is_exclusive`] of each socket; empty from an old process that does not
    /// send it.
    #[serde(default)]
    exclusive: Vec<bool>,
    predecessors: Vec<u32>,
    #[serde(default)]
    has_counters: bool,
}

impl HandoffPayload {
    /// Checks that the line is the first message of a successor.
    ///
    /// # Errors
    ///
    /// It is something else, or of another version of the protocol.
    pub fn check_hello(line: &str) -> Result<(), String> {
        match serde_json::from_str(line) {
            Ok(Hello::Hello { protocol: PROTOCOL }) => Ok(()),
            Ok(Hello::Hello { protocol }) => Err(format!(
                "it uses version {protocol} of the handoff protocol, but this daemon uses version {PROTOCOL}: use `{} restart --hard`",
                identity().command
            )),
            Err(_) => {
                let quoted = &line[..line.floor_char_boundary(MAX_QUOTED_LEN)];
                Err(format!(
                    "it sent {quoted:?} instead of the handoff protocol"
                ))
            }
        }
    }

    /// Sends the payload in one message.
    ///
    /// # Errors
    ///
    /// The other end is closed, or the payload is too large.
    pub fn send(&self, channel: impl AsFd) -> io::Result<()> {
        let predecessors = &self.predecessors[..self.predecessors.len().min(MAX_PREDECESSORS)];
        let message = HandoffMessage {
            header: self.header.clone(),
            sockets: self
                .sockets
                .iter()
                .map(|socket| (socket.role, socket.configured))
                .collect(),
            exclusive: self
                .sockets
                .iter()
                .map(|socket| socket.is_exclusive)
                .collect(),
            predecessors: predecessors.iter().map(Process::pid).collect(),
            has_counters: self.counters.is_some(),
        };
        let mut line = serde_json::to_vec(&message)?;
        line.push(b'\n');
        if line.len() > MAX_MESSAGE_LEN {
            return Err(io::Error::other("the handoff is too large"));
        }
        let mut descriptors = vec![self.lock.as_fd(), self.stderr.as_fd()];
        descriptors.extend(self.sockets.iter().map(|socket| socket.listener.as_fd()));
        descriptors.extend(predecessors.iter().map(Process::pidfd));
        // A new process of an older version ignores the last descriptor.
        descriptors.extend(self.counters.as_ref().map(AsFd::as_fd));
        send_with_fds(channel, &line, &descriptors)
    }

    /// Requests the payload, and waits for it.
    ///
    /// # Errors
    ///
    /// The other end is closed, or is not a daemon of this program.
    pub fn receive(mut channel: &UnixStream) -> io::Result<Self> {
        let mut hello = serde_json::to_vec(&Hello::Hello { protocol: PROTOCOL })?;
        hello.push(b'\n');
        channel.write_all(&hello)?;
        let (line, descriptors) = receive_line(channel)?;
        let message = serde_json::from_slice(&line).map_err(|error| invalid(&error.to_string()))?;
        Self::from_message(message, descriptors)
    }

    fn from_message(message: HandoffMessage, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || {
            descriptors
                .next()
                .ok_or_else(|| invalid("a file descriptor is missing"))
        };
        let (lock, stderr) = (next()?.into(), next()?);
        let mut sockets = Vec::new();
        for (index, (role, configured)) in message.sockets.into_iter().enumerate() {
            sockets.push(InheritedSocket {
                role,
                configured,
                is_exclusive: message.exclusive.get(index) == Some(&true),
                listener: next()?.into(),
            });
        }
        let mut predecessors = Vec::new();
        for pid in message.predecessors {
            predecessors.push(Process::from_pidfd(pid, next()?));
        }
        let counters = message.has_counters.then(next).transpose()?;
        Ok(Self {
            header: message.header,
            lock,
            stderr,
            sockets,
            counters: counters.map(File::from),
            predecessors,
        })
    }
}

/// Receives a line, and the descriptors that came with it.
fn receive_line(mut channel: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut line = vec![0; MAX_MESSAGE_LEN];
    let (len, descriptors) = receive_with_fds(channel, &mut line)?;
    line.truncate(len);
    while line.last().is_some_and(|byte| *byte != b'\n') && line.len() < MAX_MESSAGE_LEN {
        let mut byte = [0];
        channel.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok((line, descriptors))
}

fn invalid(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;

    use super::*;
    use crate::config::Secret;
    use crate::sys::is_same_file;

    fn stored(text: &str) -> StoredSecret {
        StoredSecret::new(Secret::new(text.to_owned()))
    }

    fn header() -> HandoffHeader {
        HandoffHeader {
            pid: std::process::id(),
            generation: 7,
            by: "me".into(),
            pid_file: "/a/pid".into(),
            instance_key: stored("k"),
            configured_key: Some(stored("c")),
            previous_key: Some((stored("p"), 5)),
            supervisor: Some(1),
            checks: Vec::new(),
            has_revocations: true,
            failed_attempts: vec![FailedAttempts {
                client: Some([127, 0, 0, 1].into()),
                age_ms: 7,
                count: 3,
            }],
        }
    }

    #[test]
    fn payload_round_trips_with_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = tempfile::tempfile().unwrap();
        let own_file = file.metadata().unwrap();
        let sent = HandoffPayload {
            header: header(),
            lock: file.try_clone().unwrap(),
            stderr: file.try_clone().unwrap().into(),
            sockets: vec![InheritedSocket {
                role: SocketRole::Admin,
                configured: Some("127.0.0.1:0".parse().unwrap()),
                is_exclusive: true,
                listener,
            }],
            counters: Some(file.try_clone().unwrap()),
            predecessors: vec![Process::open(std::process::id()).unwrap()],
        };
        let sender = std::thread::spawn(move || {
            let mut line = String::new();
            io::BufReader::new(&ours).read_line(&mut line).unwrap();
            HandoffPayload::check_hello(&line).unwrap();
            sent.send(&ours).unwrap();
        });
        let received = HandoffPayload::receive(&theirs).unwrap();
        sender.join().unwrap();
        let header = received.header;
        assert_eq!((header.generation, header.by.as_str()), (7, "me"));
        let (previous, valid_for) = header.previous_key.unwrap();
        assert_eq!((previous.to_secret().expose(), valid_for), ("p", 5));
        assert_eq!(received.sockets[0].listener.local_addr().unwrap(), address);
        assert!(received.sockets[0].is_exclusive);
        assert_eq!(received.predecessors[0].pid(), std::process::id());
        assert!(!received.predecessors[0].has_exited());
        assert_eq!(header.failed_attempts[0].count, 3);
        assert!(header.has_revocations);
        let counters = received.counters.unwrap();
        assert!(is_same_file(&counters.metadata().unwrap(), &own_file));
    }

    #[test]
    fn message_of_version_1_0_0_is_accepted() {
        let message = HandoffMessage {
            header: header(),
            sockets: Vec::new(),
            exclusive: Vec::new(),
            predecessors: Vec::new(),
            has_counters: true,
        };
        let mut message = serde_json::to_value(message).unwrap();
        let fields = message.as_object_mut().unwrap();
        for new in ["has_counters", "failed_attempts", "has_revocations"] {
            fields.remove(new).unwrap();
        }
        let message = serde_json::from_value(message).unwrap();
        let file = || tempfile::tempfile().unwrap().into();
        let payload = HandoffPayload::from_message(message, vec![file(), file()]).unwrap();
        assert!(payload.counters.is_none() && payload.header.failed_attempts.is_empty());
    }

    #[test]
    fn unknown_hello_is_rejected() {
        assert!(HandoffPayload::check_hello(r#"{"hello":{"protocol":1}}"#).is_ok());
        let other = HandoffPayload::check_hello(r#"{"hello":{"protocol":2}}"#);
        assert!(other.unwrap_err().contains("version 2"));
        assert!(HandoffPayload::check_hello("Welcome!").is_err());
        let long = format!("x{}", "\u{e9}".repeat(10_000));
        assert!(HandoffPayload::check_hello(&long).unwrap_err().len() < 2 * MAX_QUOTED_LEN);
    }
}
