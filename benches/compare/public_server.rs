//! The daemon's public server alone, with and without metrics. The difference is their cost.
//!
//! A mode of the benchmark's program, because the daemon always has metrics.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fullon_master_api::config::Limits;
use fullon_master_api::health::{Health, Phase};
use fullon_master_api::server::metrics::Metrics;
use fullon_master_api::server::public::{Mounts, service};
use fullon_master_api::server::{ConnectionPool, Shutdown, run};
use fullon_master_api::sys::listen;

/// The first argument of this mode. The second is the port, the third one of the two below.
pub const MODE: &str = "serve-public";
pub const WITH_METRICS: &str = "counted";
pub const WITHOUT_METRICS: &str = "uncounted";

/// Serves until it is killed.
pub fn serve(port: &str, metrics: &str) -> Result<()> {
    let port: u16 = port.parse().context("the port")?;
    let metrics = match metrics {
        WITH_METRICS => Metrics::new()?,
        WITHOUT_METRICS => Metrics::without_requests()?,
        other => bail!("`{other}` is neither {WITH_METRICS} nor {WITHOUT_METRICS}"),
    };
    let health = Arc::new(Health::new(None));
    health.enter(Phase::Ready);
    let limits = default_limits();
    let max_connections = usize::try_from(limits.max_connections)?;
    let pool = Arc::new(ConnectionPool::new(limits, max_connections));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = listen((Ipv4Addr::LOCALHOST, port).into())?;
        let shutdown = Shutdown::new();
        let mounts = Mounts::default();
        let service = service(health, mounts, pool, &metrics, shutdown.clone(), None, None);
        run(listener, service, shutdown).await;
        Ok(())
    })
}

/// The daemon's default limits.
fn default_limits() -> Limits {
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
