//! What the servers do, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::api::HttpUsage;

/// Counters that both servers share.
#[derive(Debug, Default)]
pub struct Traffic {
    connections: AtomicU64,
    in_flight: AtomicU64,
    requests: AtomicU64,
}

impl Traffic {
    /// Counts a connection until the guard is dropped.
    pub(super) fn connection(&self) -> impl Drop + Send {
        Gauge::raise(&self.connections)
    }

    /// Counts a request, and as in flight until the guard is dropped.
    pub(super) fn request(&self) -> impl Drop + Send {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Gauge::raise(&self.in_flight)
    }

    /// Requests whose answer has not begun.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// All counters.
    #[must_use]
    pub fn usage(&self) -> HttpUsage {
        HttpUsage {
            connections: self.connections.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            requests_total: self.requests.load(Ordering::Relaxed),
        }
    }
}

struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    fn raise(value: &'a AtomicU64) -> Self {
        value.fetch_add(1, Ordering::Relaxed);
        Self(value)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
