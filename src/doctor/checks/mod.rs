//! The checks, one topic a file.

mod admin_api;
mod application;
mod daemon;
mod log;
mod pid_file;
mod ports;
mod public_api;
mod restart;
mod settings;
mod token;

use super::finding::Finding;
use super::snapshot::Snapshot;

pub enum CheckFn {
    One(fn(&Snapshot) -> Option<Finding>),
    Many(fn(&Snapshot) -> Vec<Finding>),
}

use CheckFn::{Many, One};

/// All checks, in the order of their findings.
pub const CHECKS: [CheckFn; 29] = [
    Many(settings::problems),
    One(settings::env_file),
    Many(settings::warnings),
    Many(settings::exposed_origins),
    Many(settings::unlimited_proxies),
    One(token::secret),
    One(token::revocations),
    One(pid_file::pid_file),
    One(pid_file::state_file),
    One(restart::last_failure),
    One(admin_api::answer),
    One(token::token),
    One(public_api::answer),
    One(daemon::phase),
    One(daemon::version),
    One(daemon::user),
    One(settings::pending),
    One(daemon::last_exit),
    Many(daemon::dependencies),
    One(application::program),
    One(application::placeholder),
    One(application::sockets),
    One(application::workers),
    Many(restart::settings),
    One(ports::public),
    One(ports::admin),
    One(log::log),
    One(log::disk),
    One(log::audit),
];

impl CheckFn {
    pub fn run(&self, snapshot: &Snapshot) -> Vec<Finding> {
        match self {
            One(check) => check(snapshot).into_iter().collect(),
            Many(check) => check(snapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Each `pub fn` of a file here that takes the snapshot is a check.
    #[test]
    fn every_check_is_listed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/checks");
        let list = std::fs::read_to_string(directory.join("mod.rs")).unwrap();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let topic = path.file_stem().unwrap().to_str().unwrap();
            let source = std::fs::read_to_string(&path).unwrap();
            let checks: Vec<_> = source
                .split("\npub fn ")
                .skip(1)
                .filter_map(|function| function.split_once("(snapshot: &Snapshot) ->"))
                .map(|(name, _)| format!("({topic}::{name}),"))
                .collect();
            assert!(topic == "mod" || !checks.is_empty(), "{topic} has no check");
            for check in checks {
                assert!(list.contains(&check), "{check} is missing in CHECKS");
            }
        }
    }
}
