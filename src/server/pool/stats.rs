//! Counters of the connections and requests of one server.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::limits::LimitKind;

/// Counters since the process started, and requests in flight.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    in_flight: AtomicU64,
    requests_total: AtomicU64,
    limit_hits: [AtomicU64; LimitKind::ALL.len()],
    accept_errors: AtomicU64,
}

impl ConnectionStats {
    /// Counts a request, and counts it as in flight until the guard is dropped.
    pub(crate) fn count_request(&self) -> impl Drop + Send {
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(&self.in_flight)
    }

    pub(crate) fn record_limit_hit(&self, limit: LimitKind) {
        self.record_limit_hits(limit, 1);
    }

    pub(crate) fn record_limit_hits(&self, limit: LimitKind, count: usize) {
        self.limit_hits[limit as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn record_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How often clients exceeded the limit.
    pub fn limit_hits(&self, limit: LimitKind) -> u64 {
        self.limit_hits[limit as usize].load(Ordering::Relaxed)
    }

    /// Failed calls of `accept(2)`.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Requests without a response yet.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// All requests.
    pub fn requests_total(&self) -> u64 {
        self.requests_total.load(Ordering::Relaxed)
    }
}

struct InFlightGuard<'a>(&'a AtomicU64);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
