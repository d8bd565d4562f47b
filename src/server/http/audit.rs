//! The audit events of requests: one for each requested change, accepted or refused, and another if
//! an accepted change fails.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderValue;
use poem::http::StatusCode;
use uuid::Uuid;

use crate::audit::{AuditTrail, Event, Outcome};
use crate::auth::{Claims, without_tokens};
use crate::config::AppCommand;
use crate::server::path_template;

/// The audit action of each operation that changes something.
#[derive(Debug, Default)]
pub struct AuditedActions(HashMap<String, Vec<(Method, &'static str)>>);

impl AuditedActions {
    /// The action of a request.
    pub fn get(&self, method: &Method, path: &str) -> Option<&'static str> {
        let template = || self.0.keys().find(|it| path_template::matches(it, path));
        let actions = self.0.get(path).or_else(|| self.0.get(template()?));
        let mut actions = actions?.iter();
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

/// A requested change. It is attached to its request and records what becomes of it.
#[derive(Debug)]
pub struct AuditRecord {
    trail: Arc<AuditTrail>,
    action: &'static str,
    peer: SocketAddr,
    client: Option<IpAddr>,
    request_id: String,
    client_request_id: Option<String>,
    caller: OnceLock<Claims>,
    is_recorded: AtomicBool,
}

impl AuditRecord {
    pub fn new(
        trail: Arc<AuditTrail>,
        action: &'static str,
        (peer, client): (SocketAddr, Option<IpAddr>),
        request_id: &HeaderValue,
        client_request_id: Option<&HeaderValue>,
    ) -> Self {
        let text = |id: &HeaderValue| id.to_str().unwrap_or_default().to_owned();
        Self {
            trail,
            action,
            peer,
            client,
            request_id: text(request_id),
            client_request_id: client_request_id.map(text),
            caller: OnceLock::new(),
            is_recorded: AtomicBool::new(false),
        }
    }

    /// Names the caller, once authenticated.
    pub fn set_caller(&self, caller: &Claims) {
        let _ = self.caller.set(caller.clone());
    }

    /// Records that the change is carried out, and its timeout if it has one.
    pub fn accepted(&self, timeout: Option<Duration>) {
        self.record_accepted(timeout, |_| ());
    }

    /// Records that the daemon is restarted, and the command of its application if that is another
    /// one.
    pub fn restart_accepted(&self, timeout: Option<Duration>, app_command: Option<&AppCommand>) {
        self.record_accepted(timeout, |event| {
            if let Some(command) = app_command {
                let command = command.to_string();
                let command = without_tokens(&command);
                event.detail.insert("command".into(), command.into());
            }
        });
    }

    /// Records that the caller signs in: it has this session from now on.
    pub fn sign_in_accepted(&self, session: Uuid) {
        self.record_accepted(None, |event| event.session_id = Some(session.to_string()));
    }

    /// Records that a session is ended. The caller may have another one.
    pub fn end_session_accepted(&self, session: Uuid) {
        self.record_accepted(None, |event| {
            let id = session.to_string();
            event.detail.insert("ended_session_id".into(), id.into());
        });
    }

    /// Records that the log level is changed, and for how long unless it is permanent.
    pub fn level_accepted(&self, level: &str, duration: Option<Duration>) {
        self.record_accepted(duration, |event| {
            let level = without_tokens(level);
            event.detail.insert("level".into(), level.into());
        });
    }

    /// Records that tokens are revoked: `all`, or the name of one. A repeated attempt is recorded
    /// once.
    pub fn revocation_accepted(&self, revoked: &str) {
        if self.is_recorded.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut event = self.event(Outcome::Accepted);
        event.detail.insert("revoked".into(), revoked.into());
        self.trail.record(&event);
    }

    fn record_accepted(&self, timeout: Option<Duration>, describe: impl FnOnce(&mut Event)) {
        self.is_recorded.store(true, Ordering::Relaxed);
        let mut event = self.event(Outcome::Accepted);
        describe(&mut event);
        if let Some(timeout) = timeout {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            event.detail.insert("timeout_ms".into(), millis.into());
        }
        self.trail.record(&event);
    }

    /// Records an error response: the change was refused, or it was accepted and failed.
    pub fn responded(&self, status: StatusCode, reason: &str) {
        match self.is_recorded.swap(true, Ordering::Relaxed) {
            false => self.record_failure(Outcome::Refused, status.as_u16(), reason),
            true if status.is_success() => {}
            true => self.record_failure(Outcome::Failed, status.as_u16(), reason),
        }
    }

    /// Records that there was no response, unless the change was accepted: then it continues
    /// without the client.
    pub fn aborted(&self, status: u16, reason: &str) {
        if !self.is_recorded.swap(true, Ordering::Relaxed) {
            self.record_failure(Outcome::Refused, status, reason);
        }
    }

    fn record_failure(&self, outcome: Outcome, status: u16, reason: &str) {
        let mut event = self.event(outcome);
        event.status = Some(status);
        event.reason = Some(without_tokens(reason).into_owned());
        if self.caller.get().is_some() {
            self.trail.record(&event);
        } else {
            self.trail.record_unauthenticated(&event);
        }
    }

    fn event(&self, outcome: Outcome) -> Event {
        let caller = self.caller.get();
        Event {
            subject: caller.map(|caller| caller.subject.clone()),
            token_id: caller.and_then(|caller| caller.token_id.clone()),
            session_id: caller.and_then(|caller| caller.session_id.map(|id| id.to_string())),
            peer: Some(self.peer.to_string()),
            client: self.client.map(|client| client.to_string()),
            request_id: Some(self.request_id.clone()),
            client_request_id: self.client_request_id.clone(),
            ..Event::new(self.action, outcome)
        }
    }
}
