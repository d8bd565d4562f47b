//! The log, through the admin API or out of the file, as one sequence.

use std::path::PathBuf;

use thiserror::Error;

use super::{Control, Found};
use crate::api::LogEntry;
use crate::client::{AdminClient, ClientError, LogEvent, LogEvents, LogQuery};
use crate::instance::{Holder, PidFileError, Process};
use crate::logs::{
    Cursor, Filter, FilterError, FilterTexts, Follower, From, Item, TailError, Watcher, last_lines,
};

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
    File(#[from] TailError),
    /// Nothing tells where the log is.
    #[error("{0}; and no log file is known: the log goes to stdout")]
    NoFile(String),
    /// A filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// What a reader of the log sees.
#[derive(Debug)]
pub enum LogLine {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here.
    Gap,
}

/// The log as it comes.
pub struct LogLines {
    source: Source,
    /// Where the file is, and the process whose end ends the log.
    fallback: Option<(PathBuf, Option<Process>)>,
    filter: Filter,
    last: Option<Cursor>,
}

enum Source {
    Stream(LogEvents),
    File {
        follower: Follower,
        writer: Option<Process>,
        ready: std::vec::IntoIter<Item>,
    },
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
        let filter = filter(query)?;
        let (client, file, _) = self.ways_to_the_log().await?;
        let error = match client {
            Ok(client) => match pages(&client, query).await {
                Ok(entries) => return Ok(entries),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let path = fallback(file, error, notice)?;
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
    ) -> Result<LogLines, LogsError> {
        let filter = filter(query)?;
        let (client, file, process) = self.ways_to_the_log().await?;
        let error = match client {
            Ok(client) => match client.follow(query).await {
                Ok(events) => {
                    return Ok(LogLines {
                        source: Source::Stream(events),
                        fallback: file.map(|file| (file, process)),
                        filter,
                        last: None,
                    });
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let path = fallback(file, error, notice)?;
        Ok(LogLines {
            source: follow_file(path, From::Last(query.lines), filter.clone(), process)?,
            fallback: None,
            filter,
            last: None,
        })
    }

    #[allow(clippy::type_complexity)]
    async fn ways_to_the_log(
        &self,
    ) -> Result<
        (
            Result<AdminClient, ClientError>,
            Option<PathBuf>,
            Option<Process>,
        ),
        LogsError,
    > {
        Ok(match self.find().await? {
            Found::Held {
                holder,
                state,
                client,
            } => {
                let file = self.log_file(state.as_deref());
                let process = match holder {
                    Holder::Process(process) => Some(process),
                    Holder::Hidden(_) => None,
                };
                (client, file, process)
            }
            Found::Dead(_) => (Err(ClientError::NotRunning), self.log_file(None), None),
            Found::Absent(client) => (client, self.log_file(None), None),
            Found::Elsewhere(client) => (Ok(client), None, None),
        })
    }
}

impl LogLines {
    /// The next line; `None` when the daemon has stopped.
    ///
    /// # Errors
    ///
    /// The log cannot be read any further.
    pub async fn next(
        &mut self,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<LogLine>, LogsError> {
        loop {
            let broken = match &mut self.source {
                Source::Stream(events) => match events.next().await {
                    Ok(Some(LogEvent::Entry(entry))) => {
                        self.last = entry.cursor.parse().ok();
                        return Ok(Some(LogLine::Entry(entry)));
                    }
                    Ok(Some(LogEvent::Gap)) => return Ok(Some(LogLine::Gap)),
                    Ok(Some(LogEvent::End(_))) => return Ok(None),
                    Ok(None) => "the stream of the admin API broke off".to_owned(),
                    Err(error) => error.to_string(),
                },
                Source::File {
                    follower,
                    writer,
                    ready,
                } => return next_of_file(follower, writer.as_ref(), ready).await,
            };
            let Some((path, process)) = self.fallback.take() else {
                return Err(LogsError::NoFile(broken));
            };
            notice(&format!("{broken}; reading {}", path.display()));
            let from = self.last.map_or(From::Last(0), From::After);
            self.source = follow_file(path, from, self.filter.clone(), process)?;
        }
    }
}

/// Page after page, until there are as many lines as were asked for: one page searches only so far.
async fn pages(client: &AdminClient, query: &LogQuery) -> Result<Vec<LogEntry>, ClientError> {
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

fn follow_file(
    path: PathBuf,
    from: From,
    filter: Filter,
    writer: Option<Process>,
) -> Result<Source, LogsError> {
    let watcher = Watcher::new(path.clone());
    let follower =
        Follower::new(&watcher, from, filter).map_err(|source| TailError::Io { path, source })?;
    Ok(Source::File {
        follower,
        writer,
        ready: Vec::new().into_iter(),
    })
}

/// What is in the file, as long as somebody writes it.
async fn next_of_file(
    follower: &mut Follower,
    writer: Option<&Process>,
    ready: &mut std::vec::IntoIter<Item>,
) -> Result<Option<LogLine>, LogsError> {
    loop {
        if let Some(item) = ready.next() {
            return Ok(Some(match item {
                Item::Entry(entry) => LogLine::Entry(entry),
                Item::Gap => LogLine::Gap,
            }));
        }
        let is_over = async {
            if let Some(process) = writer {
                // One that cannot be waited for counts as gone.
                let _ = process.gone().await;
            }
        };
        let items = tokio::select! {
            biased;
            batch = follower.next() => batch.map(|batch| batch.items.clone()),
            () = is_over => follower.rest(),
        };
        let items = items.map_err(|error| LogsError::NoFile(error.to_string()))?;
        if items.is_empty() {
            return Ok(None);
        }
        *ready = items.into_iter();
    }
}

fn fallback(
    file: Option<PathBuf>,
    error: ClientError,
    notice: &mut dyn FnMut(&str),
) -> Result<PathBuf, LogsError> {
    match file {
        Some(path) => {
            notice(&format!("{error}; reading {}", path.display()));
            Ok(path)
        }
        None => Err(error.into()),
    }
}

/// The filter that the daemon would make of the same query.
fn filter(query: &LogQuery) -> Result<Filter, LogsError> {
    Ok(Filter::try_from(FilterTexts {
        level: query.level.as_deref(),
        contains: query.contains.as_deref(),
        since: query.since.as_deref(),
    })?)
}
