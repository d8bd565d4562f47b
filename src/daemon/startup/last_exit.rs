//! How the previous instance ended.

use std::path::Path;

use jiff::Timestamp;

use crate::api::{ExitCause, LastExit};
use crate::config::Settings;
use crate::instance::{self, HandoffHeader, StateFile};
use crate::logs::TailQuery;

/// How many of its last log lines are kept.
const LOG_TAIL_LINES: usize = 10;

/// The exit of the instance that held the PID file before, from its state file. Must be called by
/// the holder of the lock before it writes a state file or a log of its own.
pub fn from_state_file(pid_file: &Path) -> Option<LastExit> {
    let state = StateFile::read_own(pid_file).ok()?;
    let log = state.log_file.as_deref();
    let (cause, by, at) = match state.exit {
        Some(exit) => (api_cause(exit.cause), Some(exit.by), Some(exit.at)),
        None => (ExitCause::Crashed, None, last_activity(pid_file, log)),
    };
    Some(LastExit {
        cause,
        by,
        at,
        pid: state.pid,
        last_lines: read_log_tail(log),
    })
}

/// The exit of the old process, which this process replaces.
pub fn from_handoff(handoff: &HandoffHeader, settings: &Settings) -> LastExit {
    LastExit {
        cause: ExitCause::Restarted,
        by: Some(handoff.by.clone()),
        at: Some(Timestamp::now().to_string()),
        pid: handoff.pid,
        last_lines: read_log_tail(settings.log.target.file()),
    }
}

fn api_cause(cause: instance::ExitCause) -> ExitCause {
    match cause {
        instance::ExitCause::Stopped => ExitCause::Stopped,
        instance::ExitCause::Signalled => ExitCause::Signalled,
        instance::ExitCause::Interrupted => ExitCause::Interrupted,
    }
}

fn read_log_tail(log: Option<&Path>) -> Vec<String> {
    // The file may have been removed, or belong to another user by now.
    let page = log.and_then(|log| TailQuery::new(log, LOG_TAIL_LINES).page().ok());
    let entries = page.map(|page| page.entries).unwrap_or_default();
    entries.into_iter().map(|entry| entry.line).collect()
}

/// When it last wrote to its log or state file.
fn last_activity(pid_file: &Path, log: Option<&Path>) -> Option<String> {
    let logged = log.and_then(|log| log.metadata().ok()?.modified().ok());
    let latest = logged.max(StateFile::modified_at(pid_file))?;
    Some(Timestamp::try_from(latest).ok()?.to_string())
}
