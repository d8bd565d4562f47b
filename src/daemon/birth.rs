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

use super::legacy::Legacy;
use super::life::Life;
use super::reload::Reloadable;
use super::requests::Requests;
use super::signals::Signals;
use super::sockets::{Passed, Sockets};
use super::succession::Bond;
use super::{
    Ended, Mode, Start, StartError, Succession, configured_key, descriptors, last_exit, systemd,
};
use crate::api::{Check, LastExit, Phase, VERSION, base_url};
use crate::auth::{ConfiguredKeys, EndedSessions, Keyring, PreviousKey, Sessions, random_key};
use crate::config::{InForce, LogTarget, Secret, Settings};
use crate::health::Health;
use crate::instance::{
    Announcement, Announcer, Inheritance, Launch, PidFile, Process, StagedState, State, StoredKey,
};
use crate::logs::{self, InstalledLog, LogFile, LogFileError, Stdout, Watcher};
use crate::server::admin::Context;
use crate::server::metrics::Metrics;
use crate::server::orders::Order;
use crate::server::public::Mounts;
use crate::server::{self, Clients, Probe, Readers, Shutdown, admin, public};

/// How many requests may wait to be looked at.
const REQUESTS: usize = 16;

/// What a daemon begins with that it did not make.
struct Origins {
    pid_file: PidFile,
    sockets: Vec<Passed>,
    are_from_systemd: bool,
    last_exit: Option<LastExit>,
    generation: u32,
    predecessor: Option<Predecessor>,
}

/// The daemon that is replaced.
struct Predecessor {
    bond: Bond,
    instance_key: Secret,
    configured_key: Option<Secret>,
    previous_key: Option<PreviousKey>,
    checks: Vec<(Check, u64)>,
    stderr: OwnedFd,
    processes: Vec<Process>,
}

impl Origins {
    fn found(settings: &Settings) -> Result<Self, StartError> {
        let pid_file = PidFile::acquire(&settings.pid_file)?;
        Ok(Self {
            last_exit: last_exit::of_previous(&settings.pid_file),
            pid_file,
            sockets: systemd::passed_sockets().map_err(StartError::Socket)?,
            are_from_systemd: true,
            generation: 1,
            predecessor: None,
        })
    }

    fn inherited(succession: Succession, settings: &Settings) -> Result<Self, StartError> {
        let (inheritance, bond) = succession.split();
        let last_exit = last_exit::of_predecessor(&inheritance, settings);
        let Inheritance {
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
            sockets: sockets.into_iter().map(Passed::from).collect(),
            are_from_systemd: false,
            last_exit: Some(last_exit),
            generation: generation + 1,
            predecessor: Some(Predecessor {
                bond,
                instance_key: instance_key.secret(),
                configured_key: configured_key.map(|key| key.secret()),
                previous_key: previous_key.map(|(key, counts_for)| PreviousKey {
                    secret: key.secret(),
                    counts_for: Duration::from_millis(counts_for),
                }),
                checks,
                stderr,
                processes: predecessors,
            }),
        })
    }
}

impl Predecessor {
    /// The key that counts beside `key` for a while: the one that the predecessor had, or the one that it had before.
    fn previous_key(&self, key: &Secret, grace: Duration) -> Option<PreviousKey> {
        let configured = self.configured_key.clone()?;
        if configured.expose() == key.expose() {
            return self.previous_key.clone().map(|previous| PreviousKey {
                counts_for: previous.counts_for.min(grace),
                ..previous
            });
        }
        Some(PreviousKey {
            secret: configured,
            counts_for: grace,
        })
    }
}

/// A start-up that holds the lock.
pub struct Birth {
    settings: Settings,
    launch: Launch,
    mode: Mode,
    mounts: Mounts,
    origins: Origins,
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
        mode: Mode,
        sockets: &Sockets,
    ) -> Result<State, StartError> {
        let origin = launch.origin.clone();
        Ok(State {
            pid: std::process::id(),
            instance: uuid::Uuid::new_v4().to_string(),
            admin: base_url(address(&sockets.admin)?),
            server: base_url(address(&sockets.public)?),
            log_file: settings.log.target.file().map(Into::into),
            instance_key: StoredKey::new(self.instance_key.expose()),
            working_directory: origin.directory,
            env_file: origin.env_file,
            flags: origin.flags,
            in_background: mode.is_background(),
            generation: self.generation,
            drain_delay: settings.drain_delay,
            failed_restart: None,
            ended_sessions: EndedSessions::default(),
            exit: None,
        })
    }
}

/// Servers that run, and what they need to be stopped.
struct Serving {
    servers: TaskTracker,
    orders: mpsc::Receiver<Order>,
    shutdown: Shutdown,
    probe: Probe,
    is_in_charge: Arc<AtomicBool>,
}

impl Birth {
    /// Takes the lock, or what the predecessor gives.
    pub fn begin(start: Start) -> Result<Self, StartError> {
        let started = Instant::now();
        let Start {
            settings,
            launch,
            mode,
            succession,
            mounts,
            announcer: _,
        } = start;
        let origins = match succession {
            Some(succession) => Origins::inherited(succession, &settings)?,
            None => Origins::found(&settings)?,
        };
        Ok(Self {
            settings,
            launch,
            mode,
            mounts,
            origins,
            started,
        })
    }

    /// Serves, says so, and lives.
    pub async fn live(self, announcer: &mut Option<Announcer>) -> Result<Ended, StartError> {
        let Self {
            settings,
            launch,
            mode,
            mounts,
            origins,
            started,
        } = self;
        let Origins {
            mut pid_file,
            sockets,
            are_from_systemd,
            last_exit,
            generation,
            predecessor,
        } = origins;
        let is_up = !sockets.is_empty();
        let sockets = Sockets::open(&settings, sockets, are_from_systemd)?;
        let signals = Signals::install().map_err(StartError::Signals)?;
        let key = configured_key(&settings)?;
        let instance_key = match &predecessor {
            Some(predecessor) => predecessor.instance_key.clone(),
            None => random_key()?,
        };
        let keys = accepted_keys(&key, predecessor.as_ref(), &settings);
        let log = open_log(&settings, mode, predecessor.is_some())?;
        let identity = Identity::new(generation, &instance_key);
        let mut state = identity.state(&settings, &launch, mode, &sockets)?;
        state.ended_sessions = ended_sessions(&pid_file);
        // Before anybody is served: who was would lose the connection if this failed.
        let staged_state = state.stage(pid_file.path())?;
        let shared_sockets = sockets.share().map_err(StartError::Socket)?;
        let health = watch(&settings, &log, predecessor.as_ref());
        let reloadable = Reloadable {
            in_force: Arc::new(InForce::new(launch.origin.clone(), settings)),
            log,
            health,
            sessions: Arc::new(Sessions::new(
                Arc::clone(&keys),
                state.ended_sessions.clone(),
            )),
            keys,
            is_in_background: mode.is_background(),
            metrics: Arc::new(Metrics::new().map_err(StartError::Metrics)?),
        };
        let about = About {
            state: &state,
            instance_key: &instance_key,
            last_exit,
            started,
            is_up,
        };
        let serving = serve(sockets, about, &reloadable, mounts)?;

        let (predecessors, bond) = match predecessor {
            None => {
                publish(staged_state, &mut pid_file)?;
                (Vec::new(), None)
            }
            Some(predecessor) => {
                serving.probe.answered().await.map_err(StartError::Silent)?;
                if !mode.is_background() {
                    rustix::stdio::dup2_stderr(&predecessor.stderr)
                        .map_err(|errno| StartError::Stdio(errno.into()))?;
                }
                predecessor
                    .bond
                    .own(|| publish(staged_state, &mut pid_file))?;
                (predecessor.processes, Some(predecessor.bond))
            }
        };
        serving.is_in_charge.store(true, Ordering::Release);
        reloadable.health.enter(Phase::Ready);
        announce(&state, &reloadable.log, announcer);
        tokio::spawn(alone(
            bond,
            reloadable.log.rotation_switch(),
            serving.probe,
            serving.shutdown.clone(),
        ));

        let life = Life {
            requests: Requests {
                orders: serving.orders,
                signals,
            },
            reloadable,
            legacy: Legacy {
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
        Ok(life.live().await)
    }
}

/// Does what is for one process only, once the predecessor does it no more.
async fn alone(
    bond: Option<Bond>,
    rotates: impl Fn(bool) + Send,
    probe: Probe,
    shutdown: Shutdown,
) {
    match bond {
        // Which has told systemd who the main process is.
        Some(bond) => bond.released().await,
        None => systemd::notify(&[NotifyState::Ready, NotifyState::Status("serving")]),
    }
    // Whoever was replaced meanwhile has left that to its successor.
    if shutdown.has_successor() {
        return;
    }
    rotates(true);
    systemd::give_signs_of_life(&probe, &shutdown).await;
}

/// What the servers tell of this daemon.
struct About<'a> {
    state: &'a State,
    instance_key: &'a Secret,
    last_exit: Option<LastExit>,
    started: Instant,
    /// Whether clients were let in before this process serves, by a predecessor or by systemd: then the service is up for
    /// them, whichever process answers.
    is_up: bool,
}

fn serve(
    sockets: Sockets,
    about: About<'_>,
    reloadable: &Reloadable,
    mounts: Mounts,
) -> Result<Serving, StartError> {
    let (public_address, admin_address) = (address(&sockets.public)?, address(&sockets.admin)?);
    let (sender, orders) = mpsc::channel(REQUESTS);
    let shutdown = Shutdown::new();
    let is_in_charge = Arc::new(AtomicBool::new(false));
    let health = Arc::clone(&reloadable.health);
    if about.is_up {
        health.enter(Phase::Ready);
    }
    let settings = reloadable.in_force.settings();
    let limits = &settings.limits;
    let clients =
        descriptors::share_out(limits)?.map(|most| Arc::new(Clients::new(limits.clone(), most)));
    let readers = Readers::among(Arc::clone(&clients[1]));
    let gate = admin::gate(
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
    let admin = admin::service(Context {
        instance: about.state.instance.clone(),
        generation: about.state.generation,
        last_exit: about.last_exit,
        started_at: Timestamp::now(),
        started: about.started,
        public: public_address,
        admin: admin_address,
        in_force: Arc::clone(&reloadable.in_force),
        health: Arc::clone(&health),
        clients,
        gate,
        metrics: Arc::clone(&reloadable.metrics),
        level: Arc::clone(reloadable.log.level()),
        log: log_file.map(Watcher::new),
        orders: sender,
        is_in_charge: Arc::clone(&is_in_charge),
        shutdown: shutdown.clone(),
        readers,
    });
    let probe = Probe::new([
        (public_address, Arc::clone(&public)),
        (admin_address, Arc::clone(&admin)),
    ]);
    let servers = TaskTracker::new();
    for listener in sockets.also_public {
        servers.spawn(server::run(listener, Arc::clone(&public), shutdown.clone()));
    }
    servers.spawn(server::run(sockets.public, public, shutdown.clone()));
    servers.spawn(server::run(sockets.admin, admin, shutdown.clone()));
    servers.close();
    Ok(Serving {
        servers,
        orders,
        shutdown,
        probe,
        is_in_charge,
    })
}

fn address(listener: &TcpListener) -> Result<std::net::SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Socket)
}

/// The configured key, and for a while the one that the predecessor had.
fn accepted_keys(
    key: &Secret,
    predecessor: Option<&Predecessor>,
    settings: &Settings,
) -> Arc<ConfiguredKeys> {
    let previous =
        predecessor.and_then(|predecessor| predecessor.previous_key(key, settings.key_grace));
    Arc::new(ConfiguredKeys::new(key, previous))
}

/// Sessions that were signed out while another process had the PID file, however that one ended.
fn ended_sessions(pid_file: &PidFile) -> EndedSessions {
    State::read_any(pid_file.path())
        .map(|state| state.ended_sessions)
        .unwrap_or_default()
}

/// Tells whoever waits that the daemon serves.
fn announce(state: &State, log: &InstalledLog, announcer: &mut Option<Announcer>) {
    tracing::info!(
        version = VERSION,
        pid = state.pid,
        generation = state.generation,
        server = state.server,
        admin = state.admin,
        "ready"
    );
    // Whoever reads the log after `fullon start` finds the start in it.
    log.settle(Duration::from_secs(1));
    if let Some(announcer) = announcer.take() {
        announcer.announce(&Announcement::Ready {
            pid: state.pid,
            server: state.server.clone(),
            admin: state.admin.clone(),
        });
    }
}

/// Health of a process that starts, and watches what it depends on. What the predecessor knows of that holds until it is
/// known better.
fn watch(
    settings: &Settings,
    log: &InstalledLog,
    predecessor: Option<&Predecessor>,
) -> Arc<Health> {
    let health = Arc::new(Health::new(log.health().cloned()));
    let known = predecessor.map_or(&[][..], |predecessor| &predecessor.checks);
    health.depend_on(&settings.dependencies, known, predecessor.is_some());
    health
}

/// Tells the machine who we are.
fn publish(state: StagedState, pid_file: &mut PidFile) -> Result<(), StartError> {
    state.publish()?;
    pid_file.take_over()?;
    Ok(())
}

fn open_log(settings: &Settings, mode: Mode, is_shared: bool) -> Result<InstalledLog, StartError> {
    let terminal = match mode {
        Mode::Background => None,
        Mode::Foreground { terminal, .. } => terminal,
    };
    let (file, stdout) = match &settings.log.target {
        LogTarget::Stdout => (None, Some(terminal.unwrap_or(Stdout { colour: false }))),
        LogTarget::File(path) => {
            let file = LogFile::open(path, &settings.log);
            let mut file = file.map_err(|error| match error {
                LogFileError::Io { .. } if !mode.is_background() => {
                    StartError::LogFileInForeground(error)
                }
                error => error.into(),
            })?;
            if is_shared {
                file = file.rotated_by_another();
            }
            if mode.is_background() {
                file.take_stdio().map_err(StartError::Stdio)?;
            }
            (Some(file), terminal)
        }
    };
    let log = logs::install(&settings.log, file, stdout)?;
    tokio::spawn(log.retries());
    Ok(log)
}
