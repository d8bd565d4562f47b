//! How often a peer may show a token that does not count. One that counts is accepted whatever its peer did before, so nobody
//! can lock out the command line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the limit is counted in.
const MINUTE: Duration = Duration::from_mins(1);
/// Peers that are told apart. More than these share one count.
const MAX_PEERS: usize = 256;

/// Counts refused tokens by peer.
#[derive(Debug)]
pub struct RefusedTokens {
    most: u32,
    total: AtomicU64,
    peers: Mutex<HashMap<Option<IpAddr>, Minute>>,
}

#[derive(Debug)]
struct Minute {
    began: Instant,
    refused: u32,
}

impl RefusedTokens {
    /// So many a minute are answered as what they are.
    pub fn new(most: u32) -> Self {
        Self {
            most,
            total: AtomicU64::default(),
            peers: Mutex::default(),
        }
    }

    /// Since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one. How long the peer should wait, if it had too many.
    pub fn note(&self, peer: Option<IpAddr>) -> Option<Duration> {
        self.note_at(peer, Instant::now())
    }

    fn note_at(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let is_over = |minute: &Minute| now.duration_since(minute.began) >= MINUTE;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS {
            peers.retain(|_, minute| !is_over(minute));
        }
        let has_room = peers.len() < MAX_PEERS;
        let peer = peer.filter(|_| has_room || peers.contains_key(&peer));
        let minute = peers.entry(peer).or_insert(Minute {
            began: now,
            refused: 0,
        });
        if is_over(minute) {
            *minute = Minute {
                began: now,
                refused: 0,
            };
        }
        minute.refused = minute.refused.saturating_add(1);
        let left = MINUTE.saturating_sub(now.duration_since(minute.began));
        (minute.refused > self.most).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_minute() {
        let refused = RefusedTokens::new(2);
        let now = Instant::now();
        let [one, other] = ["127.0.0.1", "127.0.0.2"].map(|peer| peer.parse().ok());
        let after = |peer, seconds| refused.note_at(peer, now + Duration::from_secs(seconds));
        assert_eq!((after(one, 0), after(one, 10)), (None, None));
        assert_eq!(after(one, 20), Some(Duration::from_secs(40)));
        assert_eq!(after(other, 20), None);
        assert_eq!(after(one, 59), Some(Duration::from_secs(1)));
        assert_eq!(after(one, 60), None);
        assert_eq!(refused.total(), 6);
    }

    #[test]
    fn a_crowd_of_peers_costs_no_memory_and_is_limited_too() {
        let refused = RefusedTokens::new(2);
        let now = Instant::now();
        for number in 0..10_000_u32 {
            refused.note_at(Some(IpAddr::V4((0x7f00_0000 + number).into())), now);
        }
        assert!(refused.peers.lock().unwrap().len() <= MAX_PEERS + 1);
        assert!(refused.note_at(Some([127, 9, 9, 9].into()), now).is_some());
        let later = now + MINUTE;
        assert_eq!(refused.note_at(Some([127, 9, 9, 9].into()), later), None);
        assert_eq!(refused.peers.lock().unwrap().len(), 1);
    }
}
