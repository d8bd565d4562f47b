//! The audit trail: one event for each requested change, accepted or refused, and another if an
//! accepted change fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use poem::http::StatusCode;

use crate::auth::Claims;
use crate::logs::AUDIT_TARGET;

/// The audit action of each operation that changes something.
#[derive(Debug, Default)]
pub struct AuditedActions(HashMap<String, Vec<(Method, &'static str)>>);

impl AuditedActions {
    /// The action of a request.
    pub fn get(&self, method: &Method, path: &str) -> Option<&'static str> {
        let mut actions = self.0.get(path)?.iter();
        actions.find_map(|(each, action)| (each == method).then_some(*action))
    }
}

impl FromIterator<(String, Method, &'static str)> for AuditedActions {
    fn from_iter<I: IntoIterator<Item = (String, Method, &'static str)>>(actions: I) -> Self {
        let mut by_path = HashMap::<_, Vec<_>>::new();
        for (path, method, action) in actions {
            by_path.entry(path).or_default().push((method, action));
        }
        Self(by_path)
    }
}

/// A requested change. It is attached to its request and logs what becomes of it.
#[derive(Debug)]
pub struct AuditRecord {
    action: &'static str,
    peer: SocketAddr,
    request_id: String,
    caller: OnceLock<Claims>,
    is_recorded: AtomicBool,
}

impl AuditRecord {
    pub fn new(action: &'static str, peer: SocketAddr, request_id: &str) -> Self {
        Self {
            action,
            peer,
            request_id: request_id.to_owned(),
            caller: OnceLock::new(),
            is_recorded: AtomicBool::new(false),
        }
    }

    /// Names the caller, once authenticated.
    pub fn set_caller(&self, caller: &Claims) {
        let _ = self.caller.set(caller.clone());
    }

    /// Logs that the change is carried out, and its timeout if it has one.
    pub fn accepted(&self, timeout: Option<Duration>) {
        self.log_accepted(timeout, None, None);
    }

    /// Logs that a session is created or deleted.
    pub fn session_accepted(&self, session: uuid::Uuid) {
        self.log_accepted(None, Some(session), None);
    }

    /// Logs that the log level is changed, and for how long unless it is permanent.
    pub fn level_accepted(&self, level: &str, duration: Option<Duration>) {
        self.log_accepted(duration, None, Some(level));
    }

    fn log_accepted(
        &self,
        timeout: Option<Duration>,
        session: Option<uuid::Uuid>,
        level: Option<&str>,
    ) {
        self.is_recorded.store(true, Ordering::Relaxed);
        let caller = self.caller.get();
        tracing::info!(
            target: AUDIT_TARGET,
            action = self.action,
            outcome = "accepted",
            subject = caller.map(|caller| &*caller.subject),
            token_id = caller.and_then(|caller| caller.token_id.as_deref()),
            session_id = session.map(tracing::field::display),
            peer = %self.peer,
            request_id = self.request_id,
            level,
            timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        );
    }

    /// Logs an error response: the change was refused, or it was accepted and failed.
    pub fn responded(&self, status: StatusCode, reason: &str) {
        match self.is_recorded.swap(true, Ordering::Relaxed) {
            false => self.log_failure("refused", status.as_u16(), reason),
            true if status.is_success() => {}
            true => self.log_failure("failed", status.as_u16(), reason),
        }
    }

    /// Logs that there was no response, unless the change was accepted: then it continues without
    /// the client.
    pub fn aborted(&self, status: u16, reason: &str) {
        if !self.is_recorded.swap(true, Ordering::Relaxed) {
            self.log_failure("refused", status, reason);
        }
    }

    fn log_failure(&self, outcome: &str, status: u16, reason: &str) {
        let caller = self.caller.get();
        tracing::warn!(
            target: AUDIT_TARGET,
            action = self.action,
            outcome,
            subject = caller.map(|caller| &*caller.subject),
            token_id = caller.and_then(|caller| caller.token_id.as_deref()),
            peer = %self.peer,
            request_id = self.request_id,
            status,
            reason,
        );
    }
}
