//! Graceful shutdown. The server runs in process, so that the test decides who acts first.

mod health;
mod in_flight;
mod timeouts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fullon_master_api::config::Limits;
use fullon_master_api::health::{Health, Phase};
use fullon_master_api::server::metrics::Metrics;
use fullon_master_api::server::public::{Mounts, service};
use fullon_master_api::server::{ConnectionPool, Service, Shutdown, run};
use fullon_master_api::sys::listen;
use poem::{Body, EndpointExt as _, get, handler, post, web::Data};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::{Connection, DEADLINE};

#[handler]
async fn slow(permits: Data<&Arc<Semaphore>>) -> &'static str {
    permits.acquire().await.map(drop).unwrap();
    "done"
}

#[handler]
async fn length(body: Body) -> poem::Result<String> {
    Ok(body.into_bytes().await?.len().to_string())
}

#[handler]
fn panics() -> &'static str {
    panic!("intended by the test")
}

fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(30),
        max_header_size: 16 * 1024,
        max_body_size: 64 * 1024,
        max_connections: 1000,
        admin_max_connections: 1000,
        failed_tokens_per_minute: 1000,
    }
}

/// A public server whose `/slow` responds once it gets a permit.
struct Server {
    address: SocketAddr,
    service: Arc<Service>,
    shutdown: Shutdown,
    health: Arc<Health>,
    permits: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        Self::with_max_connections(1000)
    }

    fn with_max_connections(max_connections: usize) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let health = Arc::new(Health::new(None));
        health.enter(Phase::Ready);
        let permits = Arc::new(Semaphore::new(0));
        let mut mounts = Mounts::default();
        mounts.add("/slow", get(slow).data(Arc::clone(&permits)));
        mounts.add("/panics", get(panics));
        mounts.add("/length", post(length));
        let service = service(
            Arc::clone(&health),
            mounts,
            Arc::new(ConnectionPool::new(limits(), max_connections)),
            &Metrics::new().unwrap(),
            shutdown.clone(),
            None,
            None,
        );
        Self {
            address,
            task: tokio::spawn(run(listener, Arc::clone(&service), shutdown.clone())),
            service,
            shutdown,
            health,
            permits,
        }
    }

    /// Runs the client in a thread, so that it can use blocking sockets.
    async fn run_blocking<T: Send + 'static>(
        &self,
        test: impl FnOnce(String) -> T + Send + 'static,
    ) -> T {
        let address = self.address.to_string();
        tokio::task::spawn_blocking(move || test(address))
            .await
            .unwrap()
    }

    /// A request that waits in its handler for a permit.
    async fn slow_request(&self) -> Connection {
        let connection = self
            .run_blocking(|host| {
                let mut connection = Connection::open(&host);
                connection.send("GET", "/slow", &[], "");
                connection
            })
            .await;
        // The handler holds a reference besides ours and the router's.
        wait_until(|| Arc::strong_count(&self.permits) > 2).await;
        connection
    }

    async fn wait_for_end(self) {
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("the server did not end")
            .unwrap();
    }
}

/// Lets the server run until the condition holds.
async fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "not within {DEADLINE:?}"
        );
        tokio::task::yield_now().await;
    }
}
