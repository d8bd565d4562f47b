//! Who is connected to one server, and who has to go when there is no room for one more.
//!
//! Whoever only holds a connection gives way to whoever comes: first those that never finished a request, then idle ones,
//! then those that do not take or send what they began; of each kind, who has kept us waiting longest. A client that asks at
//! once is served, however many others wait. Requests in flight are left alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::progress::{ConnectionState, WaitingFor};

/// How long somebody who has to go may take.
const EVICTION_TIMEOUT: Duration = Duration::from_millis(100);
/// How many go at once: a share of all, and no more than so many. In a flood, not each connection should have all looked at.
const EVICTION_SHARE: usize = 8;
const MAX_EVICTIONS: usize = 64;

/// The connections of one server.
#[derive(Debug)]
pub struct ConnectionSlots {
    max: usize,
    taken: Mutex<PoolEntries>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct PoolEntries {
    next: u64,
    connections: HashMap<u64, Arc<ConnectionState>>,
}

/// Room for one connection, until it is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

/// There is no room.
#[derive(Debug)]
pub struct PoolFull;

impl ConnectionSlots {
    /// Room for so many, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            max: most.max(1),
            taken: Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Room for a connection; how many had to go for it, too.
    ///
    /// # Errors
    ///
    /// Everybody has a request in flight, or those who have to go are not gone in time.
    pub async fn acquire(
        self: &Arc<Self>,
        progress: &Arc<ConnectionState>,
    ) -> (Result<ConnectionSlot, PoolFull>, usize) {
        let deadline = Instant::now() + EVICTION_TIMEOUT;
        let mut evicted = 0;
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.try_acquire(progress) {
                return (Ok(slot), evicted);
            }
            let leave = self.evict();
            evicted += leave.now;
            if leave.now + leave.before == 0 || timeout_at(deadline, freed).await.is_err() {
                return (Err(PoolFull), evicted);
            }
        }
    }

    fn try_acquire(self: &Arc<Self>, progress: &Arc<ConnectionState>) -> Option<ConnectionSlot> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.max {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.connections.insert(number, Arc::clone(progress));
        Some(ConnectionSlot {
            slots: Arc::clone(self),
            id: number,
        })
    }

    /// Asks some to go.
    pub fn evict(&self) -> Evictions {
        self.evict_waiting(|_| true)
    }

    /// Asks some of those to go who are waited for in a certain way.
    pub fn evict_waiting(&self, may_go_for: impl Fn(WaitingFor) -> bool) -> Evictions {
        let taken = self.lock();
        let mut before = 0;
        let mut may_go = Vec::new();
        for progress in taken.connections.values() {
            if let Some((wait, since)) = progress.evictable_since()
                && may_go_for(wait)
            {
                if progress.is_evicted() {
                    before += 1;
                } else {
                    may_go.push((wait, since, progress));
                }
            }
        }
        let at_once = (self.max / EVICTION_SHARE).clamp(1, MAX_EVICTIONS);
        let wanted = at_once.saturating_sub(before);
        let now = wanted.min(may_go.len());
        if now > 0 {
            may_go.select_nth_unstable_by_key(now - 1, |(wait, since, _)| (*wait, *since));
            for (_, _, progress) in &may_go[..now] {
                progress.evict();
            }
        }
        Evictions { now, before }
    }

    fn lock(&self) -> MutexGuard<'_, PoolEntries> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that were asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evictions {
    /// Just now.
    pub now: usize,
    /// Before, and they are still there.
    pub before: usize,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.lock().connections.remove(&self.id);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_pool_evicts_idle_connections() {
        let slots = Arc::new(ConnectionSlots::new(3));
        let [busy, idle, silent, new, late] = [(); 5].map(|()| Arc::<ConnectionState>::default());
        let served = busy.start_request();
        drop(idle.start_request());
        let mut held = Vec::new();
        for progress in [&busy, &idle, &silent] {
            held.push(slots.acquire(progress).await.0.unwrap());
        }
        // Who never asked goes before who did.
        assert_eq!(slots.evict(), Evictions { now: 1, before: 0 });
        assert!(silent.is_evicted() && !idle.is_evicted());
        // That one is on its way.
        assert_eq!(slots.evict(), Evictions { now: 0, before: 1 });
        let (refused, evicted) = slots.acquire(&new).await;
        assert!(refused.is_err() && evicted == 0);
        held.pop();
        held.push(slots.acquire(&new).await.0.unwrap());
        let _asking = new.start_request();

        let waiting = Arc::clone(&slots);
        let idle_goes = tokio::spawn(async move { waiting.acquire(&late).await });
        idle.evicted().await;
        held.remove(1);
        let (slot, evicted) = idle_goes.await.unwrap();
        assert_eq!((slot.is_ok(), evicted), (true, 1));
        drop(slot);
        drop(served);
        assert_eq!(slots.len(), 2);
    }

    #[tokio::test]
    async fn pool_with_only_busy_connections_refuses_at_once() {
        let slots = Arc::new(ConnectionSlots::new(1));
        let [busy, new] = [(); 2].map(|()| Arc::<ConnectionState>::default());
        let _served = busy.start_request();
        let _held = slots.acquire(&busy).await.0.unwrap();
        let begun = Instant::now();
        assert!(slots.acquire(&new).await.0.is_err());
        assert!(begun.elapsed() < EVICTION_TIMEOUT);
    }
}
