//! The daemon: puts the parts together, lives through its phases, and takes itself apart again.
//!
//! The order of a start-up is what makes a failed one leave nothing behind: the lock of the PID file first, then
//! the ports, then the log; the PID file says who we are only when the servers answer.

mod error;
mod life;
mod signals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub use error::StartError;
use life::Life;
use signals::Signals;

use crate::api::{Phase, VERSION, base_url};
use crate::auth::{Keyring, Sessions, random_key, read_or_create_key_file};
use crate::config::{LogTarget, Settings};
use crate::health::Health;
use crate::instance::{Announcement, Announcer, PidFile, State, listener_on};
use crate::logs::{self, InstalledLog, LogFile, Stdout, Watcher};
use crate::server::admin::Context;
use crate::server::public::Mounts;
use crate::server::{self, Shutdown, Traffic, admin, public};

/// How the process was started.
#[derive(Debug)]
pub enum Mode {
    /// By `fullon start`, which waits for the announcement on the pipe that is our stdout. Then stdout and stderr
    /// become the log.
    Background(Announcer),
    /// By `fullon run`. With a terminal, stdout gets the log too.
    Foreground {
        /// Set when stdout is a terminal.
        terminal: Option<Stdout>,
    },
}

/// Where the settings came from, for whoever restarts the daemon later.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Where `.env` and relative paths are seen from.
    pub working_directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: BTreeMap<String, String>,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request in flight was finished, or the deadline was over.
    Gracefully,
    /// A second signal ended it at once.
    Interrupted,
}

/// Runs the daemon until it is asked to stop.
///
/// # Errors
///
/// What kept it from starting. Nothing is left behind then.
pub fn run(
    settings: Settings,
    origin: Origin,
    mode: Mode,
    mounts: Mounts,
) -> Result<Ended, StartError> {
    let (mut announcer, terminal) = match mode {
        Mode::Background(announcer) => (Some(announcer), None),
        Mode::Foreground { terminal } => (None, terminal),
    };
    let result = run_locked(settings, origin, &mut announcer, terminal, mounts);
    if let (Err(error), Some(announcer)) = (&result, announcer) {
        announcer.announce(&Announcement::Failed {
            message: error.to_string(),
            exit_code: 1,
        });
    }
    result
}

fn run_locked(
    settings: Settings,
    origin: Origin,
    announcer: &mut Option<Announcer>,
    terminal: Option<Stdout>,
    mounts: Mounts,
) -> Result<Ended, StartError> {
    let started = Instant::now();
    // Whoever started us may have blocked the signals that stop us; threads inherit what is set here.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| StartError::Signals(errno.into()))?;
    allow_all_files();
    let pid_file = PidFile::acquire(&settings.pid_file)?;
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("fullon")
        .build()
        .map_err(StartError::Runtime)
        .and_then(|runtime| {
            let start = Start {
                settings,
                origin,
                announcer,
                terminal,
                mounts,
                pid_file: &pid_file,
                started,
            };
            let result = runtime.block_on(start.live());
            // A read of the log that still runs must not hold up the end.
            runtime.shutdown_background();
            result
        });
    pid_file.remove();
    result
}

/// A start-up that holds the lock.
struct Start<'a> {
    settings: Settings,
    origin: Origin,
    announcer: &'a mut Option<Announcer>,
    terminal: Option<Stdout>,
    mounts: Mounts,
    pid_file: &'a PidFile,
    started: Instant,
}

impl Start<'_> {
    async fn live(self) -> Result<Ended, StartError> {
        let Self {
            settings,
            origin,
            announcer,
            terminal,
            mounts,
            pid_file,
            started,
        } = self;
        let public_listener = bind("PORT", settings.public)?;
        let admin_listener = bind("ADMIN_PORT", settings.admin)?;
        let signals = Signals::install().map_err(StartError::Signals)?;
        let configured_key = match &settings.jwt_secret {
            Some(secret) => secret.clone(),
            None => read_or_create_key_file(&settings.key_file)?,
        };
        let instance_key = random_key()?;
        let log = open_log(&settings, announcer.is_some(), terminal)?;

        let address = |listener: &TcpListener| listener.local_addr().map_err(StartError::Runtime);
        let (public_address, admin_address) =
            (address(&public_listener)?, address(&admin_listener)?);
        let state = State {
            pid: std::process::id(),
            instance: uuid::Uuid::new_v4().to_string(),
            admin: base_url(admin_address),
            server: base_url(public_address),
            log_file: settings.log.target.file().map(Into::into),
            instance_key: instance_key.expose().to_owned(),
            working_directory: origin.working_directory,
            env_file: origin.env_file,
            flags: origin.flags,
            in_background: announcer.is_some(),
        };
        let (stop, mut stop_orders) = mpsc::channel(1);
        let shutdown = Shutdown::new();
        let health = Arc::new(Health::new(log.health().cloned()));
        let traffic = Arc::new(Traffic::default());
        let context = Context {
            instance: state.instance.clone(),
            started_at: Timestamp::now(),
            started,
            public: public_address,
            admin: admin_address,
            keyring: Arc::new(Keyring::new(&configured_key, &instance_key)),
            sessions: Arc::new(Sessions::new(&configured_key)),
            health: Arc::clone(&health),
            traffic: Arc::clone(&traffic),
            log: settings
                .log
                .target
                .file()
                .map(|path| Watcher::new(path.into())),
            stop,
            deadline: OnceLock::new(),
            shutdown: shutdown.clone(),
            settings,
        };
        let default_timeout = context.settings.shutdown_timeout;
        let pid_file_path = context.settings.pid_file.clone();

        let servers = TaskTracker::new();
        let public = public::service(Arc::clone(&health), mounts, traffic, shutdown.clone());
        servers.spawn(server::run(public_listener, public, shutdown.clone()));
        servers.spawn(server::run(
            admin_listener,
            admin::service(context),
            shutdown.clone(),
        ));
        servers.close();

        publish(&state, &pid_file_path, pid_file)?;
        health.enter(Phase::Ready);
        tracing::info!(
            version = VERSION,
            pid = state.pid,
            server = state.server,
            admin = state.admin,
            "ready"
        );
        let life = Life {
            signals,
            log,
            health,
            shutdown,
            servers,
        };
        // Whoever reads the log after `fullon start` finds the start in it.
        life.log.settle(Duration::from_secs(1));
        if let Some(announcer) = announcer.take() {
            announcer.announce(&Announcement::Ready {
                pid: state.pid,
                server: state.server,
            });
        }
        notify_systemd(&[
            sd_notify::NotifyState::Ready,
            sd_notify::NotifyState::Status("serving"),
        ]);

        let ended = life.until_stopped(&mut stop_orders, default_timeout).await;
        State::remove(&pid_file_path);
        Ok(ended)
    }
}

/// Each client is an open file: takes as many as the system lets us have. The soft limit of 1024 is for programs that use
/// `select(2)`.
fn allow_all_files() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // It stays as it was then.
    let _ = setrlimit(Resource::Nofile, all);
}

/// Tells the machine who we are.
fn publish(state: &State, path: &Path, pid_file: &PidFile) -> Result<(), StartError> {
    state.write(path)?;
    pid_file
        .write(state.pid)
        .inspect_err(|_| State::remove(path))?;
    Ok(())
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    server::bind(address).map_err(|source| StartError::Bind {
        setting,
        address,
        owner: (source.kind() == std::io::ErrorKind::AddrInUse)
            .then(|| listener_on(address.port()))
            .flatten()
            .map(|process| process.describe()),
        source,
    })
}

fn open_log(
    settings: &Settings,
    in_background: bool,
    terminal: Option<Stdout>,
) -> Result<InstalledLog, StartError> {
    let (file, stdout) = match &settings.log.target {
        LogTarget::Stdout => (None, Some(terminal.unwrap_or(Stdout { colour: false }))),
        LogTarget::File(path) => {
            let mut file = LogFile::open(path, &settings.log)?;
            if in_background {
                file.take_stdio().map_err(StartError::Stdio)?;
            }
            (Some(file), terminal)
        }
    };
    let log = logs::install(&settings.log, file, stdout)?;
    tokio::spawn(log.retries());
    Ok(log)
}

/// Tells systemd (`sd_notify(3)`); without one it does nothing.
fn notify_systemd(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
