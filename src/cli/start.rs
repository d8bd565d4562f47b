//! `fullon start`

use std::path::PathBuf;

use serde_json::json;

use super::context::{CommandContext, block_on};
use super::error::{CommandError, Result};
use super::output::{Output, notice, print_warning};
use crate::auth::Revocations;
use crate::config::{Settings, better_log_file, root_warning};
use crate::control::LaunchError;
use crate::identity::identity;
use crate::instance::{PidFileStatus, StateFile, describe_other_writer, inspect_pid_file};
use crate::logs::{WriterMark, has_other_writer};

pub fn run(context: &CommandContext, output: &Output) -> Result {
    let sources = context.location.read_sources();
    let settings = Settings::load_for_daemon(&sources, true)?;
    // The lock decides. This only avoids starting a process that would fail.
    let pid_file = inspect_pid_file(&settings.pid_file).map_err(anyhow::Error::from)?;
    if let PidFileStatus::Held(holder) = pid_file {
        let pid = holder
            .pid()
            .map_or(String::new(), |pid| format!(" with PID {pid}"));
        let is_stopping = block_on(context.control()?.is_stopping())?;
        let command = identity().command;
        return Err(if is_stopping {
            anyhow::anyhow!("the daemon is stopping{pid}: it finishes the requests in flight, for at most SHUTDOWN_TIMEOUT; wait until it has exited (`{command} status`), or run `{command} restart --hard`")
        } else {
            anyhow::anyhow!("the daemon is already running{pid}: see `{command} status`")
        }
        .into());
    }
    // The daemon gets the user of this process.
    let root = root_warning(std::process::id());
    for warning in sources.warnings().iter().chain(&root) {
        print_warning(warning);
    }
    warn_of_shared_files(&settings);
    warn_of_revocations(&settings);
    let better_log_file = better_log_file(&sources);
    let daemon = context.launch()?.start().map_err(|error| match error {
        LaunchError::Failed { message, exit_code } => {
            output.print_error(&message);
            CommandError::Exit(exit_code)
        }
        other => CommandError::Other(other.into()),
    })?;
    let log_file = settings.log.target.file();
    output.print_success(&format!("Daemon started with PID {}", daemon.pid))?;
    if let Some(path) = log_file {
        output.print_line(&format!("Log file: {}", path.display()))?;
    }
    output.print_line(&format!("PID file: {}", settings.pid_file.display()))?;
    advise_log_file(better_log_file);
    output.print_json(&json!({
        "pid": daemon.pid,
        "server": daemon.server,
        "log_file": log_file,
        "pid_file": settings.pid_file,
    }))
}

/// The daemon may refuse all tokens, or other users may remove the file of revoked ones.
fn warn_of_revocations(settings: &Settings) {
    let list = Revocations::path(&settings.key_file);
    let had_list = StateFile::read_own(&settings.pid_file)
        .is_ok_and(|state| state.knows_revocations_of(&settings.key_file));
    let revocations = Revocations::new(Some(list)).expecting(had_list);
    for problem in revocations.problems(settings.jwt_secret.as_ref()) {
        print_warning(&problem);
    }
}

/// Another daemon may write to the same files.
fn warn_of_shared_files(settings: &Settings) {
    let own = WriterMark::of_pid_file(&settings.pid_file);
    let files = [
        ("LOG_FILE", settings.log.target.file()),
        ("AUDIT_FILE", settings.audit_file.as_deref()),
    ];
    for (setting, path) in files {
        if let Some(path) = path
            && has_other_writer(path, own).unwrap_or_default()
        {
            print_warning(&format!(
                "{} writes to {}, too: choose another {setting}",
                describe_other_writer(path, &settings.pid_file),
                path.display()
            ));
        }
    }
}

/// Names a better place than the default log file, at the first start only.
pub fn advise_log_file(better: Option<PathBuf>) {
    if let Some(path) = better {
        let is_missing = path.parent().is_some_and(|directory| !directory.is_dir());
        let create = if is_missing {
            " (mkdir its directory)"
        } else {
            ""
        };
        notice(&format!(
            "better than /tmp: LOG_FILE={}{create}",
            path.display()
        ));
    }
}
