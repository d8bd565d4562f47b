//! Forwards requests to the workers of the application.
//!
//! This module knows no process. `workers` adds a worker to the [`Balancer`] once it is ready, and
//! removes it before it stops. `server` gives requests to [`Proxy::forward`].
//!
//! | part | role |
//! |---|---|
//! | `balancer` | chooses the worker: the one with the fewest requests in flight |
//! | `upstream` | a worker: its load, and a stack of connections that wait for a request |
//! | `connection`, `stream` | one HTTP/1.1 connection by hyper, and the socket below it |
//! | `forward` | one request from start to end |
//! | `request_body`, `response_body` | the bodies on their way |
//! | `headers`, `trace` | headers that are removed, set and kept |
//! | `tunnel` | a WebSocket after its response |
//! | `probe` | one request that shows whether a worker is ready |
//!
//! **A request** is read up to 64 KiB before a worker is chosen. It waits for a worker for
//! `APP_QUEUE_TIMEOUT`. It takes the connection that was used last, or a new one. A worker that cannot
//! be reached was sent nothing, so the request waits for another one.
//!
//! **It is sent again** once, on a new connection, and only if the worker cannot have seen it: the
//! kernel took no byte; or if a second time does no harm: the method is idempotent, the body is
//! wholly here, and no byte of a response came. The socket counts these bytes, because hyper does
//! not say how far it was. A request is never sent again after `APP_TIMEOUT`.
//!
//! **No task per connection.** The future of the request drives the connection to the worker, then
//! the body of the response does. So both sides of a request run in one task, and dropping it, when
//! the client leaves, closes the connection to the worker. That is the only way to cancel a request
//! of HTTP/1.1.
//!
//! **Framing is rebuilt** from the parsed body in both directions, so both sides agree where a
//! message ends. A response that breaks off is an error of its body, and the server then resets the
//! client's connection.

mod balancer;
mod connection;
mod error;
mod forward;
mod headers;
mod probe;
mod request_body;
mod response_body;
mod stats;
mod stream;
mod trace;
mod tunnel;
mod upstream;

pub use balancer::Balancer;
pub use error::{ErrorReason, ProxyError};
pub use forward::Proxy;
pub use headers::Forwarded;
pub use probe::{ProbeError, probe};
pub use response_body::ProxyBody;
pub use stats::ProxyStats;
pub use stream::UpstreamAddress;
pub use tunnel::Tunnel;
pub use upstream::Upstream;
