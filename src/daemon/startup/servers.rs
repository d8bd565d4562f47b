//! Starts the public and the admin server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::fd_limit::connection_pools;
use super::sockets::ListeningSockets;
use crate::api::LastExit;
use crate::auth::{FailedAttempts, Keyring};
use crate::daemon::error::StartError;
use crate::daemon::run::Reloadable;
use crate::instance::{SocketRole, StateFile};
use crate::proxy::Proxy;
use crate::server::admin::{self, AdminState};
use crate::server::control_request::ControlRequest;
use crate::server::public::{self, Mounts};
use crate::server::{self, LogReaderLimit, SelfCheck, Service, Shutdown};

/// How many control requests may wait to be handled.
const MAX_PENDING_REQUESTS: usize = 16;

/// The running servers, and the handles on them.
pub struct RunningServers {
    pub tasks: TaskTracker,
    pub control_requests: mpsc::Receiver<ControlRequest>,
    pub shutdown: Shutdown,
    pub admin: Arc<AdminState>,
    pub self_check: SelfCheck,
    /// Set once this process has taken over; before, the admin API rejects control requests.
    pub is_active: Arc<AtomicBool>,
}

/// Starts the servers on the sockets. They report `state`, `last_exit` and `started` of this
/// instance. `failed_attempts` are those of the old process.
pub fn start_servers(
    sockets: ListeningSockets,
    state: &StateFile,
    last_exit: Option<LastExit>,
    started: Instant,
    reloadable: &Reloadable,
    failed_attempts: &[FailedAttempts],
    mounts: Mounts,
) -> Result<RunningServers, StartError> {
    let (public_address, admin_address) = (sockets.public_address, sockets.admin_address);
    let (control, control_requests) = mpsc::channel(MAX_PENDING_REQUESTS);
    let shutdown = Shutdown::new();
    let is_active = Arc::new(AtomicBool::new(false));
    let settings = reloadable.live_settings.settings();
    let limits = &settings.limits;
    let connections = connection_pools(limits, settings.app.is_some())?;
    let proxy = reloadable.application.as_ref().map(|application| {
        let balancer = Arc::clone(&application.balancer);
        Proxy::new(balancer, Arc::clone(&reloadable.live_settings))
    });
    let public = public::service(
        Arc::clone(&reloadable.health),
        mounts,
        Arc::clone(&connections.public),
        &reloadable.metrics,
        shutdown.clone(),
        Some(Arc::clone(&reloadable.live_settings)),
        proxy,
    );
    let auth = admin::auth_state(
        admin_address,
        Arc::clone(&reloadable.live_settings),
        Keyring::new(
            Arc::clone(&reloadable.keys),
            &state.instance_key.to_secret(),
        ),
        Arc::clone(&reloadable.sessions),
        limits.failed_tokens_per_minute,
    );
    auth.restore_failures(failed_attempts);
    let admin_state = Arc::new(AdminState {
        instance: state.instance.clone(),
        generation: state.generation,
        last_exit,
        started_at: Timestamp::now(),
        started,
        public_address,
        further_public_addresses: sockets
            .extra
            .iter()
            .filter(|extra| extra.role == SocketRole::Public)
            .map(|extra| extra.address)
            .collect(),
        admin_address,
        live_settings: Arc::clone(&reloadable.live_settings),
        health: Arc::clone(&reloadable.health),
        workers: reloadable
            .application
            .as_ref()
            .map(|application| Arc::clone(&application.workers)),
        log_readers: LogReaderLimit::new(Arc::clone(&connections.admin)),
        connections,
        auth,
        metrics: Arc::clone(&reloadable.metrics),
        audit: Arc::clone(&reloadable.audit),
        log_level: Arc::clone(reloadable.log.level()),
        log: state
            .log_file
            .clone()
            .map(|path| reloadable.log.broadcaster(path)),
        control,
        is_active: Arc::clone(&is_active),
        shutdown: shutdown.clone(),
    });
    let admin = admin::service(Arc::clone(&admin_state));
    let mut checked = vec![
        (public_address, Arc::clone(&public)),
        (admin_address, Arc::clone(&admin)),
    ];
    checked.extend(sockets.extra.iter().map(|extra| match extra.role {
        SocketRole::Public => (extra.address, Arc::clone(&public)),
        SocketRole::Admin => (extra.address, Arc::clone(&admin)),
    }));
    let self_check = SelfCheck::new(checked);
    Ok(RunningServers {
        tasks: spawn_listeners(sockets, public, admin, &shutdown),
        control_requests,
        shutdown,
        admin: admin_state,
        self_check,
        is_active,
    })
}

/// Accepts connections on all sockets, each in its own task.
fn spawn_listeners(
    sockets: ListeningSockets,
    public: Arc<Service>,
    admin: Arc<Service>,
    shutdown: &Shutdown,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    for extra in sockets.extra {
        let service = match extra.role {
            SocketRole::Public => &public,
            SocketRole::Admin => &admin,
        };
        let server = server::run(extra.listener, Arc::clone(service), shutdown.clone());
        tasks.spawn(server);
    }
    let (port, over) = (sockets.admin_port, shutdown.clone());
    tasks.spawn(async move {
        over.started().await;
        drop(port);
    });
    for service in [&public, &admin] {
        let (service, over) = (Arc::clone(service), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = over.started() => {}
                () = service.pool().release_memory() => {}
            }
        });
    }
    tasks.spawn(server::run(sockets.public, public, shutdown.clone()));
    tasks.spawn(server::run(sockets.admin, admin, shutdown.clone()));
    tasks.close();
    tasks
}
