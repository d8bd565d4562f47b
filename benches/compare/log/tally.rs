//! The latencies of the events that followers have received.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::percentiles::Percentiles;

pub struct LatencyTally {
    /// Latency of each event at each follower, in microseconds.
    all_followers: Vec<u32>,
    /// Latency of each event at the follower that received it last.
    last_follower: Vec<u32>,
    followers: usize,
}

/// A summary of the latencies, which the followers' process sends to the benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Why the figures are invalid.
    pub problem: Option<String>,
    pub all_followers: Option<Percentiles>,
    pub last_follower: Option<Percentiles>,
}

impl LatencyTally {
    pub fn new(followers: usize, events: usize) -> Self {
        Self {
            all_followers: Vec::with_capacity(followers * events),
            last_follower: vec![0; events],
            followers,
        }
    }

    pub fn add(&mut self, event: u64, micros: u32) -> Result<()> {
        let last = usize::try_from(event)
            .ok()
            .and_then(|event| self.last_follower.get_mut(event))
            .with_context(|| format!("event {event} was never made"))?;
        *last = micros.max(*last);
        self.all_followers.push(micros);
        Ok(())
    }

    pub fn received(&self) -> usize {
        self.all_followers.len()
    }

    /// Followers accept each event once and in order, so the number shows whether all have arrived.
    pub fn is_complete(&self) -> bool {
        self.all_followers.len() == self.expected()
    }

    fn expected(&self) -> usize {
        self.followers * self.last_follower.len()
    }

    pub fn report(self, failure: Option<String>) -> LatencyReport {
        let missing = self.expected().saturating_sub(self.all_followers.len());
        let incomplete = (missing > 0).then(|| {
            let due = self.expected();
            format!("{missing} of {due} events did not arrive in time")
        });
        LatencyReport {
            problem: failure.or(incomplete),
            all_followers: Percentiles::of(self.all_followers),
            last_follower: Percentiles::of(self.last_follower),
        }
    }
}
