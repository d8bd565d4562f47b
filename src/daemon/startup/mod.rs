//! The start-up, from the lock of the PID file to the moment the daemon serves.

mod context;
mod fd_limit;
mod last_exit;
mod log;
mod servers;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{io, mem};

use self::context::{OldProcess, StartContext};
use self::servers::start_servers;
use self::sockets::ListeningSockets;
use super::application::Application;
use super::error::StartError;
use super::resources::InstanceResources;
use super::run::{Daemon, PendingStart, Reloadable, RequestSource};
use super::run_mode::RunMode;
use super::signals::SignalHandlers;
use super::supervise::systemd;
use super::upgrade::UpgradeChild;
use crate::api::{base_url, start_timeout};
use crate::audit::AuditTrail;
use crate::auth::{ConfiguredKeys, SessionStore};
use crate::config::{LiveSettings, Settings};
use crate::health::{Health, Phase};
use crate::instance::{Launch, PidFile, StagedStateFile, StartupReporter, StateFile, StoredSecret};
use crate::logs::InstalledLog;
use crate::server::SelfCheck;
use crate::server::metrics::Metrics;
use crate::server::public::Mounts;
use crate::sys::Process;
use crate::workers::WorkersDirectory;

/// The inputs of a start.
pub struct StartOptions {
    /// The settings.
    pub settings: Settings,
    /// The command line that this process was started with, and its successor will be.
    pub launch: Launch,
    /// Background or foreground.
    pub mode: RunMode,
    /// Where to report that the daemon serves, or why it does not.
    pub reporter: Option<StartupReporter>,
    /// The handoff from the old process, in a zero-downtime restart.
    pub upgrade: Option<UpgradeChild>,
    /// Routes that are served beside the built-in ones.
    pub mounts: Mounts,
}

/// A start-up that holds the lock of the PID file.
pub struct Startup {
    options: StartOptions,
    context: StartContext,
    /// In a zero-downtime restart with an application.
    prepared: Option<PreparedApplication>,
    started: Instant,
}

/// An application that is ready before this process takes over, and the log that its output is in.
struct PreparedApplication {
    log: InstalledLog,
    application: Arc<Application>,
}

/// A daemon whose servers answer, but which has not claimed the PID file yet.
struct ServingDaemon {
    daemon: Daemon,
    self_check: SelfCheck,
    is_active: Arc<AtomicBool>,
    staged_state: StagedStateFile,
    old_process: Option<OldProcess>,
}

impl Startup {
    /// Acquires the lock, or takes it from the handoff.
    ///
    /// A new process of a restart first starts its application. The old process serves meanwhile.
    pub async fn new(mut options: StartOptions) -> Result<Self, StartError> {
        let started = Instant::now();
        let (context, prepared) = match options.upgrade.take() {
            Some(upgrade) => match prepare_application(&options, &upgrade).await {
                Ok(prepared) => {
                    let handoff = upgrade.receive().map_err(StartError::Handoff)?;
                    let context = StartContext::inherited(handoff, &options.settings)?;
                    (context, prepared)
                }
                Err(error) => {
                    upgrade.decline();
                    return Err(error);
                }
            },
            None => (StartContext::fresh(&options.settings)?, None),
        };
        Ok(Self {
            options,
            context,
            prepared,
            started,
        })
    }

    /// Starts the servers and claims the PID file. Reports that the daemon is ready, unless its
    /// application is not: then the event loop does.
    pub async fn run(self, reporter: &mut Option<StartupReporter>) -> Result<Daemon, StartError> {
        let mode = self.options.mode;
        let ServingDaemon {
            mut daemon,
            self_check,
            is_active,
            staged_state,
            old_process,
        } = self.start_serving()?;
        let pid_file = &mut daemon.resources.pid_file;
        let parent_link = match old_process {
            None => {
                publish_instance(staged_state, pid_file)?;
                None
            }
            Some(old) => {
                self_check
                    .run()
                    .await
                    .map_err(StartError::ServersUnresponsive)?;
                if !mode.is_background() {
                    rustix::stdio::dup2_stderr(&old.stderr)
                        .map_err(|errno| StartError::Stdio(errno.into()))?;
                }
                old.link
                    .commit(|| publish_instance(staged_state, pid_file))?;
                daemon.resources.predecessors = old.predecessors;
                Some(old.link)
            }
        };
        is_active.store(true, Ordering::Release);
        // The old process may have revoked tokens meanwhile.
        daemon.reloadable.keys.revocations().notify();
        let keys = &daemon.reloadable.keys;
        for problem in keys.revocations().problems(Some(&keys.current())) {
            tracing::warn!("{problem}");
        }
        let is_fresh = parent_link.is_none();
        let start = PendingStart {
            parent_link,
            self_check,
        };
        match &daemon.reloadable.application {
            Some(_) if is_fresh => {
                let settings = daemon.reloadable.live_settings.settings();
                systemd::notify_starting(start_timeout(settings.app.as_ref()));
                daemon.pending_start = Some(start);
            }
            _ => daemon.finish_start(start, reporter),
        }
        Ok(daemon)
    }

    /// Binds the ports, opens the log, and starts the servers. Nothing on the machine names this
    /// process yet.
    fn start_serving(mut self) -> Result<ServingDaemon, StartError> {
        let passed = mem::take(&mut self.context.passed_sockets);
        // The old process or systemd accepted connections before.
        let was_serving = !passed.is_empty();
        let is_fresh = self.context.old_process.is_none();
        let sockets = ListeningSockets::open(&self.options.settings, passed, is_fresh)?;
        let signals = SignalHandlers::install().map_err(StartError::Signals)?;
        let keys = self.context.token_keys(&self.options.settings)?;
        let instance_key = self.context.instance_key()?;
        let (log, application) = if let Some(prepared) = self.prepared.take() {
            (prepared.log, Some(prepared.application))
        } else {
            let log = log::open_log(&self.options.settings, self.options.mode, !is_fresh)?;
            (log, None)
        };
        if is_fresh {
            WorkersDirectory::sweep(self.context.pid_file.path());
        }
        let state = self.new_state(&sockets, instance_key, &keys);
        let audit = log::open_audit_trail(&self.options.settings, &state.instance)?;
        // Clients that were served before a failure here would lose their connections.
        let staged_state = state.stage(self.context.pid_file.path())?;
        let handoff_sockets = sockets.clone_for_handoff().map_err(StartError::Socket)?;
        let application = match (application, &self.options.settings.app) {
            (None, Some(app)) => Some(Application::start(app, self.context.pid_file.path())?),
            (application, _) => application,
        };
        let reloadable = self.reloadable(&state, log, Arc::clone(&audit), keys, application)?;
        let (options, mut context) = (self.options, self.context);
        if was_serving && !(is_fresh && reloadable.application.is_some()) {
            // `/health` stays healthy, whichever process answers.
            reloadable.health.enter(Phase::Ready);
        }
        let old_process = context.old_process.as_mut();
        let supervisor = old_process.and_then(|old| old.supervisor.take());
        let supervisor_pid = supervisor.as_ref().map(Process::pid);
        let failed_attempts = context.old_process.as_ref();
        let failed_attempts = failed_attempts.map(|old| &*old.handoff.failed_attempts);
        let servers = start_servers(
            sockets,
            &state,
            context.last_exit,
            self.started,
            &reloadable,
            failed_attempts.unwrap_or_default(),
            options.mounts,
        )?;
        Ok(ServingDaemon {
            daemon: Daemon {
                requests: RequestSource {
                    control_requests: servers.control_requests,
                    signals,
                    supervisor,
                    audit,
                },
                reloadable,
                resources: InstanceResources {
                    launch: options.launch,
                    mode: options.mode,
                    state,
                    pid_file: context.pid_file,
                    sockets: handoff_sockets,
                    predecessors: Vec::new(),
                    supervisor: supervisor_pid,
                },
                pending_start: None,
                shutdown: servers.shutdown,
                servers: servers.tasks,
                admin: servers.admin,
            },
            self_check: servers.self_check,
            is_active: servers.is_active,
            staged_state,
            old_process: context.old_process,
        })
    }

    fn reloadable(
        &self,
        state: &StateFile,
        log: InstalledLog,
        audit: Arc<AuditTrail>,
        keys: Arc<ConfiguredKeys>,
        application: Option<Arc<Application>>,
    ) -> Result<Reloadable, StartError> {
        let StartOptions {
            settings, launch, ..
        } = &self.options;
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let old_process = self.context.old_process.as_ref();
        let counters = old_process.and_then(|old| old.counters.as_ref());
        let health = start_health(settings, &log, old_process);
        if let Some(application) = &application {
            health.watch_application(Arc::clone(application) as _);
        }
        Ok(Reloadable {
            health,
            application,
            live_settings: Arc::new(LiveSettings::new(
                launch.settings_location.clone(),
                settings.clone(),
            )),
            log,
            audit,
            sessions: Arc::new(SessionStore::new(Arc::clone(&keys), state.sessions.clone())),
            keys,
            is_background: self.options.mode.is_background(),
            metrics: Arc::new(metrics.continuing(counters)),
        })
    }

    fn new_state(
        &self,
        sockets: &ListeningSockets,
        instance_key: StoredSecret,
        keys: &ConfiguredKeys,
    ) -> StateFile {
        let settings = &self.options.settings;
        let location = self.options.launch.settings_location.clone();
        StateFile {
            owner_uid: nix::unistd::geteuid().as_raw(),
            pid: std::process::id(),
            instance: uuid::Uuid::new_v4().to_string(),
            admin: base_url(sockets.admin_address),
            server: base_url(sockets.public_address),
            log_file: settings.log.target.file().map(Into::into),
            audit_file: settings.audit_file.clone(),
            key_file: Some(settings.key_file.clone()),
            has_revocations: keys.revocations().was_present(),
            signing_key: Some(keys.recorded()),
            instance_key,
            working_directory: location.directory,
            env_file: location.env_file,
            flags: location.flags,
            in_background: self.options.mode.is_background(),
            generation: self.context.generation,
            stop_timeout: Some(settings.stop_timeout(settings.shutdown_timeout)),
            failed_restart: None,
            admin_socket: Some(sockets.admin_id.clone()),
            sessions: self.context.sessions(&sockets.admin_id),
            exit: None,
        }
    }
}

/// Starts the application of a new process, and waits until it is ready. `None` without an
/// application.
async fn prepare_application(
    options: &StartOptions,
    upgrade: &UpgradeChild,
) -> Result<Option<PreparedApplication>, StartError> {
    let Some(app) = &options.settings.app else {
        return Ok(None);
    };
    let log = log::open_log(&options.settings, options.mode, true)?;
    let application = Application::start(app, &options.settings.pid_file)?;
    let ready = tokio::select! {
        ready = application.ready() => ready,
        () = upgrade.old_process_ended() => {
            Err(StartError::Handoff(io::ErrorKind::UnexpectedEof.into()))
        }
    };
    if ready.is_err() {
        application.workers.kill();
    }
    ready?;
    Ok(Some(PreparedApplication { log, application }))
}

/// Starts the health checks. What the old process knew of the dependencies is valid until the first
/// probe.
fn start_health(
    settings: &Settings,
    log: &InstalledLog,
    old_process: Option<&OldProcess>,
) -> Arc<Health> {
    let health = Arc::new(Health::new(log.health().cloned()));
    let known = old_process.map_or(&[][..], |old| &old.handoff.checks);
    health.watch_dependencies(&settings.dependencies, known, old_process.is_some());
    health
}

/// Publishes the state file, and writes the PID into the PID file.
fn publish_instance(state: StagedStateFile, pid_file: &mut PidFile) -> Result<(), StartError> {
    state.publish()?;
    pid_file.claim()?;
    Ok(())
}
