//! How the previous instance ended.

use std::path::Path;

use jiff::Timestamp;

use crate::api::{ExitCause, LastExit};
use crate::config::Settings;
use crate::instance::{HandoffPayload, StateFile};
use crate::logs::{Filter, last_lines};

/// How many lines it left are told.
const LOG_TAIL_LINES: usize = 10;

/// Of whoever held the PID file before, as far as its state file tells. To be asked by who holds it now, before it writes
/// anything of its own.
pub fn from_state_file(pid_file: &Path) -> Option<LastExit> {
    let state = StateFile::read_last(pid_file).ok()?;
    let log = state.log_file.as_deref();
    let (cause, by, at) = match state.exit {
        Some(exit) => (exit.cause, Some(exit.by), Some(exit.at)),
        None => (ExitCause::Crashed, None, last_activity(pid_file, log)),
    };
    Some(LastExit {
        cause,
        by,
        at,
        pid: state.pid,
        last_lines: log.map(read_log_tail).unwrap_or_default(),
    })
}

/// Of the one that this process replaces.
pub fn from_handoff(inheritance: &HandoffPayload, settings: &Settings) -> LastExit {
    LastExit {
        cause: ExitCause::Restarted,
        by: Some(inheritance.by.clone()),
        at: Some(Timestamp::now().to_string()),
        pid: inheritance.pid,
        last_lines: settings
            .log
            .target
            .file()
            .map(read_log_tail)
            .unwrap_or_default(),
    }
}

fn read_log_tail(log: &Path) -> Vec<String> {
    // It may be gone, or somebody else's by now.
    let page = last_lines(log, LOG_TAIL_LINES, &Filter::default(), None);
    let entries = page.map(|page| page.entries).unwrap_or_default();
    entries.into_iter().map(|entry| entry.line).collect()
}

/// When it last wrote anything.
fn last_activity(pid_file: &Path, log: Option<&Path>) -> Option<String> {
    let logged = log.and_then(|log| log.metadata().ok()?.modified().ok());
    let latest = logged.max(StateFile::modified_at(pid_file))?;
    Some(Timestamp::try_from(latest).ok()?.to_string())
}
