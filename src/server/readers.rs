//! Who reads the log for long: followers, and pages that are more than what is at hand. Whoever may do nothing else must not
//! take all connections of the admin port, so these have a share of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::clients::{ConnectionPool, LimitKind};
use super::problem::ApiError;

/// Searches through the log at once.
const MAX_SEARCHES: usize = 4;

/// The readers of the log.
#[derive(Debug)]
pub struct LogReaderLimit {
    clients: Arc<ConnectionPool>,
    permits: Arc<Semaphore>,
    searches: Semaphore,
}

/// Room for one reader, until it is dropped.
#[derive(Debug)]
pub(super) struct ReaderPermit {
    _permit: OwnedSemaphorePermit,
}

impl LogReaderLimit {
    /// Those among the clients of a server.
    #[must_use]
    pub fn new(clients: Arc<ConnectionPool>) -> Self {
        let seats = reader_share(clients.max());
        Self {
            clients,
            permits: Arc::new(Semaphore::new(seats)),
            searches: Semaphore::new(MAX_SEARCHES),
        }
    }

    /// Room for one more. When there is none, some of those who do not read what they asked for have to go.
    pub(super) fn acquire(&self) -> Result<ReaderPermit, ApiError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit
            .map(|permit| ReaderPermit { _permit: permit })
            .map_err(|_| {
                self.clients.record_limit_hit(LimitKind::Refused);
                self.clients.evict_stalled_readers();
                ApiError::log_readers_full()
            })
    }

    /// The turn of one who searches.
    pub(super) async fn acquire_search(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.searches.acquire().await.ok()
    }
}

/// Three quarters, and of two or more at least one is left.
fn reader_share(connections: usize) -> usize {
    let left = connections.div_ceil(4);
    (connections - left).clamp(1, Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_share_leaves_a_quarter_of_connections() {
        for (connections, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (10_000, 7_500)] {
            assert_eq!(reader_share(connections), share);
        }
        assert_eq!(reader_share(usize::MAX), Semaphore::MAX_PERMITS);
    }
}
