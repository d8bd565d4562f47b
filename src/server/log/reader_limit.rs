//! The limit of clients that read the log for a long time: followers, and readers of long pages.
//!
//! They get only a share of the connections of the admin port. So a client that may only read the
//! log cannot keep out all others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::server::http::problem::{ApiError, Result};
use crate::server::limits::LimitKind;
use crate::server::pool::ConnectionPool;

/// Searches of the log at the same time.
const MAX_SEARCHES: usize = 4;

/// Limits the readers and the searches of the log.
pub struct LogReaderLimit {
    pool: Arc<ConnectionPool>,
    permits: Arc<Semaphore>,
    searches: Semaphore,
}

/// The right of one client to read, until it is dropped.
pub type ReaderPermit = OwnedSemaphorePermit;

impl LogReaderLimit {
    /// The limit for a server with this pool.
    pub fn new(pool: Arc<ConnectionPool>) -> Self {
        let readers = reader_share(pool.max());
        Self {
            pool,
            permits: Arc::new(Semaphore::new(readers)),
            searches: Semaphore::new(MAX_SEARCHES),
        }
    }

    /// Admits one more reader. At the limit it fails, and evicts readers that do not read their
    /// responses.
    pub(crate) fn acquire(&self) -> Result<ReaderPermit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map_err(|_| {
            self.pool.stats.record_limit_hit(LimitKind::Refused);
            self.pool.evict_stalled_readers();
            ApiError::log_readers_full()
        })
    }

    /// Waits until another search may start.
    pub(crate) async fn acquire_search(&self) -> Option<SemaphorePermit<'_>> {
        // Fails only if the semaphore is closed, which never happens.
        self.searches.acquire().await.ok()
    }
}

/// Three quarters. Of two or more connections, at least one is left for others.
fn reader_share(connections: usize) -> usize {
    let others = connections.div_ceil(4);
    (connections - others).clamp(1, Semaphore::MAX_PERMITS)
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
