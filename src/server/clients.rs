//! The clients of one server: what they may cost, and what they do, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::progress::WaitingFor;
use super::slots::ConnectionSlots;
use crate::api::HttpUsage;
use crate::config::Limits;

/// What a client can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// The head of a request took too long.
    HeaderTimeout,
    /// The body of a request took too long.
    BodyTimeout,
    /// A connection was idle, or its client did not read.
    IdleTimeout,
    /// The head of a request was too large.
    HeaderSize,
    /// The body of a request was too large.
    BodySize,
    /// A connection was closed to make room for another.
    Evicted,
    /// A connection was refused, because all others were busy, or a reader of the log, because there are many.
    Refused,
}

impl LimitKind {
    /// Every limit.
    pub const ALL: [Self; 7] = [
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::IdleTimeout,
        Self::HeaderSize,
        Self::BodySize,
        Self::Evicted,
        Self::Refused,
    ];

    /// Its name in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::HeaderSize => "header_size",
            Self::BodySize => "body_size",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        }
    }
}

/// The clients of one server.
#[derive(Debug)]
pub struct ConnectionPool {
    /// What they may cost.
    pub limits: Limits,
    /// Who is connected.
    pub(super) slots: Arc<ConnectionSlots>,
    in_flight: AtomicU64,
    requests_total: AtomicU64,
    hits: [AtomicU64; LimitKind::ALL.len()],
    accept_errors: AtomicU64,
}

impl ConnectionPool {
    /// Nobody yet, and never more than `most` connections at once.
    #[must_use]
    pub fn new(limits: Limits, most: usize) -> Self {
        Self {
            limits,
            slots: Arc::new(ConnectionSlots::new(most)),
            in_flight: AtomicU64::default(),
            requests_total: AtomicU64::default(),
            hits: Default::default(),
            accept_errors: AtomicU64::default(),
        }
    }

    /// Counts a request, and as in flight until the guard is dropped.
    pub(super) fn count_request(&self) -> impl Drop + Send {
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        GaugeGuard::raise(&self.in_flight)
    }

    /// Counts somebody who ran into a limit.
    pub(super) fn record_limit_hit(&self, limit: LimitKind) {
        self.record_limit_hits(limit, 1);
    }

    /// Counts several.
    pub(super) fn record_limit_hits(&self, limit: LimitKind, clients: usize) {
        self.hits[limit as usize].fetch_add(clients as u64, Ordering::Relaxed);
    }

    /// Asks some of those to go who do not read their answers.
    pub(super) fn evict_stalled_readers(&self) {
        let leave = self
            .slots
            .evict_waiting(|wait| wait == WaitingFor::ResponseRead);
        self.record_limit_hits(LimitKind::Evicted, leave.now);
    }

    /// Counts a connection that the system did not give us.
    pub(super) fn record_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How often clients ran into the limit.
    #[must_use]
    pub fn limit_hits(&self, limit: LimitKind) -> u64 {
        self.hits[limit as usize].load(Ordering::Relaxed)
    }

    /// Connections that the system did not give us.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Connections that there may be at once.
    #[must_use]
    pub fn max(&self) -> usize {
        self.slots.max()
    }

    /// Whether there are as many.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.slots.max()
    }

    /// Requests whose answer has not begun.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What they do now, and did.
    #[must_use]
    pub fn usage(&self) -> HttpUsage {
        HttpUsage {
            connections: self.slots.len() as u64,
            in_flight: self.in_flight(),
            requests_total: self.requests_total.load(Ordering::Relaxed),
        }
    }
}

struct GaugeGuard<'a>(&'a AtomicU64);

impl<'a> GaugeGuard<'a> {
    fn raise(value: &'a AtomicU64) -> Self {
        value.fetch_add(1, Ordering::Relaxed);
        Self(value)
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_kinds_are_listed_in_declaration_order() {
        let places = LimitKind::ALL.into_iter().enumerate();
        assert!({ places }.all(|(place, limit)| limit as usize == place));
    }
}
