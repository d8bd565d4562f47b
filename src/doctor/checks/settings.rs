//! The local settings, the `.env` file, and edits that are not active yet.

use std::os::unix::fs::MetadataExt as _;

use crate::config::{
    Activation, AdminOrigin, AdminOrigins, SettingWarning, TrustedProxies, activation,
};
use crate::doctor::finding::{Finding, SIGNING_KEY};
use crate::doctor::setting_problem::{fix_hint, is_about_env_file};
use crate::doctor::snapshot::Snapshot;

const SETTINGS: &str = "settings";
const ENV_FILE: &str = ".env";

/// One finding for each invalid setting.
pub fn problems(snapshot: &Snapshot) -> Vec<Finding> {
    if snapshot.problems.is_empty() {
        return vec![Finding::ok(SETTINGS, "valid")];
    }
    let sources = snapshot.sources;
    snapshot
        .problems
        .iter()
        .map(|problem| {
            let subject = if is_about_env_file(problem, sources) {
                ENV_FILE
            } else if problem.setting == "JWT_SECRET_KEY" {
                SIGNING_KEY
            } else {
                SETTINGS
            };
            Finding::error(
                subject,
                problem.to_string(),
                fix_hint(problem, sources, false),
            )
        })
        .collect()
}

/// Whether the `.env` file exists. If it is unusable or exposed, [`problems`] or [`warnings`] reports
/// it.
pub fn env_file(snapshot: &Snapshot) -> Option<Finding> {
    let sources = snapshot.sources;
    let shown = sources.file().display().to_string();
    if sources.warnings().iter().any(|it| it.subject == shown) {
        return None;
    }
    let mut problems = snapshot.problems.iter();
    if problems.any(|problem| is_about_env_file(problem, sources)) {
        return None;
    }
    let path = sources.file();
    if path.exists() {
        return Some(Finding::ok(ENV_FILE, shown));
    }
    let directory = path
        .parent()
        .and_then(|directory| directory.metadata().ok());
    Some(
        if directory.is_some_and(|directory| directory.nlink() == 0) {
            Finding::warning(
                ENV_FILE,
                "the working directory was removed, with any .env file in it",
                "cd to an existing directory",
            )
        } else {
            Finding::ok(ENV_FILE, format!("{shown} does not exist (optional)"))
        },
    )
}

/// Weaknesses of the settings: secrets that all users can read, and names without effect.
pub fn warnings(snapshot: &Snapshot) -> Vec<Finding> {
    let file = snapshot.sources.file().display().to_string();
    let finding = |warning: &SettingWarning| {
        let subject = if warning.subject == file {
            ENV_FILE
        } else {
            SETTINGS
        };
        let message = format!("{}: {}", warning.subject, warning.message);
        Finding::warning(subject, message, warning.next_step.clone())
    };
    snapshot.sources.warnings().iter().map(finding).collect()
}

/// Origins of pages that a network can read and change.
pub fn exposed_origins(snapshot: &Snapshot) -> Vec<Finding> {
    let origins = snapshot.settings.admin_origins.iter();
    let origins = origins.flat_map(AdminOrigins::iter);
    let exposed = origins.filter(|origin| origin.is_exposed());
    let finding = |origin: &AdminOrigin| {
        Finding::warning(
            SETTINGS,
            format!(
                "ADMIN_ORIGINS: {origin} sends tokens and sessions over the network unencrypted"
            ),
            "use https in the proxy and in ADMIN_ORIGINS, or an SSH tunnel",
        )
    };
    exposed.map(finding).collect()
}

/// Proxies that are everybody.
pub fn unlimited_proxies(snapshot: &Snapshot) -> Vec<Finding> {
    let proxies = snapshot.settings.trusted_proxies.iter();
    let networks = proxies.flat_map(TrustedProxies::unlimited);
    let finding = |network| {
        Finding::warning(
            SETTINGS,
            format!(
                "TRUSTED_PROXIES: {network} is everybody, so every client can choose its address in the log and the audit trail"
            ),
            "list the addresses of the proxies only",
        )
    };
    networks.map(finding).collect()
}

/// Settings that were edited since the daemon read them.
pub fn pending(snapshot: &Snapshot) -> Option<Finding> {
    let status = snapshot.status()?;
    let pending = &status.pending_restart;
    // Nothing becomes active while a setting is invalid. Other checks report that.
    if pending.is_empty() || !snapshot.restart_problems().is_empty() {
        return None;
    }
    let has = |step| pending.iter().any(|name| activation(name) == step);
    let command = if has(Activation::Start) {
        // A restart fails, because a running daemon keeps its PID file.
        format!("fullon stop --pid-file {} && fullon start", status.pid_file)
    } else if has(Activation::Restart) {
        "fullon restart".to_owned()
    } else {
        "fullon reload".to_owned()
    };
    let names = pending.join(", ");
    let message = format!("{names} changed in .env, not active until `{command}`");
    Some(Finding::warning(SETTINGS, message, command))
}
