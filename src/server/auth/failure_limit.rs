//! Limits failed authentication attempts by client address. Valid credentials are accepted in any
//! case, so nobody can lock out the command line.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::FailedAttempts;

/// The period that the limit applies to.
const WINDOW: Duration = Duration::from_mins(1);
/// Clients that are counted separately. All others share one count.
const MAX_PEERS: usize = 256;

/// Counts failed attempts by client address.
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
    /// Beyond `max_per_minute` failures a minute, a client gets 429.
    pub fn new(max_per_minute: u32) -> Self {
        Self {
            max_per_minute,
            total: AtomicU64::default(),
            peers: Mutex::default(),
        }
    }

    /// Failures since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The failures in the current minute, for the next process.
    pub fn recent(&self) -> Vec<FailedAttempts> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = peers.iter().map(|(peer, window)| FailedAttempts {
            client: *peer,
            age_ms: u64::try_from(window.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            count: window.failures,
        });
        recent.collect()
    }

    /// Continues the failures that the old process passed on.
    pub fn restore(&self, failures: &[FailedAttempts]) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        for each in failures.iter().take(MAX_PEERS) {
            // Otherwise it is over. The clock may begin at the start of the machine.
            if let Some(started) = Instant::now().checked_sub(Duration::from_millis(each.age_ms)) {
                let window = Window {
                    started,
                    failures: each.count,
                };
                peers.insert(each.client, window);
            }
        }
    }

    /// Counts a failure. Returns how long the client should wait if it had too many.
    pub fn record(&self, peer: Option<IpAddr>) -> Option<Duration> {
        self.record_at(peer.map(network), Instant::now())
    }

    fn record_at(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let is_over = |window: &Window| now.duration_since(window.started) >= WINDOW;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS {
            peers.retain(|_, window| !is_over(window));
        }
        let has_room = peers.len() < MAX_PEERS;
        let peer = peer.filter(|_| has_room || peers.contains_key(&peer));
        let window = peers.entry(peer).or_insert(Window {
            started: now,
            failures: 0,
        });
        if is_over(window) {
            *window = Window {
                started: now,
                failures: 0,
            };
        }
        window.failures = window.failures.saturating_add(1);
        let remaining = WINDOW.saturating_sub(now.duration_since(window.started));
        (window.failures > self.max_per_minute).then_some(remaining)
    }
}

/// The address of a client, or its network: a machine with IPv6 has a network of 2^64 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_each_peer_separately() {
        let limiter = AuthFailureLimiter::new(2);
        let now = Instant::now();
        let [one, other] = ["127.0.0.1", "127.0.0.2"].map(|peer| peer.parse().ok());
        let after = |peer, seconds| limiter.record_at(peer, now + Duration::from_secs(seconds));
        assert_eq!((after(one, 0), after(one, 10)), (None, None));
        assert_eq!(after(one, 20), Some(Duration::from_secs(40)));
        assert_eq!(after(other, 20), None);
        assert_eq!(after(one, 59), Some(Duration::from_secs(1)));
        assert_eq!(after(one, 60), None);
        assert_eq!(limiter.total(), 6);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let limiter = AuthFailureLimiter::new(1);
        let record = |text: &str| limiter.record(text.parse().ok());
        assert_eq!(record("2001:db8:1:2::3"), None);
        assert!(record("2001:db8:1:2:3:4:5:6").is_some());
        assert_eq!(record("2001:db8:1:3::3"), None);
        assert_eq!((record("::1"), record("::2")), (None, None));
    }

    #[test]
    fn restart_gives_no_fresh_attempts() {
        let old = AuthFailureLimiter::new(2);
        let peer = Some([127, 0, 0, 1].into());
        assert_eq!((old.record(peer), old.record(peer)), (None, None));
        let new = AuthFailureLimiter::new(2);
        new.restore(&old.recent());
        assert!(new.record(peer) > Some(WINDOW / 2));
        assert_eq!(new.record(Some([127, 0, 0, 2].into())), None);
    }

    #[test]
    fn memory_is_bounded_with_many_peers() {
        let limiter = AuthFailureLimiter::new(2);
        let now = Instant::now();
        for number in 0..10_000_u32 {
            limiter.record_at(Some(IpAddr::V4((0x7f00_0000 + number).into())), now);
        }
        assert!(limiter.peers.lock().unwrap().len() <= MAX_PEERS + 1);
        let peer = Some([127, 9, 9, 9].into());
        assert!(limiter.record_at(peer, now).is_some());
        let later = now + WINDOW;
        assert_eq!(limiter.record_at(peer, later), None);
        assert_eq!(limiter.peers.lock().unwrap().len(), 1);
    }
}
