//! The log, through the admin API or out of the file, as one sequence.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Control, Target};
use crate::api::{LogEntry, StreamEnd};
use crate::client::{AdminClient, ClientError, LogEvent, LogEvents, LogQuery};
use crate::instance::{LockHolder, PidFileError, Process};
use crate::logs::{
    Cursor, Filter, FilterError, FilterParams, Follower, LogBroadcaster, LogItem, ReadError,
    StartAt, last_lines,
};

/// How long a daemon that ended is waited for to come back: a restart takes some milliseconds, a supervisor's about a
/// second.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether a process still runs that cannot be waited for.
const HIDDEN_POLL_INTERVAL: Duration = Duration::from_secs(1);

const NO_FILE_HINT: &str = "whoever runs the daemon has its stdout (journalctl -u fullon_master_api, kubectl logs, docker logs, podman logs); or set LOG_FILE to a file, and `fullon restart`";

/// The log could not be had.
#[derive(Debug, Error)]
pub enum LogsError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API could not be used, and there is no other way.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file could not be used.
    #[error(transparent)]
    File(ReadError),
    /// There is no such file.
    #[error(
        "there is no log file {}: `fullon start` makes it, or set LOG_FILE to where the log is", .0.display()
    )]
    FileMissing(PathBuf),
    /// It is not kept where a verb could read it.
    #[error("the log goes to stdout and cannot be read back: {NO_FILE_HINT}")]
    Stdout,
    /// Nothing tells where the log is.
    #[error("{0}; and no log file is known: {NO_FILE_HINT}")]
    FileUnknown(String),
    /// A filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl std::convert::From<ReadError> for LogsError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                Self::FileMissing(path)
            }
            other => Self::File(other),
        }
    }
}

/// What a reader of the log sees.
#[derive(Debug)]
pub enum LogLine {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here.
    Gap,
}

/// The log as it comes: through rotations, and through restarts of the daemon.
pub struct LogLines<'a> {
    control: &'a Control,
    query: LogQuery,
    filter: Filter,
    source: LogSource,
    /// Where the log file is, and who writes it.
    file: Option<PathBuf>,
    writer: WriterProcess,
    /// Up to where the log was read.
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

/// Who writes the log file.
enum WriterProcess {
    Visible(Process),
    /// Somebody who cannot be waited for, as in another PID namespace.
    Hidden,
    /// Nobody.
    None,
}

/// How the log can be had.
struct LogRoutes {
    client: Result<AdminClient, ClientError>,
    file: Option<PathBuf>,
    writer: WriterProcess,
    /// It is known which daemon is meant, and it runs.
    is_running: bool,
}

impl Control {
    /// The last lines. `notice` is told when they come from the file, and why.
    ///
    /// # Errors
    ///
    /// Neither way leads to the log.
    pub async fn last_lines(
        &self,
        query: &LogQuery,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Vec<LogEntry>, LogsError> {
        let filter = parse_filter(query)?;
        let ways = self.log_routes().await?;
        let error = match ways.client {
            Ok(client) => match fetch_pages(&client, query).await {
                Ok(entries) => return Ok(entries),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let path = self.fallback_path(ways.file, error, notice)?;
        let mut entries = Vec::new();
        let mut before = None;
        loop {
            let page = last_lines(&path, query.lines - entries.len(), &filter, before)?;
            entries.splice(0..0, page.entries);
            before = page.first;
            if entries.len() >= query.lines || before.is_none() {
                return Ok(entries);
            }
        }
    }

    /// The last lines and then each new one.
    ///
    /// # Errors
    ///
    /// Neither way leads to the log.
    pub async fn follow_log(
        &self,
        query: &LogQuery,
        notice: &mut dyn FnMut(&str),
    ) -> Result<LogLines<'_>, LogsError> {
        let filter = parse_filter(query)?;
        let ways = self.log_routes().await?;
        let followed = match ways.client {
            Ok(client) => client.follow_logs(query).await,
            Err(error) => Err(error),
        };
        let source = match followed {
            Ok(events) => LogSource::Stream(events),
            Err(error) => {
                let path = self.fallback_path(ways.file.clone(), error, notice)?;
                open_file(path, StartAt::Last(query.lines), filter.clone())?
            }
        };
        Ok(LogLines {
            control: self,
            query: query.clone(),
            filter,
            source,
            file: ways.file,
            writer: ways.writer,
            cursor: None,
        })
    }

    /// Returns once nobody writes the file any more.
    async fn writer_exited(&self, writer: &WriterProcess) {
        match writer {
            WriterProcess::None => {}
            // One that cannot be waited for counts as gone.
            WriterProcess::Visible(process) => drop(process.exited().await),
            WriterProcess::Hidden => loop {
                tokio::time::sleep(HIDDEN_POLL_INTERVAL).await;
                if !matches!(self.find_target().await, Ok(Target::Local { .. })) {
                    return;
                }
            },
        }
    }

    fn fallback_path(
        &self,
        file: Option<PathBuf>,
        error: ClientError,
        notice: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, LogsError> {
        match file {
            Some(path) => {
                notice(&format!("{error}; reading {}", path.display()));
                Ok(path)
            }
            None if self.admin_url.is_none() => Err(LogsError::FileUnknown(error.to_string())),
            None => Err(error.into()),
        }
    }

    async fn log_routes(&self) -> Result<LogRoutes, LogsError> {
        let found = self.find_target().await?;
        let is_running = matches!(found, Target::Local { .. } | Target::Remote(_));
        let (client, file, writer) = match found {
            Target::Local {
                state: Some(state), ..
            } if state.log_file.is_none() => return Err(LogsError::Stdout),
            Target::Local {
                holder,
                state,
                client,
            } => {
                let file = self.log_file(state.as_deref());
                let writer = match holder {
                    LockHolder::Known(process) => WriterProcess::Visible(process),
                    LockHolder::Hidden(_) => WriterProcess::Hidden,
                };
                (client, file, writer)
            }
            Target::Dead(_) => {
                let file = self.log_file(None);
                (Err(ClientError::NotRunning), file, WriterProcess::None)
            }
            Target::Absent(client) => (client, self.log_file(None), WriterProcess::None),
            Target::Remote(client) => (Ok(client), None, WriterProcess::None),
        };
        Ok(LogRoutes {
            client,
            file,
            writer,
            is_running,
        })
    }
}

impl LogLines<'_> {
    /// The next line; `None` when the daemon has stopped and no other one took its place.
    ///
    /// # Errors
    ///
    /// The log cannot be read any further.
    pub async fn next(
        &mut self,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<LogLine>, LogsError> {
        loop {
            let goes_on = match &mut self.source {
                LogSource::Stream(events) => {
                    let event = events.next().await;
                    self.cursor = events.last_id().and_then(|id| id.parse().ok());
                    match event {
                        Ok(Some(LogEvent::Entry(entry))) => return Ok(Some(LogLine::Entry(entry))),
                        Ok(Some(LogEvent::Gap)) => return Ok(Some(LogLine::Gap)),
                        // Its successor, which is there already, goes on with the same log.
                        Ok(Some(LogEvent::End(end)))
                            if end.reason == StreamEnd::RESTARTING && self.reconnect().await? =>
                        {
                            true
                        }
                        // What it still logs while it drains is in the file.
                        Ok(Some(LogEvent::End(_))) => self.switch_to_file(None, notice).await?,
                        Ok(None) => {
                            let broken = "the stream of the admin API broke off";
                            self.resume(broken, notice).await?
                        }
                        Err(error) => self.resume(&error.to_string(), notice).await?,
                    }
                }
                LogSource::File {
                    path,
                    follower,
                    buffered: ready,
                } => {
                    let gone = self.control.writer_exited(&self.writer);
                    let line = next_from_file(path, follower, gone, ready).await?;
                    self.cursor = follower.cursor();
                    match line {
                        Some(line) => return Ok(Some(line)),
                        None => {
                            !matches!(self.writer, WriterProcess::None)
                                && self.wait_for_successor().await?
                        }
                    }
                }
            };
            if !goes_on {
                return Ok(None);
            }
        }
    }

    /// Goes on after the last line: over REST if that can be had, else in the file.
    async fn resume(
        &mut self,
        broken: &str,
        notice: &mut dyn FnMut(&str),
    ) -> Result<bool, LogsError> {
        Ok(self.reconnect().await? || self.switch_to_file(Some(broken), notice).await?)
    }

    async fn switch_to_file(
        &mut self,
        broken: Option<&str>,
        notice: &mut dyn FnMut(&str),
    ) -> Result<bool, LogsError> {
        let Some(path) = self.file.clone() else {
            return match (self.wait_for_successor().await?, broken) {
                (false, Some(broken)) => Err(LogsError::FileUnknown(broken.to_owned())),
                (goes_on, _) => Ok(goes_on),
            };
        };
        if let Some(broken) = broken {
            notice(&format!("{broken}; reading {}", path.display()));
        }
        let from = self.cursor.map_or(StartAt::Last(0), StartAt::After);
        self.source = open_file(path, from, self.filter.clone())?;
        Ok(true)
    }

    /// Waits for a daemon in the place of the one that ended. Whether there is one.
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

    /// Goes on over REST, or in the same file if only that can be had of a daemon that runs. Whether either can.
    async fn reconnect(&mut self) -> Result<bool, LogsError> {
        let ways = self.control.log_routes().await?;
        if !ways.is_running {
            return Ok(false);
        }
        if !self.open_stream(ways.client).await
            && !matches!(&self.source, LogSource::File { path, .. } if ways.file.as_ref() == Some(path))
        {
            return Ok(false);
        }
        self.file = ways.file;
        self.writer = ways.writer;
        Ok(true)
    }

    async fn open_stream(&mut self, client: Result<AdminClient, ClientError>) -> bool {
        let query = LogQuery {
            lines: 0,
            after: self.cursor.map(|place| place.to_string()),
            ..self.query.clone()
        };
        let Ok(client) = client else {
            return false;
        };
        let Ok(events) = client.follow_logs(&query).await else {
            return false;
        };
        self.source = LogSource::Stream(events);
        true
    }
}

/// Page after page, until there are as many lines as were asked for: one page searches only so far.
async fn fetch_pages(client: &AdminClient, query: &LogQuery) -> Result<Vec<LogEntry>, ClientError> {
    let mut query = query.clone();
    let mut entries = Vec::new();
    while query.lines > 0 {
        let page = client.logs(&query).await?;
        query.lines = query.lines.saturating_sub(page.entries.len());
        query.before = page.first_cursor;
        entries.splice(0..0, page.entries);
        if query.before.is_none() {
            break;
        }
    }
    Ok(entries)
}

fn open_file(path: PathBuf, from: StartAt, filter: Filter) -> Result<LogSource, LogsError> {
    let watcher = LogBroadcaster::new(path.clone());
    let follower = Follower::new(&watcher, from, filter).map_err(|source| ReadError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(LogSource::File {
        path,
        follower,
        buffered: Vec::new().into_iter(),
    })
}

/// What is in the file, as long as somebody writes it.
async fn next_from_file(
    path: &Path,
    follower: &mut Follower,
    gone: impl Future<Output = ()>,
    ready: &mut std::vec::IntoIter<LogItem>,
) -> Result<Option<LogLine>, LogsError> {
    let mut gone = pin!(gone);
    let mut is_gone = false;
    loop {
        if let Some(item) = ready.next() {
            return Ok(Some(match item {
                LogItem::Entry(entry) => LogLine::Entry(entry),
                LogItem::Gap => LogLine::Gap,
            }));
        }
        let items = if is_gone {
            follower.try_next()
        } else {
            tokio::select! {
                biased;
                batch = follower.next() => batch.map(|batch| Some(batch.items.clone())),
                () = &mut gone => {
                    is_gone = true;
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
        *ready = items.into_iter();
    }
}

/// The filter that the daemon would make of the same query.
fn parse_filter(query: &LogQuery) -> Result<Filter, LogsError> {
    Ok(Filter::try_from(FilterParams {
        level: query.level.as_deref(),
        contains: query.contains.as_deref(),
        since: query.since.as_deref(),
    })?)
}
