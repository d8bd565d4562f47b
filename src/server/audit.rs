//! Who asked for a change, and whether it was allowed: one event for each, and another if what was accepted failed.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use poem::http::StatusCode;

use crate::auth::Claims;

/// The change that a request asks for, if it asks for one.
pub fn audited_action(method: &Method, path: &str) -> Option<&'static str> {
    match (method.as_str(), path) {
        ("POST", "/admin/stop") => Some("stop"),
        ("POST", "/admin/restart") => Some("restart"),
        ("POST", "/admin/reload") => Some("reload"),
        ("PUT", "/admin/log-level") => Some("log_level"),
        ("POST", "/admin/session") => Some("sign_in"),
        ("POST", "/admin/session/token") => Some("sign_in_token"),
        ("DELETE", "/admin/session") => Some("sign_out"),
        _ => None,
    }
}

/// A change that is asked for. A datum of its request.
#[derive(Debug)]
pub struct AuditRecord {
    action: &'static str,
    peer: SocketAddr,
    request_id: String,
    caller: OnceLock<Claims>,
    is_recorded: AtomicBool,
}

/// What else there is to say of a change.
#[derive(Default)]
struct Details<'a> {
    timeout: Option<Duration>,
    session: Option<uuid::Uuid>,
    level: Option<&'a str>,
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

    /// Notes who asks, once that is proven.
    pub fn set_caller(&self, caller: &Claims) {
        let _ = self.caller.set(caller.clone());
    }

    /// It is carried out, in this time if it may take one.
    pub fn accepted(&self, timeout: Option<Duration>) {
        self.log_accepted(&Details {
            timeout,
            ..Details::default()
        });
    }

    /// A session begins or ends.
    pub fn session_accepted(&self, session: uuid::Uuid) {
        self.log_accepted(&Details {
            session: Some(session),
            ..Details::default()
        });
    }

    /// This is logged from now on, for so long if not for good.
    pub fn level_accepted(&self, level: &str, time: Option<Duration>) {
        self.log_accepted(&Details {
            level: Some(level),
            timeout: time,
            ..Details::default()
        });
    }

    fn log_accepted(&self, details: &Details<'_>) {
        self.is_recorded.store(true, Ordering::Relaxed);
        let caller = self.caller.get();
        tracing::info!(
            target: "audit",
            action = self.action,
            outcome = "accepted",
            subject = caller.map(|caller| &*caller.subject),
            token_id = caller.and_then(|caller| caller.token_id.as_deref()),
            session_id = details.session.map(tracing::field::display),
            peer = %self.peer,
            request_id = self.request_id,
            level = details.level,
            timeout_ms = details.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        );
    }

    /// The answer: that it is refused, or that what was accepted has failed.
    pub fn responded(&self, status: StatusCode, reason: &str) {
        match self.is_recorded.swap(true, Ordering::Relaxed) {
            false => self.log_failure("refused", status.as_u16(), reason),
            true if status.is_success() => {}
            true => self.log_failure("failed", status.as_u16(), reason),
        }
    }

    /// There is no answer. What was accepted goes on without.
    pub fn aborted(&self, status: u16, reason: &str) {
        if !self.is_recorded.swap(true, Ordering::Relaxed) {
            self.log_failure("refused", status, reason);
        }
    }

    fn log_failure(&self, outcome: &str, status: u16, reason: &str) {
        let caller = self.caller.get();
        tracing::warn!(
            target: "audit",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::admin_document;

    #[test]
    fn every_unsafe_operation_is_audited() {
        let document = admin_document();
        let paths = document["paths"].as_object().unwrap();
        for (path, item) in paths {
            for method in item.as_object().unwrap().keys() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let is_change = !method.is_safe();
                assert_eq!(
                    audited_action(&method, path).is_some(),
                    is_change,
                    "{method} {path}"
                );
            }
        }
    }
}
