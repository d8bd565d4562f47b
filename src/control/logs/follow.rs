//! Follows the log through rotations and through restarts of the daemon.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::error::LogsError;
use super::route::parse_filter;
use crate::api::{LogEntry, LogStreamEnd};
use crate::client::{AdminClient, ClientError, LogEvent, LogEvents, LogQuery};
use crate::control::target::DaemonControl;
use crate::instance::LockHolder;
use crate::logs::{Cursor, Filter, Follower, LogBroadcaster, LogItem, ReadError, StartAt};

/// How long to wait for a new daemon after one has stopped. A restart takes some milliseconds, one
/// by a supervisor about a second.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// An item of the followed log.
#[derive(Debug)]
pub enum LogLine {
    Entry(LogEntry),
    /// Lines are missing here.
    Gap,
}

/// The lines of a followed log.
pub struct LogLines<'a> {
    control: &'a DaemonControl,
    query: LogQuery,
    filter: Filter,
    source: LogSource,
    file: Option<PathBuf>,
    writer: Option<LockHolder>,
    /// The last line that was read.
    cursor: Option<Cursor>,
}

enum LogSource {
    Stream(LogEvents),
    File {
        path: PathBuf,
        follower: Follower,
        buffered: std::vec::IntoIter<LogItem>,
    },
}

impl DaemonControl {
    /// The last lines, and then each new one. `notice` receives a message when they are read from
    /// the file.
    ///
    /// # Errors
    ///
    /// Neither the admin API nor the file can be used.
    pub async fn follow_log(
        &self,
        query: &LogQuery,
        notice: &mut dyn FnMut(&str),
    ) -> Result<LogLines<'_>, LogsError> {
        let filter = parse_filter(query)?;
        let routes = self.log_routes().await?;
        let followed = async { routes.client?.stream_logs(query).await }.await;
        let source = match followed {
            Ok(events) => LogSource::Stream(events),
            Err(error) => {
                let path =
                    self.fallback_path(routes.file.clone(), routes.foreign_file, error, notice)?;
                open_file(path, StartAt::Last(query.lines), filter.clone())?
            }
        };
        Ok(LogLines {
            control: self,
            query: query.clone(),
            filter,
            source,
            file: routes.file,
            writer: routes.writer,
            cursor: None,
        })
    }
}

impl LogLines<'_> {
    /// The next line; `None` when the daemon has stopped and no new one was started.
    ///
    /// # Errors
    ///
    /// The log cannot be read any further.
    pub async fn next(
        &mut self,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<LogLine>, LogsError> {
        loop {
            let continues = match &mut self.source {
                LogSource::Stream(events) => {
                    let event = events.next().await;
                    self.cursor = events.last_id().and_then(|id| id.parse().ok());
                    match event {
                        Ok(Some(LogEvent::Entry(entry))) => return Ok(Some(LogLine::Entry(entry))),
                        Ok(Some(LogEvent::Gap)) => return Ok(Some(LogLine::Gap)),
                        // The new process continues the same log.
                        Ok(Some(LogEvent::End(end)))
                            if end.reason == LogStreamEnd::RESTARTING
                                && self.reconnect().await? =>
                        {
                            true
                        }
                        // The lines of the drain are in the file.
                        Ok(Some(LogEvent::End(_))) => self.switch_to_file(None, notice).await?,
                        Ok(None) => {
                            let error = "the connection to the log stream was closed";
                            self.resume(error, notice).await?
                        }
                        Err(error) => self.resume(&error.to_string(), notice).await?,
                    }
                }
                LogSource::File {
                    path,
                    follower,
                    buffered,
                } => {
                    let writer_exited = self.control.writer_exited(self.writer.as_ref());
                    let line = next_from_file(path, follower, writer_exited, buffered).await?;
                    self.cursor = follower.cursor();
                    match line {
                        Some(line) => return Ok(Some(line)),
                        None => self.writer.is_some() && self.wait_for_successor().await?,
                    }
                }
            };
            if !continues {
                return Ok(None);
            }
        }
    }

    /// Continues after a failure of the stream: over REST if possible, or else in the file.
    async fn resume(
        &mut self,
        error: &str,
        notice: &mut dyn FnMut(&str),
    ) -> Result<bool, LogsError> {
        Ok(self.reconnect().await? || self.switch_to_file(Some(error), notice).await?)
    }

    /// Continues in the file, or with a new daemon if the file is unknown. `error` is the failure
    /// of the stream, if it failed.
    async fn switch_to_file(
        &mut self,
        error: Option<&str>,
        notice: &mut dyn FnMut(&str),
    ) -> Result<bool, LogsError> {
        let Some(path) = self.file.clone() else {
            return match (self.wait_for_successor().await?, error) {
                (false, Some(error)) => Err(LogsError::FileUnknown(error.to_owned())),
                (continues, _) => Ok(continues),
            };
        };
        if let Some(error) = error {
            notice(&format!("{error}; reading {}", path.display()));
        }
        let start = self.cursor.map_or(StartAt::Last(0), StartAt::After);
        self.source = open_file(path, start, self.filter.clone())?;
        Ok(true)
    }

    /// Waits for a daemon in place of the one that stopped. Returns whether there is one.
    async fn wait_for_successor(&mut self) -> Result<bool, LogsError> {
        let deadline = Instant::now() + RECONNECT_TIMEOUT;
        while !self.reconnect().await? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(RECONNECT_INTERVAL).await;
        }
        Ok(true)
    }

    /// Continues over REST, or in the same file if a daemon runs but its admin API cannot be used.
    /// Returns whether either is possible.
    async fn reconnect(&mut self) -> Result<bool, LogsError> {
        let routes = self.control.log_routes().await?;
        if !routes.is_running {
            return Ok(false);
        }
        if !self.open_stream(routes.client).await
            && !matches!(&self.source, LogSource::File { path, .. } if routes.file.as_ref() == Some(path))
        {
            return Ok(false);
        }
        self.file = routes.file;
        self.writer = routes.writer;
        Ok(true)
    }

    async fn open_stream(&mut self, client: Result<AdminClient, ClientError>) -> bool {
        let query = LogQuery {
            lines: 0,
            after: self.cursor.map(|cursor| cursor.to_string()),
            ..self.query.clone()
        };
        let Ok(client) = client else {
            return false;
        };
        let Ok(events) = client.stream_logs(&query).await else {
            return false;
        };
        self.source = LogSource::Stream(events);
        true
    }
}

fn open_file(path: PathBuf, start: StartAt, filter: Filter) -> Result<LogSource, LogsError> {
    let broadcaster = LogBroadcaster::new(path.clone());
    let follower = Follower::new(&broadcaster, start, filter).map_err(|source| ReadError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(LogSource::File {
        path,
        follower,
        buffered: Vec::new().into_iter(),
    })
}

/// The next line of the file; `None` at its end after the writer has exited.
async fn next_from_file(
    path: &Path,
    follower: &mut Follower,
    writer_exited: impl Future<Output = ()>,
    buffered: &mut std::vec::IntoIter<LogItem>,
) -> Result<Option<LogLine>, LogsError> {
    let mut writer_exited = pin!(writer_exited);
    let mut is_last_read = false;
    loop {
        if let Some(item) = buffered.next() {
            return Ok(Some(match item {
                LogItem::Entry(entry) => LogLine::Entry(entry.into()),
                LogItem::Gap => LogLine::Gap,
            }));
        }
        let items = if is_last_read {
            follower.try_next()
        } else {
            tokio::select! {
                biased;
                batch = follower.next() => batch.map(|batch| Some(batch.items.clone())),
                () = &mut writer_exited => {
                    is_last_read = true;
                    continue;
                }
            }
        };
        let items = items.map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let Some(items) = items else {
            return Ok(None);
        };
        *buffered = items.into_iter();
    }
}
