//! Starts the public and the admin server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::fd_limit::connection_limits;
use super::sockets::ListeningSockets;
use crate::api::LastExit;
use crate::auth::Keyring;
use crate::config::Secret;
use crate::daemon::error::StartError;
use crate::daemon::run::Reloadable;
use crate::health::Phase;
use crate::instance::StateFile;
use crate::logs::LogBroadcaster;
use crate::server::admin::{self, AdminState};
use crate::server::control_request::ControlRequest;
use crate::server::public::{self, Mounts};
use crate::server::{self, ConnectionPool, LogReaderLimit, SelfCheck, Shutdown};

/// How many control requests may wait to be handled.
const MAX_PENDING_REQUESTS: usize = 16;

/// What the servers report about this instance.
pub struct InstanceInfo<'a> {
    pub state: &'a StateFile,
    pub instance_key: &'a Secret,
    pub last_exit: Option<LastExit>,
    pub started: Instant,
    /// Whether the old process or systemd accepted connections before this process does. Then
    /// clients see the service as up, whichever process answers.
    pub is_up: bool,
}

/// Servers that run, and the handles on them.
pub struct RunningServers {
    pub tasks: TaskTracker,
    pub control_requests: mpsc::Receiver<ControlRequest>,
    pub shutdown: Shutdown,
    pub self_check: SelfCheck,
    /// Set once this process has taken over; before, the admin API rejects control requests.
    pub is_active: Arc<AtomicBool>,
}

/// Starts the servers on the sockets.
pub fn start_servers(
    sockets: ListeningSockets,
    info: InstanceInfo<'_>,
    reloadable: &Reloadable,
    mounts: Mounts,
) -> Result<RunningServers, StartError> {
    let public_address = local_address(&sockets.public)?;
    let admin_address = local_address(&sockets.admin)?;
    let (control, control_requests) = mpsc::channel(MAX_PENDING_REQUESTS);
    let shutdown = Shutdown::new();
    let is_active = Arc::new(AtomicBool::new(false));
    if info.is_up {
        reloadable.health.enter(Phase::Ready);
    }
    let settings = reloadable.live_settings.settings();
    let limits = &settings.limits;
    let connections =
        connection_limits(limits)?.map(|max| Arc::new(ConnectionPool::new(limits.clone(), max)));
    let public = public::service(
        Arc::clone(&reloadable.health),
        mounts,
        Arc::clone(&connections[0]),
        &reloadable.metrics,
        shutdown.clone(),
    );
    let admin = admin::service(AdminState {
        instance: info.state.instance.clone(),
        generation: info.state.generation,
        last_exit: info.last_exit,
        started_at: Timestamp::now(),
        started: info.started,
        public_address,
        admin_address,
        live_settings: Arc::clone(&reloadable.live_settings),
        health: Arc::clone(&reloadable.health),
        log_readers: LogReaderLimit::new(Arc::clone(&connections[1])),
        connections,
        auth: admin::auth_state(
            admin_address,
            Keyring::new(Arc::clone(&reloadable.keys), info.instance_key),
            Arc::clone(&reloadable.sessions),
            limits.failed_tokens_per_minute,
        ),
        metrics: Arc::clone(&reloadable.metrics),
        log_level: Arc::clone(reloadable.log.level()),
        log: info.state.log_file.clone().map(LogBroadcaster::new),
        control,
        is_active: Arc::clone(&is_active),
        shutdown: shutdown.clone(),
    });
    let self_check = SelfCheck::new([
        (public_address, Arc::clone(&public)),
        (admin_address, Arc::clone(&admin)),
    ]);
    let tasks = TaskTracker::new();
    for listener in sockets.extra_public {
        tasks.spawn(server::run(listener, Arc::clone(&public), shutdown.clone()));
    }
    tasks.spawn(server::run(sockets.public, public, shutdown.clone()));
    tasks.spawn(server::run(sockets.admin, admin, shutdown.clone()));
    tasks.close();
    Ok(RunningServers {
        tasks,
        control_requests,
        shutdown,
        self_check,
        is_active,
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Socket)
}
