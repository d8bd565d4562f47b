//! The audit trail of this process: records each event, and logs it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use super::event::{Event, Outcome};
use super::file::AuditFile;
use super::record::Head;
use super::summary::Summary;
use crate::logs::AUDIT_TARGET;
use crate::sys::blocking;

/// How many events are kept while the file cannot be written.
const MAX_PENDING: usize = 1000;
/// How many events are written at once.
const BATCH: usize = 50;
/// How often a failed write is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The event that stands for events that were not kept.
pub(super) const GAP: &str = "gap";

/// Records events. Every event is logged, too.
#[derive(Debug)]
pub struct AuditTrail {
    instance: String,
    /// `None` if there is no audit file.
    file: Option<AuditFile>,
    state: Mutex<State>,
    summary: Mutex<Option<Summary>>,
    /// There is something to write later.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    /// The last record that this process wrote or found.
    head: Head,
    /// Events that could not be written, oldest first.
    pending: VecDeque<Event>,
    gap: Option<Gap>,
    /// Events that were not kept, since the start of the process.
    lost: u64,
    error: Option<String>,
}

/// Events that were not kept.
#[derive(Debug)]
struct Gap {
    events: u64,
    from: Timestamp,
    until: Timestamp,
}

/// The state of the trail.
#[derive(Debug, Clone)]
pub struct AuditStatus {
    /// The last record.
    pub head: Head,
    /// Events that wait in memory, because they could not be written.
    pub waiting: usize,
    /// Events that were not kept, since the start of the process.
    pub lost: u64,
    /// Why records cannot be written.
    pub error: Option<String>,
    /// Why the file is not rotated, and grows.
    pub rotation_error: Option<String>,
}

impl AuditTrail {
    /// `instance` is the UUID of this process. Without a file, events are only logged.
    #[must_use]
    pub fn new(file: Option<AuditFile>, instance: &str) -> Self {
        let head = file.as_ref().map(AuditFile::head);
        let (head, error) = match head.transpose() {
            Ok(head) => (head, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            instance: instance.to_owned(),
            file,
            state: Mutex::new(State {
                head: head.unwrap_or_else(Head::empty),
                pending: VecDeque::new(),
                gap: None,
                lost: 0,
                error,
            }),
            summary: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The path of the file, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(AuditFile::path)
    }

    /// `None` if there is no file.
    #[must_use]
    pub fn status(&self) -> Option<AuditStatus> {
        let file = self.file.as_ref()?;
        let rotation_error = file.rotation_error();
        let state = self.state();
        Some(AuditStatus {
            head: state.head.clone(),
            waiting: state.pending.len(),
            lost: state.lost,
            error: state.error.clone(),
            rotation_error,
        })
    }

    /// Records and logs an event. Returns when the record is on the disk, or kept in memory because
    /// it cannot be written.
    pub fn record(&self, event: &Event) {
        let head = blocking(|| self.append(event));
        log(event, head.as_ref());
    }

    /// Logs an event of a request without a valid token. The trail gets one record a minute for all
    /// of them.
    pub fn record_unauthenticated(&self, event: &Event) {
        log(event, None);
        if self.file.is_none() {
            return;
        }
        let mut summary = self.summary();
        if summary.is_none() {
            self.wake.notify_one();
        }
        summary.get_or_insert_with(Summary::new).add(event);
    }

    /// Writes the summaries when they are due, and retries failed writes. Never returns.
    pub async fn run(&self) {
        loop {
            self.wake.notified().await;
            while let Some(delay) = self.next_delay() {
                tokio::time::sleep(delay).await;
                if self.summary_due_in().is_some_and(|due| due.is_zero()) {
                    self.write_summary();
                }
                if self.has_pending() {
                    blocking(|| self.retry());
                }
            }
        }
    }

    /// Writes what has not been written yet, before the process exits.
    pub fn flush(&self) {
        self.write_summary();
        if self.has_pending() {
            blocking(|| self.retry());
            let lost = self.state().pending.len();
            if lost > 0 {
                tracing::error!("{lost} audit records are lost: the audit trail cannot be written");
            }
        }
    }

    fn next_delay(&self) -> Option<Duration> {
        let retry = self.has_pending().then_some(RETRY_INTERVAL);
        self.summary_due_in().into_iter().chain(retry).min()
    }

    fn summary_due_in(&self) -> Option<Duration> {
        self.summary().as_ref().map(Summary::due_in)
    }

    fn write_summary(&self) {
        let summary = self.summary().take();
        if let Some(summary) = summary {
            let event = summary.into_event();
            blocking(|| self.append(&event));
        }
    }

    fn has_pending(&self) -> bool {
        !self.state().is_written()
    }

    /// Writes the event after those that wait. Returns the place of its record.
    fn append(&self, event: &Event) -> Option<Head> {
        let file = self.file.as_ref()?;
        let mut state = self.state();
        state.keep(event);
        self.write_pending(file, &mut state)
    }

    fn retry(&self) {
        if let Some(file) = &self.file {
            self.write_pending(file, &mut self.state());
        }
    }

    /// Writes what waits, in batches: a disk that is nearly full may have room for some.
    fn write_pending(&self, file: &AuditFile, state: &mut State) -> Option<Head> {
        while !state.is_written() {
            let events = state.next_batch();
            match file.append(&events, &self.instance, &state.head) {
                Ok(head) => state.batch_written(events.len(), head),
                Err(error) => {
                    let text = format!("cannot write {}: {error}", file.path().display());
                    if state.error.replace(text.clone()).is_none() {
                        tracing::error!("{text}; records are kept in memory");
                    }
                    self.wake.notify_one();
                    return None;
                }
            }
        }
        if state.error.take().is_some() {
            tracing::info!("the audit trail can be written again");
        }
        Some(state.head.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self) -> MutexGuard<'_, Option<Summary>> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_written(&self) -> bool {
        self.pending.is_empty() && self.gap.is_none()
    }

    /// The oldest events that wait, or the record of the gap after them.
    fn next_batch(&self) -> Vec<Event> {
        if self.pending.is_empty() {
            self.gap.iter().map(Gap::to_event).collect()
        } else {
            self.pending.iter().take(BATCH).cloned().collect()
        }
    }

    fn batch_written(&mut self, events: usize, head: Head) {
        if self.pending.is_empty() {
            self.gap = None;
        } else {
            self.pending.drain(..events);
        }
        self.head = head;
    }

    fn keep(&mut self, event: &Event) {
        if self.pending.len() < MAX_PENDING && self.gap.is_none() {
            self.pending.push_back(event.clone());
            return;
        }
        let gap = self.gap.get_or_insert(Gap {
            events: 0,
            from: event.time,
            until: event.time,
        });
        gap.events += 1;
        self.lost += 1;
        gap.until = event.time;
    }
}

impl Gap {
    fn to_event(&self) -> Event {
        let mut event = Event::new(GAP, Outcome::Failed);
        event.reason = Some("events are missing here: the file could not be written".into());
        event.detail.insert("events".into(), json!(self.events));
        event
            .detail
            .insert("from".into(), json!(self.from.to_string()));
        event
            .detail
            .insert("until".into(), json!(self.until.to_string()));
        event
    }
}

/// Logs the event, with the place of its record.
fn log(event: &Event, head: Option<&Head>) {
    let text = |name: &str| event.detail.get(name).and_then(|value| value.as_str());
    let number = |name: &str| event.detail.get(name).and_then(serde_json::Value::as_u64);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                target: AUDIT_TARGET,
                action = event.action,
                outcome = event.outcome.as_str(),
                subject = event.subject,
                token_id = event.token_id,
                session_id = event.session_id.as_ref().map(tracing::field::display),
                peer = event.peer.as_ref().map(tracing::field::display),
                client = event.client.as_ref().map(tracing::field::display),
                request_id = event.request_id,
                client_request_id = event.client_request_id,
                ended_session_id = text("ended_session_id").map(tracing::field::display),
                level = text("level"),
                revoked = text("revoked"),
                timeout_ms = number("timeout_ms"),
                status = event.status,
                reason = event.reason,
                seq = head.map(|head| head.seq),
                hash = head.map(|head| tracing::field::display(&head.hash)),
            )
        };
    }
    if event.outcome == Outcome::Accepted {
        log!(info);
    } else {
        log!(warn);
    }
}
