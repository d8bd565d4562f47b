//! A start-up that holds the lock, to the moment the daemon serves.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::legacy::InstanceResources;
use super::life::Daemon;
use super::reload::Reloadable;
use super::requests::RequestSource;
use super::signals::Signals;
use super::sockets::{ListeningSockets, PassedSocket};
use super::succession::ParentLink;
use super::{
    ExitOutcome, RunMode, StartError, StartOptions, UpgradeChild, descriptors, last_exit,
    load_signing_key, systemd,
};
use crate::api::{Check, LastExit, Phase, VERSION, base_url};
use crate::auth::{
    ConfiguredKeys, Keyring, PreviousKey, RevokedSessions, SessionStore, generate_key,
};
use crate::config::{LiveSettings, LogTarget, Secret, Settings};
use crate::health::Health;
use crate::instance::{
    HandoffPayload, Launch, PidFile, Process, StagedStateFile, StartupReport, StartupReporter,
    StateFile, StoredKey,
};
use crate::logs::{self, InstalledLog, LogBroadcaster, LogFile, LogFileError, StdoutOptions};
use crate::server::admin::AdminState;
use crate::server::control_request::ControlRequest;
use crate::server::metrics::Metrics;
use crate::server::public::Mounts;
use crate::server::{self, ConnectionPool, LogReaderLimit, SelfCheck, Shutdown, admin, public};

/// How many requests may wait to be looked at.
const MAX_PENDING_REQUESTS: usize = 16;

/// What a daemon begins with that it did not make.
struct StartContext {
    pid_file: PidFile,
    sockets: Vec<PassedSocket>,
    are_from_systemd: bool,
    last_exit: Option<LastExit>,
    generation: u32,
    predecessor: Option<OldProcess>,
}

/// The daemon that is replaced.
struct OldProcess {
    parent_link: ParentLink,
    instance_key: Secret,
    configured_key: Option<Secret>,
    previous_key: Option<PreviousKey>,
    checks: Vec<(Check, u64)>,
    stderr: OwnedFd,
    processes: Vec<Process>,
}

impl StartContext {
    fn fresh(settings: &Settings) -> Result<Self, StartError> {
        let pid_file = PidFile::acquire(&settings.pid_file)?;
        Ok(Self {
            last_exit: last_exit::from_state_file(&settings.pid_file),
            pid_file,
            sockets: systemd::passed_sockets().map_err(StartError::Socket)?,
            are_from_systemd: true,
            generation: 1,
            predecessor: None,
        })
    }

    fn inherited(succession: UpgradeChild, settings: &Settings) -> Result<Self, StartError> {
        let (inheritance, bond) = succession.into_parts();
        let last_exit = last_exit::from_handoff(&inheritance, settings);
        let HandoffPayload {
            generation,
            pid_file,
            lock,
            instance_key,
            configured_key,
            previous_key,
            checks,
            stderr,
            sockets,
            predecessors,
            ..
        } = inheritance;
        Ok(Self {
            pid_file: PidFile::inherit(&settings.pid_file, &pid_file, lock)?,
            sockets: sockets.into_iter().map(PassedSocket::from).collect(),
            are_from_systemd: false,
            last_exit: Some(last_exit),
            generation: generation + 1,
            predecessor: Some(OldProcess {
                parent_link: bond,
                instance_key: instance_key.to_secret(),
                configured_key: configured_key.map(|key| key.to_secret()),
                previous_key: previous_key.map(|(key, counts_for)| PreviousKey {
                    secret: key.to_secret(),
                    valid_for: Duration::from_millis(counts_for),
                }),
                checks,
                stderr,
                processes: predecessors,
            }),
        })
    }
}

impl OldProcess {
    /// The key that counts beside `key` for a while: the one that the predecessor had, or the one that it had before.
    fn previous_key(&self, key: &Secret, grace: Duration) -> Option<PreviousKey> {
        let configured = self.configured_key.clone()?;
        if configured.expose() == key.expose() {
            return self.previous_key.clone().map(|previous| PreviousKey {
                valid_for: previous.valid_for.min(grace),
                ..previous
            });
        }
        Some(PreviousKey {
            secret: configured,
            valid_for: grace,
        })
    }
}

/// A start-up that holds the lock.
pub struct Startup {
    settings: Settings,
    launch: Launch,
    mode: RunMode,
    mounts: Mounts,
    context: StartContext,
    started: Instant,
}

/// What tells one daemon from the next.
struct Identity<'a> {
    generation: u32,
    instance_key: &'a Secret,
}

impl<'a> Identity<'a> {
    fn new(generation: u32, instance_key: &'a Secret) -> Self {
        Self {
            generation,
            instance_key,
        }
    }

    fn state(
        &self,
        settings: &Settings,
        launch: &Launch,
        mode: RunMode,
        sockets: &ListeningSockets,
    ) -> Result<StateFile, StartError> {
        let origin = launch.settings_location.clone();
        Ok(StateFile {
            pid: std::process::id(),
            instance: uuid::Uuid::new_v4().to_string(),
            admin: base_url(local_address(&sockets.admin)?),
            server: base_url(local_address(&sockets.public)?),
            log_file: settings.log.target.file().map(Into::into),
            instance_key: StoredKey::new(self.instance_key.expose()),
            working_directory: origin.directory,
            env_file: origin.env_file,
            flags: origin.flags,
            in_background: mode.is_background(),
            generation: self.generation,
            drain_delay: settings.drain_delay,
            failed_restart: None,
            ended_sessions: RevokedSessions::default(),
            exit: None,
        })
    }
}

/// Servers that run, and what they need to be stopped.
struct RunningServers {
    servers: TaskTracker,
    control_requests: mpsc::Receiver<ControlRequest>,
    shutdown: Shutdown,
    probe: SelfCheck,
    is_active: Arc<AtomicBool>,
}

impl Startup {
    /// Takes the lock, or what the predecessor gives.
    pub fn new(start: StartOptions) -> Result<Self, StartError> {
        let started = Instant::now();
        let StartOptions {
            settings,
            launch,
            mode,
            upgrade: succession,
            mounts,
            reporter: _,
        } = start;
        let origins = match succession {
            Some(succession) => StartContext::inherited(succession, &settings)?,
            None => StartContext::fresh(&settings)?,
        };
        Ok(Self {
            settings,
            launch,
            mode,
            mounts,
            context: origins,
            started,
        })
    }

    /// Serves, says so, and lives.
    #[expect(clippy::too_many_lines, reason = "split in the next commits")]
    pub async fn run(
        self,
        announcer: &mut Option<StartupReporter>,
    ) -> Result<ExitOutcome, StartError> {
        let Self {
            settings,
            launch,
            mode,
            mounts,
            context: origins,
            started,
        } = self;
        let StartContext {
            mut pid_file,
            sockets,
            are_from_systemd,
            last_exit,
            generation,
            predecessor,
        } = origins;
        let is_up = !sockets.is_empty();
        let sockets = ListeningSockets::open(&settings, sockets, are_from_systemd)?;
        let signals = Signals::install().map_err(StartError::Signals)?;
        let key = load_signing_key(&settings)?;
        let instance_key = match &predecessor {
            Some(predecessor) => predecessor.instance_key.clone(),
            None => generate_key()?,
        };
        let keys = token_keys(&key, predecessor.as_ref(), &settings);
        let log = open_log(&settings, mode, predecessor.is_some())?;
        let identity = Identity::new(generation, &instance_key);
        let mut state = identity.state(&settings, &launch, mode, &sockets)?;
        state.ended_sessions = read_ended_sessions(&pid_file);
        // Before anybody is served: who was would lose the connection if this failed.
        let staged_state = state.stage(pid_file.path())?;
        let shared_sockets = sockets.clone_for_handoff().map_err(StartError::Socket)?;
        let health = start_health(&settings, &log, predecessor.as_ref());
        let reloadable = Reloadable {
            live_settings: Arc::new(LiveSettings::new(
                launch.settings_location.clone(),
                settings,
            )),
            log,
            health,
            sessions: Arc::new(SessionStore::new(
                Arc::clone(&keys),
                state.ended_sessions.clone(),
            )),
            keys,
            is_background: mode.is_background(),
            metrics: Arc::new(Metrics::new().map_err(StartError::Metrics)?),
        };
        let about = InstanceInfo {
            state: &state,
            instance_key: &instance_key,
            last_exit,
            started,
            is_up,
        };
        let serving = start_servers(sockets, about, &reloadable, mounts)?;

        let (predecessors, bond) = match predecessor {
            None => {
                publish_instance(staged_state, &mut pid_file)?;
                (Vec::new(), None)
            }
            Some(predecessor) => {
                serving
                    .probe
                    .run()
                    .await
                    .map_err(StartError::ServersUnresponsive)?;
                if !mode.is_background() {
                    rustix::stdio::dup2_stderr(&predecessor.stderr)
                        .map_err(|errno| StartError::Stdio(errno.into()))?;
                }
                predecessor
                    .parent_link
                    .commit(|| publish_instance(staged_state, &mut pid_file))?;
                (predecessor.processes, Some(predecessor.parent_link))
            }
        };
        serving.is_active.store(true, Ordering::Release);
        reloadable.health.enter(Phase::Ready);
        report_ready(&state, &reloadable.log, announcer);
        tokio::spawn(run_exclusive_tasks(
            bond,
            reloadable.log.rotation_switch(),
            serving.probe,
            serving.shutdown.clone(),
        ));

        let life = Daemon {
            requests: RequestSource {
                control_requests: serving.control_requests,
                signals,
            },
            reloadable,
            resources: InstanceResources {
                launch,
                mode,
                state,
                pid_file,
                sockets: shared_sockets,
                predecessors,
            },
            shutdown: serving.shutdown,
            servers: serving.servers,
        };
        Ok(life.run().await)
    }
}

/// Does what is for one process only, once the predecessor does it no more.
async fn run_exclusive_tasks(
    bond: Option<ParentLink>,
    rotates: impl Fn(bool) + Send,
    probe: SelfCheck,
    shutdown: Shutdown,
) {
    match bond {
        // Which has told systemd who the main process is.
        Some(bond) => bond.parent_released().await,
        None => systemd::notify(&[NotifyState::Ready, NotifyState::Status("serving")]),
    }
    // Whoever was replaced meanwhile has left that to its successor.
    if shutdown.has_successor() {
        return;
    }
    rotates(true);
    systemd::run_watchdog(&probe, &shutdown).await;
}

/// What the servers tell of this daemon.
struct InstanceInfo<'a> {
    state: &'a StateFile,
    instance_key: &'a Secret,
    last_exit: Option<LastExit>,
    started: Instant,
    /// Whether clients were let in before this process serves, by a predecessor or by systemd: then the service is up for
    /// them, whichever process answers.
    is_up: bool,
}

fn start_servers(
    sockets: ListeningSockets,
    about: InstanceInfo<'_>,
    reloadable: &Reloadable,
    mounts: Mounts,
) -> Result<RunningServers, StartError> {
    let (public_address, admin_address) = (
        local_address(&sockets.public)?,
        local_address(&sockets.admin)?,
    );
    let (sender, orders) = mpsc::channel(MAX_PENDING_REQUESTS);
    let shutdown = Shutdown::new();
    let is_in_charge = Arc::new(AtomicBool::new(false));
    let health = Arc::clone(&reloadable.health);
    if about.is_up {
        health.enter(Phase::Ready);
    }
    let settings = reloadable.live_settings.settings();
    let limits = &settings.limits;
    let clients = descriptors::connection_limits(limits)?
        .map(|most| Arc::new(ConnectionPool::new(limits.clone(), most)));
    let readers = LogReaderLimit::new(Arc::clone(&clients[1]));
    let gate = admin::auth_state(
        admin_address,
        Keyring::new(Arc::clone(&reloadable.keys), about.instance_key),
        Arc::clone(&reloadable.sessions),
        limits.failed_tokens_per_minute,
    );
    let log_file = about.state.log_file.clone();
    let public = public::service(
        Arc::clone(&health),
        mounts,
        Arc::clone(&clients[0]),
        &reloadable.metrics,
        shutdown.clone(),
    );
    let admin = admin::service(AdminState {
        instance: about.state.instance.clone(),
        generation: about.state.generation,
        last_exit: about.last_exit,
        started_at: Timestamp::now(),
        started: about.started,
        public_address,
        admin_address,
        live_settings: Arc::clone(&reloadable.live_settings),
        health: Arc::clone(&health),
        connections: clients,
        auth: gate,
        metrics: Arc::clone(&reloadable.metrics),
        log_level: Arc::clone(reloadable.log.level()),
        log: log_file.map(LogBroadcaster::new),
        control: sender,
        is_active: Arc::clone(&is_in_charge),
        shutdown: shutdown.clone(),
        log_readers: readers,
    });
    let probe = SelfCheck::new([
        (public_address, Arc::clone(&public)),
        (admin_address, Arc::clone(&admin)),
    ]);
    let servers = TaskTracker::new();
    for listener in sockets.extra_public {
        servers.spawn(server::run(listener, Arc::clone(&public), shutdown.clone()));
    }
    servers.spawn(server::run(sockets.public, public, shutdown.clone()));
    servers.spawn(server::run(sockets.admin, admin, shutdown.clone()));
    servers.close();
    Ok(RunningServers {
        servers,
        control_requests: orders,
        shutdown,
        probe,
        is_active: is_in_charge,
    })
}

fn local_address(listener: &TcpListener) -> Result<std::net::SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Socket)
}

/// The configured key, and for a while the one that the predecessor had.
fn token_keys(
    key: &Secret,
    predecessor: Option<&OldProcess>,
    settings: &Settings,
) -> Arc<ConfiguredKeys> {
    let previous =
        predecessor.and_then(|predecessor| predecessor.previous_key(key, settings.key_grace));
    Arc::new(ConfiguredKeys::new(key, previous))
}

/// Sessions that were signed out while another process had the PID file, however that one ended.
fn read_ended_sessions(pid_file: &PidFile) -> RevokedSessions {
    StateFile::read_last(pid_file.path())
        .map(|state| state.ended_sessions)
        .unwrap_or_default()
}

/// Tells whoever waits that the daemon serves.
fn report_ready(state: &StateFile, log: &InstalledLog, announcer: &mut Option<StartupReporter>) {
    tracing::info!(
        version = VERSION,
        pid = state.pid,
        generation = state.generation,
        server = state.server,
        admin = state.admin,
        "ready"
    );
    // Whoever reads the log after `fullon start` finds the start in it.
    log.flush(Duration::from_secs(1));
    if let Some(announcer) = announcer.take() {
        announcer.send(&StartupReport::Ready {
            pid: state.pid,
            server: state.server.clone(),
            admin: state.admin.clone(),
        });
    }
}

/// Health of a process that starts, and watches what it depends on. What the predecessor knows of that holds until it is
/// known better.
fn start_health(
    settings: &Settings,
    log: &InstalledLog,
    predecessor: Option<&OldProcess>,
) -> Arc<Health> {
    let health = Arc::new(Health::new(log.health().cloned()));
    let known = predecessor.map_or(&[][..], |predecessor| &predecessor.checks);
    health.watch_dependencies(&settings.dependencies, known, predecessor.is_some());
    health
}

/// Tells the machine who we are.
fn publish_instance(state: StagedStateFile, pid_file: &mut PidFile) -> Result<(), StartError> {
    state.publish()?;
    pid_file.claim()?;
    Ok(())
}

fn open_log(
    settings: &Settings,
    mode: RunMode,
    is_shared: bool,
) -> Result<InstalledLog, StartError> {
    let terminal = match mode {
        RunMode::Background => None,
        RunMode::Foreground { terminal, .. } => terminal,
    };
    let (file, stdout) = match &settings.log.target {
        LogTarget::Stdout => (
            None,
            Some(terminal.unwrap_or(StdoutOptions { colour: false })),
        ),
        LogTarget::File(path) => {
            let file = LogFile::open(path, &settings.log);
            let mut file = file.map_err(|error| match error {
                LogFileError::Io { .. } if !mode.is_background() => {
                    StartError::LogFileInForeground(error)
                }
                error => error.into(),
            })?;
            if is_shared {
                file = file.without_rotation();
            }
            if mode.is_background() {
                file.redirect_stdio().map_err(StartError::Stdio)?;
            }
            (Some(file), terminal)
        }
    };
    let log = logs::install(&settings.log, file, stdout)?;
    tokio::spawn(log.retry_writes());
    Ok(log)
}
