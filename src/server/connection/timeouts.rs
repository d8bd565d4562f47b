//! When a connection is closed although its client did not close it.

use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::socket::{has_pending_input, is_reset};
use crate::config::Limits;
use crate::server::limits::LimitKind;
use crate::server::pool::{ConnectionState, WaitingFor};

/// How long a stopping server waits for a client that may never finish what it started: request
/// headers, or the reading of a stream.
pub const STUCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a client that has closed its side may wait for more of a response of the application.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often an evicted connection lets pending input be read before it closes.
const MAX_INPUT_CHECKS: u32 = 16;
/// How long an evicted connection waits for a request that came just then.
const EVICTION_RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Returns once the client has exceeded a time limit.
pub async fn client_timeout(
    state: &ConnectionState,
    limits: &Limits,
    stream: &TcpStream,
) -> (LimitKind, WaitingFor) {
    // hyper's own timeout sets a timer for each request. This loop sets one for each interval
    // instead, which is short enough that a wait that starts meanwhile cannot end before the next
    // check.
    let interval = limits.header_timeout.min(limits.idle_timeout);
    let mut has_spared_request = false;
    loop {
        let now = Instant::now();
        let waiting = state.waiting_since().and_then(|(waiting, since)| {
            let (limit, timeout) = match waiting {
                WaitingFor::RequestHeaders => (LimitKind::HeaderTimeout, limits.header_timeout),
                WaitingFor::NextRequest | WaitingFor::ResponseRead => {
                    (LimitKind::IdleTimeout, limits.idle_timeout)
                }
                // The body has a deadline of its own.
                WaitingFor::RequestBody => return None,
            };
            Some((limit, waiting, since + timeout))
        });
        let mut next_check = now + interval;
        if let Some((limit, waiting, deadline)) = waiting {
            if deadline > now {
                next_check = next_check.min(deadline);
            } else if has_spared_request
                || waiting != WaitingFor::NextRequest
                || !has_pending_input(stream)
            {
                return (limit, waiting);
            } else {
                // A request came in time, but was not read yet.
                has_spared_request = true;
            }
        }
        tokio::time::sleep_until(next_check).await;
    }
}

/// Returns once the connection was evicted and can be closed without losing a request.
pub async fn evicted(state: &ConnectionState, stream: &TcpStream) {
    state.evicted().await;
    let mut checks = 0..MAX_INPUT_CHECKS;
    loop {
        match state.evictable_since() {
            // A request came just then. Its response says `Connection: close` if it has not started
            // yet; otherwise the connection is closed after it.
            None => tokio::time::sleep(EVICTION_RECHECK_INTERVAL).await,
            // Pending input is read first: it may be a request.
            Some((WaitingFor::RequestHeaders | WaitingFor::NextRequest, _))
                if !state.has_partial_headers()
                    && has_pending_input(stream)
                    && checks.next().is_some() =>
            {
                tokio::task::yield_now().await;
            }
            Some(_) => return,
        }
    }
}

/// Returns once the client of a request to the application has left.
///
/// A client that closes its side may still read, and looks like one that has left. So it has
/// [`LEAVE_TIMEOUT`] to get a response, or more of it. After a reset, it has left.
pub async fn client_left(state: &ConnectionState, stream: &TcpStream) {
    // This interest has no event of its own: only the end of the input makes it ready.
    if stream.ready(Interest::PRIORITY).await.is_err() {
        return;
    }
    let closed_at = Instant::now();
    loop {
        let Some(written_at) = state.ends_with_client() else {
            tokio::time::sleep(LEAVE_TIMEOUT).await;
            continue;
        };
        if is_reset(stream) {
            return;
        }
        let since = written_at.max(closed_at);
        if since.elapsed() >= LEAVE_TIMEOUT {
            return;
        }
        tokio::time::sleep_until(since + LEAVE_TIMEOUT).await;
    }
}

/// Returns once a stopping server has waited long enough for the rest of request headers.
pub async fn stuck(state: &ConnectionState) {
    loop {
        tokio::time::sleep(STUCK_TIMEOUT).await;
        if state.has_partial_headers() {
            return;
        }
    }
}
