//! Requests without a valid token: one record a minute for all of them. Otherwise anybody could fill
//! the trail and rotate older records away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::event::{Event, Outcome};

/// The time that one record covers.
pub(super) const INTERVAL: Duration = Duration::from_mins(1);
/// The event of the record.
const ACTION: &str = "unauthenticated";
/// How many addresses of clients a record names.
const MAX_PEERS: usize = 8;

/// The requests since the last record.
#[derive(Debug)]
pub(super) struct Summary {
    started: Instant,
    from: Timestamp,
    until: Timestamp,
    requests: u64,
    actions: BTreeMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    peers: BTreeMap<String, u64>,
    other_peers: u64,
}

impl Summary {
    pub fn new() -> Self {
        let now = Timestamp::now();
        Self {
            started: Instant::now(),
            from: now,
            until: now,
            requests: 0,
            actions: BTreeMap::new(),
            statuses: BTreeMap::new(),
            peers: BTreeMap::new(),
            other_peers: 0,
        }
    }

    pub fn add(&mut self, event: &Event) {
        self.until = event.time;
        self.requests += 1;
        *self.actions.entry(event.action.clone()).or_default() += 1;
        if let Some(status) = event.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        let peer = event.peer.as_deref().unwrap_or_default();
        // Without the port, which differs in each connection.
        let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
        let address = event.client.as_deref().unwrap_or(address);
        if let Some(count) = self.peers.get_mut(address) {
            *count += 1;
        } else if self.peers.len() < MAX_PEERS {
            self.peers.insert(address.to_owned(), 1);
        } else {
            self.other_peers += 1;
        }
    }

    /// When its record is due.
    pub fn due_in(&self) -> Duration {
        INTERVAL.saturating_sub(self.started.elapsed())
    }

    pub fn into_event(self) -> Event {
        let mut peers = counts(self.peers);
        if self.other_peers > 0 {
            peers.insert("others".into(), self.other_peers.into());
        }
        let detail = json!({
            "requests": self.requests,
            "from": self.from.to_string(),
            "until": self.until.to_string(),
            "actions": counts(self.actions),
            "statuses": counts(self.statuses),
            "peers": peers,
        });
        let mut event = Event::new(ACTION, Outcome::Refused);
        if let Value::Object(detail) = detail {
            event.detail = detail;
        }
        event
    }
}

fn counts<K: ToString>(counts: BTreeMap<K, u64>) -> Map<String, Value> {
    let counts = counts.into_iter();
    counts
        .map(|(name, count)| (name.to_string(), count.into()))
        .collect()
}
