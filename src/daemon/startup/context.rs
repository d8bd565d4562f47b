//! The beginning of a start-up: a fresh PID file and sockets, or those of the old process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::last_exit;
use super::sockets::PassedSocket;
use crate::api::LastExit;
use crate::auth::{
    ConfiguredKeys, KeyError, PreviousKey, Revocations, StoredSessions, generate_key,
};
use crate::config::{Secret, Settings};
use crate::daemon::error::StartError;
use crate::daemon::supervise::systemd;
use crate::daemon::upgrade::{ParentLink, ReceivedHandoff};
use crate::instance::{HandoffHeader, HandoffPayload, PidFile, StateFile, StoredSecret};
use crate::sys::{Process, SocketId};

/// The PID file and sockets that a start-up begins with.
pub struct StartContext {
    pub pid_file: PidFile,
    pub passed_sockets: Vec<PassedSocket>,
    pub last_exit: Option<LastExit>,
    /// 1, and one more at each zero-downtime restart.
    pub generation: u32,
    /// The process to replace, in a zero-downtime restart.
    pub old_process: Option<OldProcess>,
}

/// The process to replace.
pub struct OldProcess {
    pub link: ParentLink,
    pub handoff: HandoffHeader,
    /// The stderr of the old process.
    pub stderr: OwnedFd,
    /// The counters of all processes so far, in a file that they share.
    pub counters: Option<File>,
    /// The old process, and those that it replaced and that still drain.
    pub predecessors: Vec<Process>,
    /// The first process of `fullon run`, if it supervises this one.
    pub supervisor: Option<Process>,
}

impl StartContext {
    /// Acquires the PID file and takes the sockets that systemd passed.
    pub fn fresh(settings: &Settings) -> Result<Self, StartError> {
        let pid_file = PidFile::acquire(&settings.pid_file)?;
        let sockets = systemd::passed_sockets().map_err(StartError::Socket)?;
        Ok(Self {
            last_exit: last_exit::from_state_file(&settings.pid_file),
            pid_file,
            passed_sockets: sockets
                .into_iter()
                .map(|(name, listener)| PassedSocket::from_systemd(&name, listener))
                .collect(),
            generation: 1,
            old_process: None,
        })
    }

    /// Takes the lock and the sockets from the handoff.
    pub fn inherited(handoff: ReceivedHandoff, settings: &Settings) -> Result<Self, StartError> {
        let HandoffPayload {
            header,
            lock,
            stderr,
            sockets,
            counters,
            predecessors,
        } = handoff.payload;
        Ok(Self {
            last_exit: Some(last_exit::from_handoff(&header, settings)),
            pid_file: PidFile::inherit(&settings.pid_file, &header.pid_file, lock)?,
            passed_sockets: sockets.into_iter().map(PassedSocket::from).collect(),
            generation: header.generation + 1,
            old_process: Some(OldProcess {
                supervisor: header.supervisor.and_then(open_ancestor),
                link: handoff.parent_link,
                handoff: header,
                stderr,
                counters,
                predecessors,
            }),
        })
    }

    /// The key of tokens, and for the grace period the previous one.
    pub fn token_keys(&self, settings: &Settings) -> Result<Arc<ConfiguredKeys>, KeyError> {
        let path = Revocations::path(&settings.key_file);
        let revocations = Revocations::new(Some(path)).expecting(self.had_revocations(settings));
        let (key, key_file) = if let Some(secret) = &settings.jwt_secret {
            revocations.check_key(secret)?;
            (secret.clone(), None)
        } else {
            let key = revocations.read_or_create_key_file(&settings.key_file)?;
            (key, Some(settings.key_file.clone()))
        };
        let previous = self
            .old_process
            .as_ref()
            .and_then(|old| previous_key(&old.handoff, &key, settings.key_grace));
        let keys = ConfiguredKeys::new(&key, previous).with_revocations(revocations);
        keys.set_key_file(key_file);
        Ok(Arc::new(keys))
    }

    /// Whether the process before knew of a file of revoked tokens. The old process says so, or the
    /// state file of one that has exited.
    fn had_revocations(&self, settings: &Settings) -> bool {
        let of_old = self.old_process.as_ref();
        of_old.is_some_and(|old| old.handoff.has_revocations)
            || StateFile::read_own(self.pid_file.path())
                .is_ok_and(|state| state.knows_revocations_of(&settings.key_file))
    }

    /// The key with which the command line signs. It stays the same at a restart, so that a command
    /// that read it from the state file before is still accepted.
    pub fn instance_key(&self) -> Result<StoredSecret, KeyError> {
        match &self.old_process {
            Some(old) => Ok(old.handoff.instance_key.clone()),
            None => generate_key().map(StoredSecret::new),
        }
    }

    /// The browser sessions of the process before, however it exited. Unless the admin API still
    /// listens on the same socket, which the old process or systemd has passed, only their tickets
    /// are left.
    pub fn sessions(&self, admin_socket: &SocketId) -> StoredSessions {
        let Ok(state) = StateFile::read_own(self.pid_file.path()) else {
            return StoredSessions::default();
        };
        let passed = state.admin_socket.as_ref();
        if passed.is_some_and(|passed| passed.is_same(admin_socket)) {
            state.sessions
        } else {
            state.sessions.without_session_values()
        }
    }
}

/// The process, unless its PID is that of another process by now. Then the old process has noticed
/// its exit, too.
fn open_ancestor(pid: u32) -> Option<Process> {
    let this_process = Process::open(std::process::id())?;
    Process::open(pid).filter(|process| this_process.descends_from(process))
}

/// The key that is valid beside `key` for a while: the old process's key if that was another one,
/// or else the one before it.
fn previous_key(handoff: &HandoffHeader, key: &Secret, grace: Duration) -> Option<PreviousKey> {
    let configured = handoff.configured_key.as_ref()?.to_secret();
    if configured.expose() != key.expose() {
        return Some(PreviousKey {
            secret: configured,
            valid_for: grace,
        });
    }
    let (previous, valid_for) = handoff.previous_key.as_ref()?;
    Some(PreviousKey {
        secret: previous.to_secret(),
        valid_for: Duration::from_millis(*valid_for).min(grace),
    })
}
