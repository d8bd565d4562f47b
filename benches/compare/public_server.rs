//! The public server alone, as the daemon has it, with its metrics and without: what they cost is the difference.
//!
//! It is a mode of the benchmark's own program: the daemon always counts.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fullon_master_api::config::Limits;
use fullon_master_api::health::{Health, Phase};
use fullon_master_api::server::metrics::Metrics;
use fullon_master_api::server::public::{Mounts, service};
use fullon_master_api::server::{ConnectionPool, Shutdown, bind, run};

/// The first argument that asks for this mode; the port is the second, and one of the following the third.
pub const MODE: &str = "serve-public";
pub const COUNTED: &str = "counted";
pub const UNCOUNTED: &str = "uncounted";

/// Serves until it is killed.
pub fn serve(port: &str, how: &str) -> Result<()> {
    let port: u16 = port.parse().context("the port")?;
    let metrics = match how {
        COUNTED => Metrics::new()?,
        UNCOUNTED => Metrics::without_requests()?,
        other => bail!("`{other}` is neither {COUNTED} nor {UNCOUNTED}"),
    };
    let health = Arc::new(Health::new(None));
    health.enter(Phase::Ready);
    let limits = limits();
    let most = usize::try_from(limits.max_connections)?;
    let clients = Arc::new(ConnectionPool::new(limits, most));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = bind((Ipv4Addr::LOCALHOST, port).into())?;
        let shutdown = Shutdown::new();
        let mounts = Mounts::default();
        let service = service(health, mounts, clients, &metrics, shutdown.clone());
        run(listener, service, shutdown).await;
        Ok(())
    })
}

/// The daemon's, unless its settings say otherwise.
fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(75),
        max_header_size: 16 * 1024,
        max_body_size: 1024 * 1024,
        max_connections: 10_000,
        admin_max_connections: 10_000,
        failed_tokens_per_minute: 60,
    }
}
