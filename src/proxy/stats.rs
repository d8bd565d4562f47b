//! Counts the responses of the application, and the requests without one.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use super::error::ErrorReason;

/// Classes of the status of a response. 1xx begins a WebSocket.
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts responses and errors.
#[derive(Debug, Default)]
pub struct ProxyStats {
    responses: [AtomicU64; STATUS_CLASSES.len()],
    errors: [AtomicU64; ErrorReason::ALL.len()],
    retries: AtomicU64,
}

impl ProxyStats {
    pub(super) fn count_response(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len());
        self.responses[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self, reason: ErrorReason) {
        self.errors[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of responses of each class.
    pub fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.responses.iter().map(load);
        STATUS_CLASSES.into_iter().zip(counts)
    }

    /// The number of errors for each reason.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = ErrorReason::ALL.into_iter().map(ErrorReason::as_str);
        reasons.zip(self.errors.iter().map(load))
    }

    /// The number of requests that were sent again.
    pub fn retries(&self) -> u64 {
        load(&self.retries)
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_declaration_order() {
        let reasons = ErrorReason::ALL.into_iter().enumerate();
        assert!({ reasons }.all(|(index, reason)| reason as usize == index));
    }
}
