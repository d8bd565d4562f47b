//! Formatting of events: one event is one line, whatever it contains.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// A layer that passes each event as one line to `writer`.
pub(crate) fn format_layer<S, W>(
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
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

/// Formats an error of the log itself. An event would come back to the log that failed.
pub(crate) fn format_own_line(format: LogFormat, target: &str, message: &str) -> String {
    let now = jiff::Timestamp::now();
    match format {
        LogFormat::Text => format!("{now} ERROR {target}: {message}\n"),
        LogFormat::Json => {
            let event = serde_json::json!({
                "timestamp": now.to_string(),
                "level": "ERROR",
                "message": message,
                "target": target,
            });
            format!("{event}\n")
        }
    }
}

/// Escapes the line breaks in events of another format.
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
