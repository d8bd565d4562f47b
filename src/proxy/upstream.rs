//! A worker that receives requests: how many it has, and the connections that wait for the next.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::stream::UpstreamAddress;

/// How long a connection is kept for another request. gunicorn closes its own after 2 s, and a
/// request on its way at that moment would be lost.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// One stream, in the upper half of the load. The lower half counts requests.
const ONE_STREAM: u64 = 1 << 32;

/// A worker that receives requests.
pub struct Upstream {
    /// Where the worker listens.
    pub address: UpstreamAddress,
    /// Requests in flight, and how many of them are streams: one number, so that both are read at
    /// once.
    load: AtomicU64,
    /// The load has become smaller, or a request has become a stream.
    eased: Notify,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Connections that wait for a request. The last one was used last.
    #[expect(clippy::vec_box, reason = "they move between requests and this stack")]
    connections: Vec<Box<Connection>>,
    /// A task drops those that wait too long.
    has_sweeper: bool,
    /// The worker receives no further requests.
    is_removed: bool,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Upstream {
    pub(super) fn new(address: UpstreamAddress) -> Self {
        Self {
            address,
            load: AtomicU64::new(0),
            eased: Notify::new(),
            idle: Mutex::default(),
        }
    }

    /// The number of requests and tunnels in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        load_of(self.load.load(Ordering::Acquire)).0
    }

    /// How many of them are `WebSocket`s or event streams, which may last for days.
    #[must_use]
    pub fn streams(&self) -> usize {
        load_of(self.load.load(Ordering::Acquire)).1
    }

    /// Returns once no request and no tunnel is in flight.
    pub async fn idle(&self) {
        self.eased_to(|requests, _| requests == 0).await;
    }

    /// Returns once no request is in flight but `WebSocket`s and event streams.
    pub async fn only_streams(&self) {
        self.eased_to(|requests, streams| requests == streams).await;
    }

    async fn eased_to(&self, is_reached: impl Fn(usize, usize) -> bool) {
        loop {
            let eased = self.eased.notified();
            let (requests, streams) = load_of(self.load.load(Ordering::Acquire));
            if is_reached(requests, streams) {
                return;
            }
            eased.await;
        }
    }

    /// Counts a request, until the ticket is dropped.
    pub(super) fn start_request(self: &Arc<Self>) -> Ticket {
        self.load.fetch_add(1, Ordering::AcqRel);
        Ticket {
            upstream: Arc::clone(self),
            is_stream: false,
        }
    }

    /// The connection that was used last, if one waits.
    pub(super) fn take_idle(&self) -> Option<Box<Connection>> {
        let connection = self.lock().connections.pop()?;
        let idle_since = connection.idle_since?;
        (idle_since.elapsed() < KEEP_ALIVE).then_some(connection)
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> io::Result<Box<Connection>> {
        Connection::open(&self.address).await
    }

    /// Keeps a connection for another request, unless the worker receives none.
    pub(super) fn keep(self: &Arc<Self>, mut connection: Box<Connection>) {
        connection.idle_since = Some(Instant::now());
        let mut idle = self.lock();
        if idle.is_removed {
            return;
        }
        idle.connections.push(connection);
        if !std::mem::replace(&mut idle.has_sweeper, true) {
            tokio::spawn(sweep(Arc::clone(self)));
        }
    }

    /// Closes the connections that wait.
    pub(super) fn close_idle(&self) {
        let mut idle = self.lock();
        idle.is_removed = true;
        let closed = std::mem::take(&mut idle.connections);
        drop(idle);
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load_of(load: u64) -> (usize, usize) {
    ((load & (ONE_STREAM - 1)) as usize, (load >> 32) as usize)
}

/// Drops connections that wait too long. Returns once none waits, so that an idle daemon does
/// nothing.
async fn sweep(upstream: Arc<Upstream>) {
    loop {
        let next = {
            let mut idle = upstream.lock();
            let now = Instant::now();
            let deadline = |it: &Connection| it.idle_since.map_or(now, |since| since + KEEP_ALIVE);
            let expired = idle
                .connections
                .partition_point(|connection| deadline(connection) <= now);
            idle.connections.drain(..expired);
            let Some(oldest) = idle.connections.first() else {
                idle.has_sweeper = false;
                idle.connections.shrink_to_fit();
                return;
            };
            deadline(oldest)
        };
        sleep_until(next).await;
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Ticket {
    upstream: Arc<Upstream>,
    is_stream: bool,
}

impl Ticket {
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The request is a WebSocket or an event stream.
    pub fn set_stream(&mut self) {
        if !std::mem::replace(&mut self.is_stream, true) {
            self.upstream.load.fetch_add(ONE_STREAM, Ordering::AcqRel);
            self.upstream.eased.notify_waiters();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let load = if self.is_stream { ONE_STREAM + 1 } else { 1 };
        self.upstream.load.fetch_sub(load, Ordering::AcqRel);
        self.upstream.eased.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    fn upstream() -> Arc<Upstream> {
        Arc::new(Upstream::new(UpstreamAddress::Unix("/none".into())))
    }

    #[test]
    fn streams_are_part_of_the_requests_in_flight() {
        let upstream = upstream();
        let load = || (upstream.in_flight(), upstream.streams());
        let first = upstream.start_request();
        let mut second = upstream.start_request();
        let mut only_streams = pin!(upstream.only_streams());
        let mut idle = pin!(upstream.idle());
        second.set_stream();
        second.set_stream();
        assert_eq!(load(), (2, 1));
        assert!(only_streams.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(load(), (1, 1));
        assert!(only_streams.now_or_never().is_some());
        assert!(idle.as_mut().now_or_never().is_none());
        drop(second);
        assert_eq!(load(), (0, 0));
        assert!(idle.now_or_never().is_some());
    }
}
