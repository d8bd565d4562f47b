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

use super::progress::{Progress, Wait};

/// How long somebody who has to go may take.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many go at once: a share of all, and no more than so many. In a flood, not each connection should have all looked at.
const SHARE: usize = 8;
const MOST_AT_ONCE: usize = 64;

/// The connections of one server.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Arc<Progress>>,
}

/// Room for one connection, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

/// There is no room.
#[derive(Debug)]
pub struct Full;

impl Slots {
    /// Room for so many, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            taken: Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub fn most(&self) -> usize {
        self.most
    }

    pub fn taken(&self) -> usize {
        self.lock().connections.len()
    }

    /// Room for a connection; how many had to go for it, too.
    ///
    /// # Errors
    ///
    /// Everybody has a request in flight, or those who have to go are not gone in time.
    pub async fn take(self: &Arc<Self>, progress: &Arc<Progress>) -> (Result<Slot, Full>, usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut evicted = 0;
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.try_take(progress) {
                return (Ok(slot), evicted);
            }
            let leave = self.make_room();
            evicted += leave.now;
            if leave.now + leave.before == 0 || timeout_at(deadline, freed).await.is_err() {
                return (Err(Full), evicted);
            }
        }
    }

    fn try_take(self: &Arc<Self>, progress: &Arc<Progress>) -> Option<Slot> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.most {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.connections.insert(number, Arc::clone(progress));
        Some(Slot {
            slots: Arc::clone(self),
            number,
        })
    }

    /// Asks some to go.
    pub fn make_room(&self) -> Leave {
        self.make_room_among(|_| true)
    }

    /// Asks some of those to go who are waited for in a certain way.
    pub fn make_room_among(&self, may_go_for: impl Fn(Wait) -> bool) -> Leave {
        let taken = self.lock();
        let mut before = 0;
        let mut may_go = Vec::new();
        for progress in taken.connections.values() {
            if let Some((wait, since)) = progress.waits_for_client()
                && may_go_for(wait)
            {
                if progress.is_evicted() {
                    before += 1;
                } else {
                    may_go.push((wait, since, progress));
                }
            }
        }
        let at_once = (self.most / SHARE).clamp(1, MOST_AT_ONCE);
        let wanted = at_once.saturating_sub(before);
        let now = wanted.min(may_go.len());
        if now > 0 {
            may_go.select_nth_unstable_by_key(now - 1, |(wait, since, _)| (*wait, *since));
            for (_, _, progress) in &may_go[..now] {
                progress.evict();
            }
        }
        Leave { now, before }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that were asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// Just now.
    pub now: usize,
    /// Before, and they are still there.
    pub before: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().connections.remove(&self.number);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_keeps_us_waiting_goes_and_who_is_served_stays() {
        let slots = Arc::new(Slots::new(3));
        let [busy, idle, silent, new, late] = [(); 5].map(|()| Arc::<Progress>::default());
        let served = busy.begin();
        drop(idle.begin());
        let mut held = Vec::new();
        for progress in [&busy, &idle, &silent] {
            held.push(slots.take(progress).await.0.unwrap());
        }
        // Who never asked goes before who did.
        assert_eq!(slots.make_room(), Leave { now: 1, before: 0 });
        assert!(silent.is_evicted() && !idle.is_evicted());
        // That one is on its way.
        assert_eq!(slots.make_room(), Leave { now: 0, before: 1 });
        let (refused, evicted) = slots.take(&new).await;
        assert!(refused.is_err() && evicted == 0);
        held.pop();
        held.push(slots.take(&new).await.0.unwrap());
        let _asking = new.begin();

        let waiting = Arc::clone(&slots);
        let idle_goes = tokio::spawn(async move { waiting.take(&late).await });
        idle.evicted().await;
        held.remove(1);
        let (slot, evicted) = idle_goes.await.unwrap();
        assert_eq!((slot.is_ok(), evicted), (true, 1));
        drop(slot);
        drop(served);
        assert_eq!(slots.taken(), 2);
    }

    #[tokio::test]
    async fn when_everybody_is_served_nobody_waits() {
        let slots = Arc::new(Slots::new(1));
        let [busy, new] = [(); 2].map(|()| Arc::<Progress>::default());
        let _served = busy.begin();
        let _held = slots.take(&busy).await.0.unwrap();
        let begun = Instant::now();
        assert!(slots.take(&new).await.0.is_err());
        assert!(begun.elapsed() < PATIENCE);
    }
}
