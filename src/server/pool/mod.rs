//! The open connections of one server: how many there may be, and which are closed to make room for
//! new ones.
//!
//! A full pool evicts connections that only hold their place: those that never finished a request,
//! then idle ones, then stalled ones, in each group the longest-waiting first. A connection
//! whose request makes progress is never evicted. So many idle connections cannot keep out a client
//! that sends a request at once.

mod client_socket;
mod detached;
mod state;
mod stats;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

pub use client_socket::ClientSocket;
pub use detached::{DetachedBody, DetachedResponse, DetachedSocket};
pub use state::{ConnectionState, FramingFields, TrackedBody, WaitingFor};
pub use stats::ConnectionStats;

use super::limits::LimitKind;
use crate::api::HttpUsage;
use crate::config::Limits;
use crate::sys::release_free_memory;

/// How long evicted connections may take to close.
const EVICTION_TIMEOUT: Duration = Duration::from_millis(100);
/// An eviction closes one connection in this many, up to [`MAX_EVICTIONS`]. Otherwise each new
/// connection of a flood would scan all others.
const EVICTION_SHARE: usize = 8;
const MAX_EVICTIONS: usize = 64;
/// When so many have closed, about 2 MB, their memory is given back.
const CROWD: usize = 100;
/// How long after that. Others of the same crowd close meanwhile.
const CROWD_LEAVES: Duration = Duration::from_secs(1);

/// The pools of both servers.
#[derive(Clone)]
pub struct ConnectionPools {
    pub public: Arc<ConnectionPool>,
    pub admin: Arc<ConnectionPool>,
}

impl ConnectionPools {
    /// Both pools, with the name of their server in metrics.
    pub(crate) fn named(&self) -> [(&'static str, &ConnectionPool); 2] {
        [("public", &self.public), ("admin", &self.admin)]
    }
}

/// The open connections of one server.
pub struct ConnectionPool {
    /// Limits for each client.
    pub limits: Limits,
    pub stats: ConnectionStats,
    max: usize,
    entries: Mutex<Entries>,
    freed: Notify,
    crowd_left: Notify,
}

#[derive(Default)]
struct Entries {
    next_id: u64,
    /// The largest number of connections since a crowd left.
    peak: usize,
    connections: HashMap<u64, Arc<ConnectionState>>,
}

/// The place of one connection in the pool, until it is dropped.
pub struct ConnectionSlot {
    pool: Arc<ConnectionPool>,
    id: u64,
}

impl ConnectionPool {
    /// An empty pool of at most `max` connections, and at least one.
    #[must_use]
    pub fn new(limits: Limits, max: usize) -> Self {
        Self {
            limits,
            stats: ConnectionStats::default(),
            max: max.max(1),
            entries: Mutex::default(),
            freed: Notify::new(),
            crowd_left: Notify::new(),
        }
    }

    /// The maximum number of connections.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The number of open connections.
    pub(crate) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// Open connections and requests.
    pub(crate) fn usage(&self) -> HttpUsage {
        HttpUsage {
            connections: self.len() as u64,
            in_flight: self.stats.in_flight(),
            requests_total: self.stats.requests_total(),
        }
    }

    /// A slot for a new connection. `None` if no other connection can be evicted, or none closes in
    /// time.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        state: &Arc<ConnectionState>,
    ) -> Option<ConnectionSlot> {
        let deadline = Instant::now() + EVICTION_TIMEOUT;
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.try_acquire(state) {
                return Some(slot);
            }
            let is_closing = self.evict() > 0;
            if !is_closing || timeout_at(deadline, freed).await.is_err() {
                return None;
            }
        }
    }

    fn try_acquire(self: &Arc<Self>, state: &Arc<ConnectionState>) -> Option<ConnectionSlot> {
        let mut entries = self.lock();
        if entries.connections.len() >= self.max {
            return None;
        }
        let id = entries.next_id;
        entries.next_id += 1;
        entries.connections.insert(id, Arc::clone(state));
        entries.peak = entries.peak.max(entries.connections.len());
        Some(ConnectionSlot {
            pool: Arc::clone(self),
            id,
        })
    }

    /// Evicts some connections. Returns how many are closing, including those that were evicted
    /// before.
    pub(crate) fn evict(&self) -> usize {
        self.evict_if(|_| true)
    }

    /// Evicts some connections whose clients do not read their responses.
    pub(crate) fn evict_stalled_readers(&self) {
        self.evict_if(|waiting| waiting == WaitingFor::ResponseRead);
    }

    fn evict_if(&self, is_candidate: impl Fn(WaitingFor) -> bool) -> usize {
        let entries = self.lock();
        let mut closing = 0;
        let mut candidates = Vec::new();
        for state in entries.connections.values() {
            if let Some((waiting, since)) = state.evictable_since()
                && is_candidate(waiting)
            {
                if state.is_evicted() {
                    closing += 1;
                } else {
                    candidates.push((waiting, since, state));
                }
            }
        }
        let max_closing = (self.max / EVICTION_SHARE).clamp(1, MAX_EVICTIONS);
        let count = max_closing.saturating_sub(closing).min(candidates.len());
        if count > 0 {
            candidates
                .select_nth_unstable_by_key(count - 1, |(waiting, since, _)| (*waiting, *since));
            for (_, _, state) in &candidates[..count] {
                state.evict();
            }
        }
        self.stats.record_limit_hits(LimitKind::Evicted, count);
        closing + count
    }

    /// Gives memory back to the system each time that many connections have closed. Never returns.
    pub(crate) async fn release_memory(&self) {
        loop {
            self.crowd_left.notified().await;
            sleep(CROWD_LEAVES).await;
            // Takes milliseconds for each 100 MB.
            let _ = spawn_blocking(release_free_memory).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut entries = self.pool.lock();
        entries.connections.remove(&self.id);
        let open = entries.connections.len();
        if entries.peak - open >= CROWD {
            entries.peak = open;
            entries.connections.shrink_to_fit();
            self.pool.crowd_left.notify_one();
        }
        drop(entries);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(max: usize) -> Arc<ConnectionPool> {
        let limits = Limits {
            header_timeout: Duration::ZERO,
            body_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_header_size: 0,
            max_body_size: 0,
            max_connections: 0,
            admin_max_connections: 0,
            failed_tokens_per_minute: 0,
        };
        Arc::new(ConnectionPool::new(limits, max))
    }

    fn evicted(pool: &ConnectionPool) -> u64 {
        pool.stats.limit_hits(LimitKind::Evicted)
    }

    #[tokio::test]
    async fn full_pool_evicts_idle_connections() {
        let pool = pool(3);
        let [busy, idle, silent, new, late] = [(); 5].map(|()| Arc::<ConnectionState>::default());
        let request = busy.start_request();
        drop(idle.start_request());
        let mut slots = Vec::new();
        for state in [&busy, &idle, &silent] {
            slots.push(pool.acquire(state).await.unwrap());
        }
        // A connection that never sent a request is evicted before one that did.
        assert_eq!((pool.evict(), evicted(&pool)), (1, 1));
        assert!(silent.is_evicted() && !idle.is_evicted());
        // While it closes, no other one is evicted.
        assert!(pool.acquire(&new).await.is_none());
        assert_eq!((pool.evict(), evicted(&pool)), (1, 1));
        slots.pop();
        slots.push(pool.acquire(&new).await.unwrap());
        let _request = new.start_request();

        let waiting = Arc::clone(&pool);
        let acquired = tokio::spawn(async move { waiting.acquire(&late).await });
        idle.evicted().await;
        slots.remove(1);
        let slot = acquired.await.unwrap();
        assert_eq!((slot.is_some(), evicted(&pool)), (true, 2));
        drop(slot);
        drop(request);
        assert_eq!(pool.len(), 2);
    }

    #[tokio::test]
    async fn pool_of_busy_connections_refuses_at_once() {
        let pool = pool(1);
        let [busy, new] = [(); 2].map(|()| Arc::<ConnectionState>::default());
        let _request = busy.start_request();
        let _slot = pool.acquire(&busy).await.unwrap();
        let started = Instant::now();
        assert!(pool.acquire(&new).await.is_none());
        assert!(started.elapsed() < EVICTION_TIMEOUT);
    }
}
