//! Graceful shutdown. The server runs in process, so that the test decides who acts first.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fullon_master_api::config::Limits;
use fullon_master_api::health::{Health, Phase};
use fullon_master_api::server::metrics::Metrics;
use fullon_master_api::server::public::{Mounts, service};
use fullon_master_api::server::{
    ConnectionPool, MAX_REFUSALS, SelfCheck, Service, Shutdown, bind, run,
};
use poem::{Body, EndpointExt as _, get, handler, post, web::Data};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::{Connection, DEADLINE, Home};

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
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
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

#[tokio::test]
async fn in_flight_request_finishes_and_new_ones_are_refused() {
    let server = Server::start();
    let mut connection = server.slow_request().await;
    server.shutdown.start();
    server
        .run_blocking(|host| {
            crate::support::eventually("the listener closes", || {
                TcpStream::connect(&host).is_err()
            });
        })
        .await;
    server.permits.add_permits(1);
    let answer = server
        .run_blocking(move |_| (connection.read_response("GET"), connection.read_to_end()))
        .await;
    assert_eq!((answer.0.status, answer.0.body.as_str()), (200, "done"));
    assert_eq!(answer.0.header("connection"), Some("close"));
    assert_eq!(answer.1, "");
    server.wait_for_end().await;
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

/// With one thread, the server does not run between two awaits of the test. So it has not read
/// these requests when the shutdown begins.
#[tokio::test(flavor = "current_thread")]
async fn request_sent_before_shutdown_is_answered() {
    let server = Server::start();
    // One on a connection that is not accepted yet,
    let mut fresh = TcpStream::connect(server.address).unwrap();
    fresh
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // and one on a kept idle connection.
    let mut kept = TcpStream::connect(server.address).unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    kept.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let mut first = 0;
    wait_until(|| {
        first = kept.read(&mut buffer).unwrap_or(0);
        first > 0
    })
    .await;
    kept.set_nonblocking(false).unwrap();
    let mut second = TcpStream::connect(server.address).unwrap();
    second
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    kept.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();

    server.shutdown.start();
    let texts = server
        .run_blocking(move |_| {
            [fresh, kept, second].map(|mut stream| {
                let mut text = String::new();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.read_to_string(&mut text).unwrap();
                text
            })
        })
        .await;
    assert!(texts[0].starts_with("HTTP/1.1 200"), "{texts:?}");
    assert!(
        texts[1].contains("alive") && texts[1].contains("connection: close"),
        "{texts:?}"
    );
    assert!(
        texts[2].contains("healthy") && texts[2].contains("connection: close"),
        "{texts:?}"
    );
    server.wait_for_end().await;
}

#[tokio::test]
async fn idle_and_half_sent_requests_do_not_delay_shutdown() {
    let server = Server::start();
    let connections = server
        .run_blocking(|host| {
            let mut used = Connection::open(&host);
            used.send("GET", "/health", &[], "");
            used.read_response("GET");
            let mut half = Connection::open(&host);
            half.send_bytes(b"GET /health HTTP/1.1\r\nHos");
            // A response on a later connection shows that the earlier ones were read.
            let mut later = Connection::open(&host);
            later.send("GET", "/health", &[], "");
            later.read_response("GET");
            (used, half, Connection::open(&host))
        })
        .await;
    server.shutdown.start();
    let Server { task, .. } = server;
    tokio::time::timeout(Duration::from_secs(5), task)
        .await
        .expect("the server waited for idle clients")
        .unwrap();
    drop(connections);
}

#[tokio::test]
async fn forced_shutdown_cuts_off_requests() {
    let server = Server::start();
    let connection = server.slow_request().await;
    server.shutdown.start();
    assert!(!server.task.is_finished());
    server.shutdown.force();
    server.wait_for_end().await;
    drop(connection);
}

/// As the watchdog checks its own servers before each notification.
#[tokio::test]
async fn self_check_passes_when_connections_are_full() {
    let server = Server::with_max_connections(1);
    let busy = server.slow_request().await;
    let refused = server
        .run_blocking(|host| {
            // Refused clients may read the reason, and there is no room for more of these either.
            [(); MAX_REFUSALS].map(|()| {
                let mut refused = Connection::open(&host);
                assert_eq!(refused.read_response("GET").status, 503);
                refused
            })
        })
        .await;
    let probed = (server.address, Arc::clone(&server.service));
    let probe = SelfCheck::new([probed.clone(), probed]);
    tokio::time::timeout(DEADLINE, probe.run())
        .await
        .expect("the self-check does not pass")
        .unwrap();
    server.shutdown.force();
    server.wait_for_end().await;
    drop((busy, refused));
}

#[tokio::test]
async fn health_follows_phase_and_panic_is_a_response() {
    let server = Server::start();
    let health = Arc::clone(&server.health);
    server
        .run_blocking(move |host| {
            let mut connection = Connection::open(&host);
            let mut ask = |path: &str| {
                connection.send("GET", path, &[], "");
                connection.read_response("GET")
            };
            ask("/panics").assert_problem(500, "failed");
            for (phase, status) in [
                (Phase::Starting, 503),
                (Phase::Ready, 200),
                (Phase::Draining, 503),
            ] {
                health.enter(phase);
                let summary = ask("/health");
                let word = if status == 200 {
                    "healthy"
                } else {
                    "unhealthy"
                };
                assert_eq!(
                    (summary.status, summary.json()["status"].as_str()),
                    (status, Some(word))
                );
                let ready = ask("/health/ready");
                assert_eq!(
                    (ready.status, &ready.json()["ready"]),
                    (status, &(status == 200).into())
                );
                assert_eq!(ask("/health/live").status, 200);
            }
        })
        .await;
    server.shutdown.force();
    server.wait_for_end().await;
}

#[test]
fn request_cut_off_by_deadline_is_logged_as_503() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "0s");
    home.run(["start"]).succeeds();
    let _request = home.unfinished_request();
    home.run(["stop"]).succeeds();
    let log = home.log();
    for parts in [
        [" access: ", "path=\"/admin/stop\" status=503"],
        [
            " audit: action=\"stop\" outcome=\"refused\"",
            "status=503 reason=\"the deadline",
        ],
    ] {
        let matches = |line: &str| parts.iter().all(|word| line.contains(word));
        assert!(log.lines().any(matches), "no {parts:?} in {log}");
    }
}

#[test]
fn unread_log_stream_does_not_delay_shutdown() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    home.run(["start"]).succeeds();
    let line = "x".repeat(60_000);
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    for _ in 0..400 {
        writeln!(log, "{line}").unwrap();
    }
    let token = home.token("admin:logs");
    let mut follower = Connection::open(&home.admin_address());
    let header = format!("Bearer {token}");
    follower.send(
        "GET",
        "/admin/logs/stream?lines=10000",
        &[("Authorization", &header)],
        "",
    );
    assert_eq!(follower.read_head().status, 200);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
}

/// Reads without waiting. `None` if nothing has arrived and the connection is open.
fn try_read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = [0; 4096];
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn timeouts_close_slow_clients_but_not_slow_handlers() {
    async fn let_the_server_run() {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }

    let server = Server::start();
    let open = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut slow_headers = open("GET /health HTTP/1.1\r\nHos");
    let mut idle = open("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut silent = open("");
    let mut slow_answer = open("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut slow_body = open("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234");
    let_the_server_run().await;
    assert!(try_read(&mut idle).unwrap().starts_with("HTTP/1.1 200"));
    let after = async |milliseconds| {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
        let_the_server_run().await;
    };
    after(9_900).await;
    for stream in [
        &mut slow_headers,
        &mut idle,
        &mut silent,
        &mut slow_answer,
        &mut slow_body,
    ] {
        assert_eq!(try_read(stream), None);
    }
    after(200).await;
    let response = try_read(&mut slow_headers).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 408 ") && response.contains("did not come within 10s"),
        "{response}"
    );
    assert_eq!(try_read(&mut silent).as_deref(), Some(""));
    // Request headers that begin late get the full timeout.
    idle.write_all(b"GET /hea").unwrap();
    let_the_server_run().await;
    after(9_800).await;
    assert_eq!(
        (try_read(&mut idle), try_read(&mut slow_body)),
        (None, None)
    );
    after(300).await;
    assert!(try_read(&mut idle).unwrap().starts_with("HTTP/1.1 408 "));
    let response = try_read(&mut slow_body).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 408 ")
            && response.contains("the body did not come within 20s"),
        "{response}"
    );
    let mut kept = open("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let_the_server_run().await;
    assert!(try_read(&mut kept).unwrap().starts_with("HTTP/1.1 200"));
    after(29_800).await;
    assert_eq!(try_read(&mut kept), None);
    after(300).await;
    assert_eq!(try_read(&mut kept).as_deref(), Some(""));
    assert_eq!(try_read(&mut slow_answer), None);
    server.permits.add_permits(1);
    let_the_server_run().await;
    assert!(try_read(&mut slow_answer).unwrap().ends_with("done"));
}
