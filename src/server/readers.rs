//! Who reads the log for long: followers, and pages that are more than what is at hand. Whoever may do nothing else must not
//! take all connections of the admin port, so these have a share of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::clients::{Clients, Limit};
use super::problem::Failure;

/// Searches through the log at once.
const SEARCHES: usize = 4;

/// The readers of the log.
#[derive(Debug)]
pub struct Readers {
    clients: Arc<Clients>,
    seats: Arc<Semaphore>,
    searches: Semaphore,
}

/// Room for one reader, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    /// Those among the clients of a server.
    #[must_use]
    pub fn among(clients: Arc<Clients>) -> Self {
        let seats = share_of(clients.most());
        Self {
            clients,
            seats: Arc::new(Semaphore::new(seats)),
            searches: Semaphore::new(SEARCHES),
        }
    }

    /// Room for one more. When there is none, some of those who do not read what they asked for have to go.
    pub(super) fn seat(&self) -> Result<Seat, Failure> {
        let permit = Arc::clone(&self.seats).try_acquire_owned();
        permit.map(|permit| Seat { _permit: permit }).map_err(|_| {
            self.clients.hit(Limit::Refused);
            self.clients.make_room_among_readers();
            Failure::no_room_to_read()
        })
    }

    /// The turn of one who searches.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.searches.acquire().await.ok()
    }
}

/// Three quarters, and of two or more at least one is left.
fn share_of(connections: usize) -> usize {
    let left = connections.div_ceil(4);
    (connections - left).clamp(1, Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_left_for_others() {
        for (connections, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (10_000, 7_500)] {
            assert_eq!(share_of(connections), share);
        }
        assert_eq!(share_of(usize::MAX), Semaphore::MAX_PERMITS);
    }
}
