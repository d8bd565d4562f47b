//! The last lines of the log.

use std::collections::BTreeSet;

use super::error::LogsError;
use super::route::parse_filter;
use crate::api::{IncompleteLogFile, LogEntry, LogPage};
use crate::client::{AdminClient, ClientError, LogQuery};
use crate::control::target::DaemonControl;
use crate::logs::TailQuery;

impl DaemonControl {
    /// The last lines. `notice` receives a message when they are read from the file.
    ///
    /// # Errors
    ///
    /// Neither the admin API nor the file can be used.
    pub async fn last_lines(
        &self,
        query: &LogQuery,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Vec<LogEntry>, LogsError> {
        let filter = parse_filter(query)?;
        let routes = self.log_routes().await?;
        let mut incomplete = BTreeSet::new();
        let fetched = async { fetch_pages(&routes.client?, query, &mut incomplete).await }.await;
        let error = match fetched {
            Ok(entries) => {
                for file in &incomplete {
                    notice(file);
                }
                return Ok(entries);
            }
            Err(error) => error,
        };
        incomplete.clear();
        let path = self.fallback_path(routes.file, routes.foreign_file, error, notice)?;
        let mut entries = Vec::new();
        let mut before = None;
        loop {
            let page = TailQuery::new(&path, query.lines - entries.len())
                .filter(filter.clone())
                .before(before)
                .page()?;
            before = page.first;
            let page = LogPage::from(page);
            incomplete.extend(page.incomplete_files.iter().map(describe));
            entries.splice(0..0, page.entries);
            if entries.len() >= query.lines || before.is_none() {
                for file in &incomplete {
                    notice(file);
                }
                return Ok(entries);
            }
        }
    }
}

fn describe(file: &IncompleteLogFile) -> String {
    format!("{}: {}", file.file, file.reason)
}

/// Fetches pages until there are enough lines: the search for one page is limited.
async fn fetch_pages(
    client: &AdminClient,
    query: &LogQuery,
    incomplete: &mut BTreeSet<String>,
) -> Result<Vec<LogEntry>, ClientError> {
    let mut query = query.clone();
    let mut entries = Vec::new();
    while query.lines > 0 {
        let page = client.logs(&query).await?;
        query.lines = query.lines.saturating_sub(page.entries.len());
        query.before = page.first_cursor;
        incomplete.extend(page.incomplete_files.iter().map(describe));
        entries.splice(0..0, page.entries);
        if query.before.is_none() {
            break;
        }
    }
    Ok(entries)
}
