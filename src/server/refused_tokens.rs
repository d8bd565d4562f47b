//! How often a peer may show a token that does not count. One that counts is accepted whatever its peer did before, so nobody
//! can lock out the command line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the limit is counted in.
const WINDOW: Duration = Duration::from_mins(1);
/// Peers that are told apart. More than these share one count.
const MAX_PEERS: usize = 256;

/// Counts refused tokens by peer.
#[derive(Debug)]
pub struct AuthFailureLimiter {
    max_per_minute: u32,
    total: AtomicU64,
    peers: Mutex<HashMap<Option<IpAddr>, Window>>,
}

#[derive(Debug)]
struct Window {
    started: Instant,
    failures: u32,
}

impl AuthFailureLimiter {
    /// So many a minute are answered as what they are.
    pub fn new(max_per_minute: u32) -> Self {
        Self {
            max_per_minute,
            total: AtomicU64::default(),
            peers: Mutex::default(),
        }
    }

    /// Since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one. How long the peer should wait, if it had too many.
    pub fn record(&self, peer: Option<IpAddr>) -> Option<Duration> {
        self.record_at(peer, Instant::now())
    }

    fn record_at(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let is_over = |minute: &Window| now.duration_since(minute.started) >= WINDOW;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS {
            peers.retain(|_, minute| !is_over(minute));
        }
        let has_room = peers.len() < MAX_PEERS;
        let peer = peer.filter(|_| has_room || peers.contains_key(&peer));
        let minute = peers.entry(peer).or_insert(Window {
            started: now,
            failures: 0,
        });
        if is_over(minute) {
            *minute = Window {
                started: now,
                failures: 0,
            };
        }
        minute.failures = minute.failures.saturating_add(1);
        let left = WINDOW.saturating_sub(now.duration_since(minute.started));
        (minute.failures > self.max_per_minute).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_each_peer_separately() {
        let refused = AuthFailureLimiter::new(2);
        let now = Instant::now();
        let [one, other] = ["127.0.0.1", "127.0.0.2"].map(|peer| peer.parse().ok());
        let after = |peer, seconds| refused.record_at(peer, now + Duration::from_secs(seconds));
        assert_eq!((after(one, 0), after(one, 10)), (None, None));
        assert_eq!(after(one, 20), Some(Duration::from_secs(40)));
        assert_eq!(after(other, 20), None);
        assert_eq!(after(one, 59), Some(Duration::from_secs(1)));
        assert_eq!(after(one, 60), None);
        assert_eq!(refused.total(), 6);
    }

    #[test]
    fn memory_is_bounded_with_many_peers() {
        let refused = AuthFailureLimiter::new(2);
        let now = Instant::now();
        for number in 0..10_000_u32 {
            refused.record_at(Some(IpAddr::V4((0x7f00_0000 + number).into())), now);
        }
        assert!(refused.peers.lock().unwrap().len() <= MAX_PEERS + 1);
        assert!(
            refused
                .record_at(Some([127, 9, 9, 9].into()), now)
                .is_some()
        );
        let later = now + WINDOW;
        assert_eq!(refused.record_at(Some([127, 9, 9, 9].into()), later), None);
        assert_eq!(refused.peers.lock().unwrap().len(), 1);
    }
}
