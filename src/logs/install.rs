//! Sets up the log of this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::follow::broadcast::LogBroadcaster;
use super::history::FileHistory;
use super::write::file::LogFile;
use super::write::format::{StdoutOptions, format_layer, priority_prefix};
use super::write::health::LogHealth;
use super::write::level::{EventCounter, LevelControl, LevelError, parse_filter};
use super::write::queue::EventQueue;
use super::write::rotate::RotationPolicy;
use crate::config::LogSettings;

/// How often a failed write is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long the report of a panic waits for the panic's event to reach the file.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The name of the thread that writes the file.
const FILE_THREAD: &str = "log-file";

/// The log could not be installed, or its filter not changed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The filter is invalid.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// The process has a log already.
    #[error("logging is already initialised in this process: {0}")]
    AlreadyInstalled(#[from] TryInitError),
}

/// The log of this process. Dropping it writes the queued events.
pub struct InstalledLog {
    _guards: Vec<WorkerGuard>,
    file: Option<(EventQueue, Arc<LogHealth>)>,
    rotation: Option<Arc<RotationPolicy>>,
    history: Arc<FileHistory>,
    level: Arc<LevelControl>,
}

impl InstalledLog {
    /// The state of the log file, if there is one.
    #[must_use]
    pub fn health(&self) -> Option<&Arc<LogHealth>> {
        self.file.as_ref().map(|(_, health)| health)
    }

    /// A broadcaster of this log, whose file is `path`.
    #[must_use]
    pub fn broadcaster(&self, path: PathBuf) -> Arc<LogBroadcaster> {
        LogBroadcaster::with_history(path, Arc::clone(&self.history))
    }

    /// The control of the log level.
    #[must_use]
    pub fn level(&self) -> &Arc<LevelControl> {
        &self.level
    }

    /// Applies the settings that do not need another file: filter and rotation.
    ///
    /// # Errors
    ///
    /// The filter is invalid. Nothing has changed then.
    pub fn apply_settings(&self, settings: &LogSettings) -> Result<(), InstallError> {
        self.level.set_configured(&settings.filter)?;
        if let Some(rotation) = &self.rotation {
            rotation.update(settings);
        }
        Ok(())
    }

    /// A function that enables or disables rotation by this process. Of two processes that share
    /// the file, only one may rotate it.
    pub fn rotation_switch(&self) -> impl Fn(bool) + Send + use<> {
        let rotation = self.rotation.clone();
        move |enabled| {
            if let Some(rotation) = &rotation {
                rotation.set_enabled(enabled);
            }
        }
    }

    /// Reopens the file after an external rotation, as by logrotate. Without one it does nothing.
    pub fn reopen(&self) {
        if let Some((queue, health)) = &self.file {
            health.request_reopen();
            queue.clone().wake();
        }
    }

    /// Retries regularly while the file cannot be written: the next event may be far off. Returns
    /// only if the log has no file.
    pub fn retry_writes(&self) -> impl Future<Output = ()> + Send + 'static {
        let file = self.file.clone();
        async move {
            let Some((mut queue, health)) = file else {
                return;
            };
            loop {
                health.wait_for_failure().await;
                tokio::time::sleep(RETRY_INTERVAL).await;
                queue.wake();
            }
        }
    }

    /// Waits at most `timeout` until every event logged so far is in the file.
    pub fn flush(&self, timeout: Duration) {
        if let Some(health) = self.health()
            && !health.flush(timeout)
        {
            tracing::warn!(?timeout, "the log file was not flushed in time");
        }
    }
}

/// Sends the events of this process to the file, to stdout, or to both.
///
/// # Errors
///
/// The filter is invalid, or the process has a log already.
pub fn install(
    settings: &LogSettings,
    file: Option<LogFile>,
    stdout: Option<StdoutOptions>,
) -> Result<InstalledLog, InstallError> {
    let mut guards = Vec::new();
    let mut layers = Vec::new();
    let mut file_queue = None;
    let mut rotation = None;
    let mut history = Arc::default();
    if let Some(options) = stdout {
        let (mut queue, guard) =
            EventQueue::new(std::io::stdout(), "log-stdout", settings.format, None);
        if options.priorities {
            queue.own_line_prefix = priority_prefix(Level::ERROR);
        }
        guards.push(guard);
        layers.push(format_layer(settings.format, options, move || {
            queue.clone()
        }));
    }
    if let Some(file) = file {
        let health = file.health();
        rotation = Some(file.rotation());
        history = file.history();
        let (queue, guard) = EventQueue::new(
            file,
            FILE_THREAD,
            settings.format,
            Some(Arc::clone(&health)),
        );
        file_queue = Some((queue.clone(), health));
        guards.push(guard);
        layers.push(format_layer(
            settings.format,
            StdoutOptions::default(),
            move || queue.clone(),
        ));
    }
    let filter = parse_filter(&settings.filter).map_err(LevelError::from)?;
    let (filter, handle) = reload::Layer::new(filter);
    let event_counts = Arc::default();
    tracing_subscriber::registry()
        .with(layers)
        .with(EventCounter(Arc::clone(&event_counts)))
        .with(filter)
        .try_init()?;
    install_panic_hook(file_queue.as_ref().map(|(_, health)| Arc::clone(health)));
    Ok(InstalledLog {
        _guards: guards,
        file: file_queue,
        rotation,
        history,
        level: Arc::new(LevelControl::new(
            &settings.filter,
            Box::new(move |filter| handle.reload(filter)),
            event_counts,
        )),
    })
}

/// Logs panics as events, so that they have a time and a level. The standard hook still writes to
/// stderr, after the event and all events before it are in the file.
fn install_panic_hook(log: Option<Arc<LogHealth>>) {
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        tracing::error!(
            target: "panic",
            thread = thread.name().unwrap_or("unnamed"),
            location = panic.location().map(tracing::field::display),
            "{}",
            panic.payload_as_str().unwrap_or("panic"),
        );
        if let Some(log) = &log
            && thread.name() != Some(FILE_THREAD)
        {
            log.flush(PANIC_FLUSH_TIMEOUT);
        }
        standard(panic);
    }));
}
