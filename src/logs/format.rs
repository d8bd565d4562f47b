//! From events to lines: one event is one line, whatever is in it.

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::writer::{LogFile, LogHealth};
use crate::config::{LogFormat, LogSettings};

/// How many events may wait for the disk before the threads that log have to.
const QUEUE: usize = 16 * 1024;

/// Events cannot be logged.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Validated before; kept for callers that did not.
    #[error("LOG_LEVEL: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("the process has a log already: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether and how stdout gets the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stdout {
    /// With escape sequences for colours.
    pub colour: bool,
}

/// Sends the events of this process to the file, to stdout, or to both. What was logged has got there once the
/// guards are dropped.
///
/// # Errors
///
/// The filter is wrong, or the process has a log already.
pub fn install(
    settings: &LogSettings,
    file: Option<LogFile>,
    stdout: Option<Stdout>,
) -> Result<Vec<WorkerGuard>, InstallError> {
    let mut guards = Vec::new();
    let mut layers = Vec::new();
    let queue = || {
        NonBlockingBuilder::default()
            .lossy(false)
            .buffered_lines_limit(QUEUE)
    };
    if let Some(Stdout { colour }) = stdout {
        let (writer, guard) = queue().thread_name("log-stdout").finish(std::io::stdout());
        guards.push(guard);
        layers.push(layer(settings.format, colour, writer));
    }
    if let Some(file) = file {
        let health = file.health();
        let (writer, guard) = queue().thread_name("log-file").finish(file);
        let counted = move || Counted {
            writer: writer.clone(),
            health: Arc::clone(&health),
        };
        guards.push(guard);
        layers.push(layer(settings.format, false, counted));
    }
    tracing_subscriber::registry()
        .with(layers)
        .with(EnvFilter::builder().parse(&settings.filter)?)
        .try_init()?;
    log_panics();
    Ok(guards)
}

/// The queue of the log file, with a count of what went into it: one call, one event.
struct Counted {
    writer: NonBlocking,
    health: Arc<LogHealth>,
}

impl io::Write for Counted {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.health.count_queued();
        self.writer.write(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
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
            .event_format(OneLine(Format::default().with_ansi(colour)))
            .boxed(),
        LogFormat::Json => layer
            .json()
            .event_format(OneLine(Format::default().json().flatten_event(true)))
            .boxed(),
    }
}

/// A panic becomes an event, so that it has a time and a level; the standard hook still writes to stderr.
fn log_panics() {
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
        standard(panic);
    }));
}

/// Writes an event through another format with the line breaks inside it escaped.
struct OneLine<F>(F);

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
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
