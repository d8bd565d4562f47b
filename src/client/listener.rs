//! The check that a connection leads to a program that may receive a token.
//!
//! A token goes only to a program whose user could sign one. The kernel says who listens, before
//! the connection is made. Before its first byte, the kernel says who holds the other end of it.
//! The listener alone proves nothing: another program could accept the connection and close its
//! socket before the question. It could also have bound the address before the daemon listened, and
//! connect to the client while the client connects (RFC 9293, 3.5: simultaneous open).
//!
//! The listeners must be the same at both times, too. Some kernels report the other end as root's
//! before a program has accepted it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::config::user_name;
use crate::sys::{TcpSocket, connected_socket, is_visible_socket, sockets_accepting};

const ROOT: u32 = 0;
/// The user that stands for all users that a user namespace does not know.
const OVERFLOW_USER: u32 = 65534;
/// Limit on the looks at the other end. The kernel needs a moment to establish it, and longer if many
/// connections wait for the daemon.
const MAX_LOOKS: u32 = 1000;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The users who may listen at an address of this machine.
#[derive(Debug, Clone, Copy)]
pub struct ListenerCheck {
    pub address: SocketAddr,
    /// Beside root, who can read every key.
    pub owner: u32,
}

/// The program that listens may not receive a token.
#[derive(Debug, Clone, Error)]
pub enum UntrustedListener {
    #[error(
        "{address} is held by a program of {}, which may not receive a token of {}: `sudo ss -tanp` shows the program", user_name(*.user), user_name(*.owner)
    )]
    OtherUser {
        address: SocketAddr,
        user: u32,
        owner: u32,
    },
    #[error("the program that listens at {0} changed: try again")]
    Changed(SocketAddr),
    #[error("the system does not tell who listens at {0}: {1}")]
    Unknown(SocketAddr, String),
}

impl ListenerCheck {
    /// The sockets that could accept a connection, all of which may.
    fn trusted_sockets(&self) -> Result<Vec<TcpSocket>, UntrustedListener> {
        let unknown =
            |error: io::Error| UntrustedListener::Unknown(self.address, error.to_string());
        let sockets = sockets_accepting(self.address).map_err(unknown)?;
        sockets.iter().try_for_each(|socket| self.trust(socket))?;
        Ok(sockets)
    }

    fn trust(&self, socket: &TcpSocket) -> Result<(), UntrustedListener> {
        if self.is_trusted(socket) {
            return Ok(());
        }
        Err(UntrustedListener::OtherUser {
            address: socket.address,
            user: socket.uid,
            owner: self.owner,
        })
    }

    fn is_trusted(&self, socket: &TcpSocket) -> bool {
        socket.uid == ROOT
            || socket.uid == self.owner
                && (self.owner != OVERFLOW_USER || is_visible_socket(socket.inode))
    }

    /// Checks who holds the other end of the connection from `local`, and that the listeners are
    /// the same as before it was made.
    async fn confirm(
        &self,
        local: Option<SocketAddr>,
        before: &[TcpSocket],
    ) -> Result<(), UntrustedListener> {
        let changed = UntrustedListener::Changed(self.address);
        let local = local.ok_or_else(|| changed.clone())?;
        let other_end = self
            .other_end(local)
            .await?
            .ok_or_else(|| changed.clone())?;
        self.trust(&other_end)?;
        let now = self.trusted_sockets()?;
        if now.is_empty() || now != before {
            return Err(changed);
        }
        Ok(())
    }

    /// The other end of the connection from `local`. `None` if it is closed, or not established in
    /// time.
    async fn other_end(&self, local: SocketAddr) -> Result<Option<TcpSocket>, UntrustedListener> {
        for _ in 0..MAX_LOOKS {
            let socket = connected_socket(self.address, local)
                .map_err(|error| UntrustedListener::Unknown(self.address, error.to_string()))?;
            match socket {
                Some(socket) if socket.is_connecting() => {}
                // Only an accepted socket can be looked up in the descriptors of its process.
                Some(socket) if socket.inode == 0 && socket.uid == OVERFLOW_USER => {}
                Some(socket) if !socket.is_closed() => return Ok(Some(socket)),
                _ => return Ok(None),
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(None)
    }
}

/// The address of this end of a connection.
fn local_address(connection: &impl Connection) -> Option<SocketAddr> {
    let mut details = poem::http::Extensions::new();
    connection.connected().get_extras(&mut details);
    details.get::<HttpInfo>().map(HttpInfo::local_addr)
}

impl<S> Layer<S> for ListenerCheck {
    type Service = CheckedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckedConnector {
            inner,
            check: *self,
        }
    }
}

/// Makes connections to trusted listeners only.
#[derive(Debug, Clone)]
pub struct CheckedConnector<S> {
    inner: S,
    check: ListenerCheck,
}

impl<S, R> Service<R> for CheckedConnector<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: Connection + Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let check = self.check;
        let before = match check.trusted_sockets() {
            Ok(before) => before,
            Err(error) => return Box::pin(async { Err(error.into()) }),
        };
        let connected = self.inner.call(request);
        Box::pin(async move {
            let connection = connected.await?;
            check.confirm(local_address(&connection), &before).await?;
            Ok(connection)
        })
    }
}

/// The first error of this chain that says that the listener is not trusted.
pub fn find_untrusted<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a UntrustedListener> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.into_iter().find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    use tokio::net::TcpStream as AsyncStream;

    use super::*;

    /// Connects after it has run a script, and runs another before it returns.
    struct Connector<F>(F);

    impl<F: FnMut() -> TcpStream> Service<()> for Connector<F> {
        type Response = AsyncStream;
        type Error = BoxError;
        type Future = std::future::Ready<Result<AsyncStream, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            let stream = (self.0)();
            stream.set_nonblocking(true).unwrap();
            std::future::ready(AsyncStream::from_std(stream).map_err(Into::into))
        }
    }

    fn check(address: SocketAddr) -> ListenerCheck {
        let owner = nix::unistd::geteuid().as_raw();
        ListenerCheck { address, owner }
    }

    fn connect(
        check: ListenerCheck,
        script: impl FnMut() -> TcpStream,
    ) -> Result<AsyncStream, UntrustedListener> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let connected = runtime
            .unwrap()
            .block_on(async { check.layer(Connector(script)).call(()).await });
        connected.map_err(|error| error.downcast_ref::<UntrustedListener>().unwrap().clone())
    }

    fn listen(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Says that a test is skipped without root.
    fn runs_as_root(test: &str) -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            let is_ci = std::env::var_os("CI").is_some();
            assert!(!is_ci, "the test needs root, and CI skips nothing");
            let _ = writeln!(io::stderr(), "SKIPPED {test}: it needs root");
        }
        is_root
    }

    /// Creates a socket as another user, if this is root.
    fn as_other_user<T: Send + 'static>(create: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            nix::unistd::setfsuid(12345.into());
            create()
        });
        thread.join().unwrap()
    }

    fn listen_as_other(address: SocketAddr) -> TcpListener {
        as_other_user(move || TcpListener::bind(address).unwrap())
    }

    /// A connection that a program of another user accepted, which then closed its socket.
    fn connect_through_other(address: SocketAddr) -> TcpStream {
        let other = listen_as_other(address);
        let stream = TcpStream::connect(address).unwrap();
        drop(other.accept().unwrap());
        stream
    }

    fn is_changed(result: &Result<AsyncStream, UntrustedListener>) -> bool {
        matches!(result, Err(UntrustedListener::Changed(_)))
    }

    #[test]
    fn listener_of_this_user_is_trusted() {
        let (_listener, address) = listen("127.0.0.1:0");
        connect(check(address), || TcpStream::connect(address).unwrap()).unwrap();
    }

    /// Another program accepts the connection and closes its socket, and the daemon binds the
    /// address before the connection is checked.
    #[test]
    fn address_that_daemon_binds_after_the_connection_is_refused() {
        let (listener, address) = listen("127.0.0.1:0");
        drop(listener);
        let daemon = Mutex::new(None);
        let result = connect(check(address), || {
            let stream = connect_through_other(address);
            *daemon.lock().unwrap() = Some(TcpListener::bind(address).unwrap());
            stream
        });
        assert!(is_changed(&result), "{result:?}");
    }

    /// The daemon closes its socket after the first look. Another program accepts the connection,
    /// and the next daemon binds the address before the second look.
    #[test]
    fn address_that_changes_hands_twice_is_refused() {
        let (listener, address) = listen("127.0.0.1:0");
        let daemon = Mutex::new(Some(listener));
        let result = connect(check(address), || {
            *daemon.lock().unwrap() = None;
            let stream = connect_through_other(address);
            *daemon.lock().unwrap() = Some(TcpListener::bind(address).unwrap());
            stream
        });
        assert!(is_changed(&result), "{result:?}");
    }

    /// The listener that accepted the connection was closed.
    #[test]
    fn listener_that_is_gone_is_refused() {
        let (listener, address) = listen("127.0.0.1:0");
        let listener = Mutex::new(Some(listener));
        let result = connect(check(address), || {
            let stream = TcpStream::connect(address).unwrap();
            *listener.lock().unwrap() = None;
            stream
        });
        assert!(is_changed(&result), "{result:?}");
    }

    #[test]
    fn listener_of_another_user_is_not_connected_to() {
        if !runs_as_root("listener_of_another_user_is_not_connected_to") {
            return;
        }
        for bound in ["127.0.0.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"] {
            let listener = listen_as_other(format!("{bound}:0").parse().unwrap());
            let port = listener.local_addr().unwrap().port();
            let result = connect(check(([127, 0, 0, 1], port).into()), || {
                panic!("a connection was made")
            });
            assert!(
                matches!(
                    result,
                    Err(UntrustedListener::OtherUser { user: 12345, .. })
                ),
                "{bound}: {result:?}"
            );
        }
    }
}
