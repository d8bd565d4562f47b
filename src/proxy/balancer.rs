//! Chooses the worker of each request: the one with the fewest requests in flight.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::stream::UpstreamAddress;
use super::upstream::{Ticket, Upstream};

/// The workers that receive requests.
#[derive(Debug, Default)]
pub struct Balancer {
    workers: Mutex<Workers>,
    /// A worker was added or removed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Workers {
    upstreams: Vec<Arc<Upstream>>,
    /// The first one to look at. Otherwise the first worker would get all requests of a quiet hour.
    next: usize,
}

impl Balancer {
    /// A balancer without workers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends requests to a worker from now on.
    pub fn add(&self, address: UpstreamAddress) -> Arc<Upstream> {
        let upstream = Arc::new(Upstream::new(address));
        self.lock().upstreams.push(Arc::clone(&upstream));
        self.changed.notify_waiters();
        upstream
    }

    /// Sends no further requests to a worker, and closes the connections that wait for one. Those in
    /// flight continue.
    pub fn remove(&self, upstream: &Arc<Upstream>) {
        self.lock()
            .upstreams
            .retain(|it| !Arc::ptr_eq(it, upstream));
        upstream.close_idle();
        self.changed.notify_waiters();
    }

    /// Whether a worker can receive requests.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.lock().upstreams.is_empty()
    }

    /// Returns once a worker is added or removed after the first poll.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// As [`Self::changed`], for a worker that is added or removed from now on.
    pub(super) fn notified(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether another worker than this one can receive requests.
    pub(super) fn has_other(&self, upstream: &Arc<Upstream>) -> bool {
        let workers = self.lock();
        { workers.upstreams.iter() }.any(|it| !Arc::ptr_eq(it, upstream))
    }

    /// Starts a request of the worker with the fewest requests in flight, except these.
    pub(super) fn pick(&self, excluded: &[Arc<Upstream>]) -> Option<Ticket> {
        let mut workers = self.lock();
        let count = workers.upstreams.len();
        let first = workers.next;
        workers.next = if first + 1 < count { first + 1 } else { 0 };
        let (before, after) = workers.upstreams.split_at(first.min(count));
        let candidates = after.iter().chain(before);
        let candidates =
            candidates.filter(|it| !excluded.iter().any(|excluded| Arc::ptr_eq(it, excluded)));
        // The lock is held until the request counts, so a removed worker gets no further one.
        candidates
            .min_by_key(|upstream| upstream.in_flight())
            .map(Upstream::start_request)
    }

    fn lock(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> UpstreamAddress {
        UpstreamAddress::Unix(name.into())
    }

    #[test]
    fn worker_with_fewest_requests_is_chosen() {
        let balancer = Balancer::new();
        assert!(balancer.pick(&[]).is_none() && !balancer.has_ready());
        let workers = ["a", "b", "c"].map(|name| balancer.add(address(name)));
        let mut tickets: Vec<_> = (0..9).map(|_| balancer.pick(&[]).unwrap()).collect();
        assert!(workers.iter().all(|worker| worker.in_flight() == 3));
        tickets.retain(|ticket| !Arc::ptr_eq(ticket.upstream(), &workers[1]));
        for _ in 0..3 {
            let ticket = balancer.pick(&[]).unwrap();
            assert!(Arc::ptr_eq(ticket.upstream(), &workers[1]));
            tickets.push(ticket);
        }
    }

    #[test]
    fn equally_busy_workers_take_turns() {
        let balancer = Balancer::new();
        let workers = ["a", "b", "c"].map(|name| balancer.add(address(name)));
        let turns = (0..6).map(|_| {
            let ticket = balancer.pick(&[]).unwrap();
            let is_chosen = |worker| Arc::ptr_eq(worker, ticket.upstream());
            workers.iter().position(is_chosen).unwrap()
        });
        assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn removed_worker_gets_no_request() {
        let balancer = Balancer::new();
        let [first, second] = ["a", "b"].map(|name| balancer.add(address(name)));
        let ticket = balancer.pick(std::slice::from_ref(&second)).unwrap();
        balancer.remove(&first);
        assert_eq!(first.in_flight(), 1);
        for _ in 0..3 {
            let ticket = balancer.pick(&[]).unwrap();
            assert!(Arc::ptr_eq(ticket.upstream(), &second));
        }
        assert!(balancer.pick(std::slice::from_ref(&second)).is_none());
        drop(ticket);
        assert_eq!(first.in_flight(), 0);
    }
}
