//! From events to lines: one event is one line, whatever is in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, reload};

use super::condition::LogHealth;
use super::level::{EventCounter, LevelControl, parse_filter};
use super::queue::EventQueue;
use super::rotation::RotationPolicy;
use super::writer::LogFile;
use crate::config::{LogFormat, LogSettings};

/// How long a file that could not be written is left alone.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a panic may take to get to the disk before it is reported.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The thread that writes the file.
const FILE_THREAD: &str = "log-file";

/// Events cannot be logged.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Validated before; kept for callers that did not.
    #[error("LOG_LEVEL: {0}")]
    Filter(#[from] ParseError),
    /// Something in this process logs already.
    #[error("the process has a log already: {0}")]
    AlreadyInstalled(#[from] tracing_subscriber::util::TryInitError),
    /// The log of this process is gone.
    #[error("the filter of the log cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Whether and how stdout gets the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StdoutOptions {
    /// With escape sequences for colours.
    pub colour: bool,
}

/// The log of this process. What was logged has got where it goes once this is dropped.
pub struct InstalledLog {
    _guards: Vec<WorkerGuard>,
    file: Option<(EventQueue, Arc<LogHealth>)>,
    rotation: Option<Arc<RotationPolicy>>,
    level: Arc<LevelControl>,
}

impl InstalledLog {
    /// How the log file is doing, if there is one.
    #[must_use]
    pub fn health(&self) -> Option<&Arc<LogHealth>> {
        self.file.as_ref().map(|(_, health)| health)
    }

    /// What is logged.
    #[must_use]
    pub fn level(&self) -> &Arc<LevelControl> {
        &self.level
    }

    /// Logs by these settings from now on, as far as that can be had without another file: filter and rotation.
    ///
    /// # Errors
    ///
    /// The filter is wrong; nothing has changed then.
    pub fn apply_settings(&self, settings: &LogSettings) -> Result<(), InstallError> {
        self.level.set_configured(&settings.filter)?;
        if let Some(rotation) = &self.rotation {
            rotation.update(settings);
        }
        Ok(())
    }

    /// Says whether it is this process that rotates the file: of two that share it, one does.
    pub fn rotation_switch(&self) -> impl Fn(bool) + Send + use<> {
        let rotation = self.rotation.clone();
        move |is_ours| {
            if let Some(rotation) = &rotation {
                rotation.set_enabled(is_ours);
            }
        }
    }

    /// Opens the file anew if another one has its name or none has: whoever rotates it from outside is done.
    pub fn reopen(&self) {
        if let Some((queue, health)) = &self.file {
            health.request_reopen();
            queue.clone().wake();
        }
    }

    /// As long as the file cannot be written as it should, looks after it from time to time: the next event may be far
    /// off. Never ends, but for a log that is no file.
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

    /// Waits until all that was logged is in the file, at most `timeout`.
    pub fn flush(&self, timeout: Duration) {
        if let Some(health) = self.health()
            && !health.flush(timeout)
        {
            tracing::warn!(?timeout, "the log file is slow");
        }
    }
}

/// Sends the events of this process to the file, to stdout, or to both.
///
/// # Errors
///
/// The filter is wrong, or the process has a log already.
pub fn install(
    settings: &LogSettings,
    file: Option<LogFile>,
    stdout: Option<StdoutOptions>,
) -> Result<InstalledLog, InstallError> {
    let mut guards = Vec::new();
    let mut layers = Vec::new();
    let mut queue_of_file = None;
    let mut rotation = None;
    if let Some(StdoutOptions { colour }) = stdout {
        let (queue, guard) =
            EventQueue::new(std::io::stdout(), "log-stdout", settings.format, None);
        guards.push(guard);
        layers.push(layer(settings.format, colour, move || queue.clone()));
    }
    if let Some(file) = file {
        let health = file.health();
        rotation = Some(file.rotation());
        let told = Some(Arc::clone(&health));
        let (queue, guard) = EventQueue::new(file, FILE_THREAD, settings.format, told);
        queue_of_file = Some((queue.clone(), health));
        guards.push(guard);
        layers.push(layer(settings.format, false, move || queue.clone()));
    }
    let (filter, handle) = reload::Layer::new(parse_filter(&settings.filter)?);
    let events = Arc::default();
    tracing_subscriber::registry()
        .with(layers)
        .with(EventCounter(Arc::clone(&events)))
        .with(filter)
        .try_init()?;
    install_panic_hook(queue_of_file.as_ref().map(|(_, health)| Arc::clone(health)));
    Ok(InstalledLog {
        _guards: guards,
        file: queue_of_file,
        rotation,
        level: Arc::new(LevelControl::new(
            &settings.filter,
            Box::new(move |filter| handle.reload(filter)),
            events,
        )),
    })
}

fn layer<S, W>(format: LogFormat, colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour);
    match format {
        LogFormat::Text => layer
            .event_format(SingleLine(Format::default().with_ansi(colour)))
            .boxed(),
        LogFormat::Json => layer
            .json()
            .event_format(SingleLine(Format::default().json().flatten_event(true)))
            .boxed(),
    }
}

/// A line of the log's own, about itself: what it logged as an event would come back to it.
pub(super) fn format_own_line(format: LogFormat, target: &str, message: &str) -> String {
    let now = jiff::Timestamp::now();
    match format {
        LogFormat::Text => format!("{now} ERROR {target}: {message}\n"),
        LogFormat::Json => {
            let timestamp = now.to_string();
            let event = serde_json::json!({ "timestamp": timestamp, "level": "ERROR", "message": message, "target": target });
            format!("{event}\n")
        }
    }
}

/// A panic becomes an event, so that it has a time and a level; the standard hook still writes to stderr, once the event
/// and all before it are in the file.
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

/// Writes an event through another format with the line breaks inside it escaped.
struct SingleLine<F>(F);

impl<S, N, F> FormatEvent<S, N> for SingleLine<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::with_capacity(256);
        self.0
            .format_event(context, Writer::new(&mut text), event)?;
        let line = text.trim_end_matches('\n');
        if line.contains(['\n', '\r']) {
            writer.write_str(&line.replace('\n', "\\n").replace('\r', "\\r"))?;
        } else {
            writer.write_str(line)?;
        }
        writer.write_char('\n')
    }
}
