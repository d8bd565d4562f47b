//! What a daemon leaves to its successor, and how: over a Unix stream socket that is the successor's stdin, with the
//! descriptors as `SCM_RIGHTS` (`unix(7)`).
//!
//! The successor asks first. A program that never asks, whatever it is, never holds a descriptor, and so cannot keep the
//! lock or a port when its predecessor dies. What the successor says then is an [`super::StartupReport`].

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::state_file::StoredKey;
use crate::api::Check;

/// Changes when the two sides would misunderstand each other.
const PROTOCOL: u32 = 1;
/// Descriptors in one message; the kernel allows 253.
const MAX_DESCRIPTORS: usize = 64;
/// Predecessors that still drain and are handed on. Earlier ones end by their own deadline.
const MAX_PREDECESSORS: usize = 32;
/// How much of what somebody else says is shown, in bytes.
const MAX_QUOTED_LEN: usize = 100;
/// Length of a message, in bytes.
const MAX_MESSAGE_LEN: usize = 64 * 1024;

/// What the successor says first.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HandoffRequest {
    Hello { protocol: u32 },
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketRole {
    /// The public API.
    Public,
    /// The admin API.
    Admin,
}

/// A listening socket of the predecessor.
#[derive(Debug)]
pub struct InheritedSocket {
    /// What it was for.
    pub role: SocketRole,
    /// The address in the settings, whose port may be 0; `None` for one that systemd passed for this role, wherever it is.
    pub configured: Option<SocketAddr>,
    /// The socket.
    pub listener: TcpListener,
}

/// All that a successor gets.
#[derive(Debug)]
pub struct HandoffPayload {
    /// Who leaves it.
    pub pid: u32,
    /// Its generation.
    pub generation: u32,
    /// Who asked for the restart.
    pub by: String,
    /// The PID file.
    pub pid_file: PathBuf,
    /// Its open file, which holds the lock.
    pub lock: File,
    /// Secret with which verbs sign: one that read the state file before the handover must be understood after it.
    pub instance_key: StoredKey,
    /// Secret with which tokens are signed; `None` from a daemon that did not tell.
    pub configured_key: Option<StoredKey>,
    /// The one before, and how many milliseconds it still counts.
    pub previous_key: Option<(StoredKey, u64)>,
    /// What is known of the services that it depends on, each with a digest of its settings.
    pub checks: Vec<(Check, u64)>,
    /// Where errors go until there is a log.
    pub stderr: OwnedFd,
    /// The listening sockets.
    pub sockets: Vec<InheritedSocket>,
    /// The predecessor, and those of its own that still drain.
    pub predecessors: Vec<Process>,
}

/// The part of it that is text.
#[derive(Serialize, Deserialize)]
struct HandoffHeader {
    pid: u32,
    generation: u32,
    by: String,
    pid_file: PathBuf,
    instance_key: StoredKey,
    configured_key: Option<StoredKey>,
    previous_key: Option<(StoredKey, u64)>,
    #[serde(default)]
    checks: Vec<(Check, u64)>,
    sockets: Vec<(SocketRole, Option<SocketAddr>)>,
    predecessors: Vec<u32>,
}

impl HandoffPayload {
    /// Whether the line is that of a successor that wants it.
    ///
    /// # Errors
    ///
    /// What else it is.
    pub fn check_hello(line: &str) -> Result<(), String> {
        match serde_json::from_str(line) {
            Ok(HandoffRequest::Hello { protocol: PROTOCOL }) => Ok(()),
            Ok(HandoffRequest::Hello { protocol }) => Err(format!(
                "it speaks version {protocol} of the handover and this daemon version {PROTOCOL}: use `fullon restart --hard`"
            )),
            Err(_) => {
                let shown = &line[..line.floor_char_boundary(MAX_QUOTED_LEN)];
                Err(format!("it said {shown:?}"))
            }
        }
    }

    /// Sends it, in one message.
    ///
    /// # Errors
    ///
    /// The other end is gone.
    pub fn send(&self, channel: impl AsFd) -> io::Result<()> {
        let predecessors = &self.predecessors[..self.predecessors.len().min(MAX_PREDECESSORS)];
        let text = HandoffHeader {
            pid: self.pid,
            generation: self.generation,
            by: self.by.clone(),
            pid_file: self.pid_file.clone(),
            instance_key: self.instance_key.clone(),
            configured_key: self.configured_key.clone(),
            previous_key: self.previous_key.clone(),
            checks: self.checks.clone(),
            sockets: self
                .sockets
                .iter()
                .map(|socket| (socket.role, socket.configured))
                .collect(),
            predecessors: predecessors.iter().map(Process::pid).collect(),
        };
        let mut line = serde_json::to_vec(&text)?;
        line.push(b'\n');
        let mut descriptors = vec![self.lock.as_fd(), self.stderr.as_fd()];
        descriptors.extend(self.sockets.iter().map(|socket| socket.listener.as_fd()));
        descriptors.extend(predecessors.iter().map(Process::pidfd));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if line.len() > MAX_MESSAGE_LEN
            || !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors))
        {
            return Err(io::Error::other("there is too much to hand over"));
        }
        let sent = sendmsg(
            channel,
            &[IoSlice::new(&line)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        if sent < line.len() {
            return Err(io::Error::other("it could not be sent in one piece"));
        }
        Ok(())
    }

    /// Asks for it, and waits until it comes.
    ///
    /// # Errors
    ///
    /// The other end is gone, or no daemon of ours.
    pub fn receive(mut channel: &UnixStream) -> io::Result<Self> {
        let mut hello = serde_json::to_vec(&HandoffRequest::Hello { protocol: PROTOCOL })?;
        hello.push(b'\n');
        channel.write_all(&hello)?;

        let mut line = vec![0; MAX_MESSAGE_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            channel,
            &mut [IoSliceMut::new(&mut line)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        line.truncate(received.bytes);
        while line.last().is_some_and(|byte| *byte != b'\n') && line.len() < MAX_MESSAGE_LEN {
            let mut byte = [0];
            channel.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let broken = |detail: &str| io::Error::new(io::ErrorKind::InvalidData, detail.to_owned());
        let text: HandoffHeader =
            serde_json::from_slice(&line).map_err(|error| broken(&error.to_string()))?;
        let mut descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten();
        let mut next = || {
            descriptors
                .next()
                .ok_or_else(|| broken("a descriptor is missing"))
        };
        let (lock, stderr) = (next()?.into(), next()?);
        let mut sockets = Vec::new();
        for (role, configured) in text.sockets {
            let listener = next()?.into();
            sockets.push(InheritedSocket {
                role,
                configured,
                listener,
            });
        }
        let mut predecessors = Vec::new();
        for pid in text.predecessors {
            predecessors.push(Process::from_pidfd(pid, next()?));
        }
        Ok(Self {
            pid: text.pid,
            generation: text.generation,
            by: text.by,
            pid_file: text.pid_file,
            lock,
            instance_key: text.instance_key,
            configured_key: text.configured_key,
            previous_key: text.previous_key,
            checks: text.checks,
            stderr,
            sockets,
            predecessors,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;

    use super::*;

    #[test]
    fn payload_round_trips_with_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = tempfile::tempfile().unwrap();
        let sent = HandoffPayload {
            pid: std::process::id(),
            generation: 7,
            by: "me".into(),
            pid_file: "/a/pid".into(),
            lock: file.try_clone().unwrap(),
            instance_key: StoredKey::new("k"),
            configured_key: Some(StoredKey::new("c")),
            previous_key: Some((StoredKey::new("p"), 5)),
            checks: Vec::new(),
            stderr: file.try_clone().unwrap().into(),
            sockets: vec![InheritedSocket {
                role: SocketRole::Admin,
                configured: Some("127.0.0.1:0".parse().unwrap()),
                listener,
            }],
            predecessors: vec![Process::open(std::process::id()).unwrap()],
        };
        let giver = std::thread::spawn(move || {
            let mut line = String::new();
            io::BufReader::new(&ours).read_line(&mut line).unwrap();
            HandoffPayload::check_hello(&line).unwrap();
            sent.send(&ours).unwrap();
        });
        let received = HandoffPayload::receive(&theirs).unwrap();
        giver.join().unwrap();
        assert_eq!((received.generation, received.by.as_str()), (7, "me"));
        let (previous, counts_for) = received.previous_key.unwrap();
        assert_eq!((previous.to_secret().expose(), counts_for), ("p", 5));
        assert_eq!(received.sockets[0].listener.local_addr().unwrap(), address);
        assert_eq!(received.predecessors[0].pid(), std::process::id());
        assert!(!received.predecessors[0].has_exited());
    }

    #[test]
    fn unknown_hello_is_rejected() {
        assert!(HandoffPayload::check_hello(r#"{"hello":{"protocol":1}}"#).is_ok());
        let other = HandoffPayload::check_hello(r#"{"hello":{"protocol":2}}"#);
        assert!(other.unwrap_err().contains("version 2"));
        assert!(HandoffPayload::check_hello("Welcome!").is_err());
        let said = format!("x{}", "\u{e9}".repeat(10_000));
        assert!(HandoffPayload::check_hello(&said).unwrap_err().len() < 2 * MAX_QUOTED_LEN);
    }
}
