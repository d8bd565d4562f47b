//! Counters for Prometheus. `api::admin::metrics` adds what is looked up at each scrape.
//!
//! Names follow the conventions of Prometheus: base units, and `_total` for counters.

mod disk;
mod families;
mod requests;
mod totals;

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use disk::LogDisk;
pub(super) use families::{Family, MetricFamilies};
use requests::RequestMetrics;
pub use requests::{RequestSeries, RouteMetrics};
use totals::CounterTotals;

use crate::proxy::Proxy;

/// Counts what happens while the daemon lives.
#[derive(Debug)]
pub struct Metrics {
    pub requests: RequestMetrics,
    /// Counts the requests to the application, if the daemon runs one.
    pub(super) application: OnceLock<Arc<Proxy>>,
    pub(super) successful_reloads: AtomicU64,
    pub(super) refused_reloads: AtomicU64,
    pub(super) failed_restarts: AtomicU64,
    pub(super) disk: LogDisk,
    pub(super) totals: CounterTotals,
}

impl Metrics {
    /// # Errors
    ///
    /// A metric has a name that Prometheus does not allow.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self::with_requests(RequestMetrics::new(true)?))
    }

    /// Does not count requests, so that a benchmark can measure what counting costs.
    ///
    /// # Errors
    ///
    /// As [`Metrics::new`].
    pub fn without_requests() -> prometheus::Result<Self> {
        Ok(Self::with_requests(RequestMetrics::new(false)?))
    }

    fn with_requests(requests: RequestMetrics) -> Self {
        Self {
            requests,
            application: OnceLock::new(),
            successful_reloads: AtomicU64::default(),
            refused_reloads: AtomicU64::default(),
            failed_restarts: AtomicU64::default(),
            disk: LogDisk::default(),
            totals: CounterTotals::default(),
        }
    }

    /// Continues the counters that the old process passed on, if it did.
    #[must_use]
    pub fn continuing(mut self, counters: Option<&File>) -> Self {
        self.totals = CounterTotals::inherited(counters);
        self
    }

    /// Counts a reload that applied the settings, or that was refused because they are invalid.
    pub fn count_reload(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.successful_reloads
        } else {
            &self.refused_reloads
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a restart that failed, so that this process continues.
    pub fn count_failed_restart(&self) {
        self.failed_restarts.fetch_add(1, Ordering::Relaxed);
    }
}
