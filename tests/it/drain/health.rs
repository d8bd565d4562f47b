//! Health, self-check, and panics.

use std::sync::Arc;

use fullon_master_api::health::Phase;
use fullon_master_api::server::{MAX_REFUSALS, SelfCheck};

use super::Server;
use crate::support::{Connection, DEADLINE};

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
            ask("/panics").assert_problem(500, "internal error");
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
