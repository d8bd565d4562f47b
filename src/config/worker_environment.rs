//! The environment of the workers: the lines of `.env`, over them the environment of the daemon,
//! without what belongs to the daemon itself. `APP_ENV_NAME` sets `NAME`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::app_command::{AppCommand, Placeholder};

/// Beginning of the variables that set another one for the workers.
pub(super) const APP_ENV_PREFIX: &str = "APP_ENV_";

/// Variables that are for the daemon only: its secrets, its addresses and files, and what a service
/// manager tells one process.
const OWN_NAMES: [&str; 8] = [
    "AUDIT_FILE",
    "CREDENTIALS_DIRECTORY",
    "HOST",
    "JOURNAL_STREAM",
    "LOG_FILE",
    "NOTIFY_SOCKET",
    "PID_FILE",
    "PORT",
];
const OWN_PREFIXES: [&str; 4] = ["ADMIN_", "JWT_SECRET_KEY", "LISTEN_", "WATCHDOG_"];

/// The environment of the workers of any command. It contains secrets, so its `Debug` prints only
/// names.
#[derive(Clone, Default)]
pub(super) struct WorkerEnvironment(BTreeMap<OsString, OsString>);

impl WorkerEnvironment {
    /// `file` has the lines of `.env`, and `environment` the variables of the daemon.
    pub fn new(
        file: &BTreeMap<String, String>,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Self {
        let file = file.iter().map(|(name, value)| (name.into(), value.into()));
        let mut variables: BTreeMap<OsString, OsString> = file.collect();
        variables.extend(environment.clone());
        let passed_on: Vec<_> = variables.iter().filter_map(passed_on).collect();
        variables.retain(|name, _| !is_own(name));
        variables.extend(passed_on);
        Self(variables)
    }

    /// The environment for the workers of this command. Variables that the user has set stay.
    pub fn for_worker(
        &self,
        command: &AppCommand,
        directory: &Path,
    ) -> BTreeMap<OsString, OsString> {
        let mut variables = self.0.clone();
        variables.insert("PWD".into(), directory.into());
        // Without it, the last lines of a Python program that crashes are lost in its buffer.
        let unbuffered = variables.entry("PYTHONUNBUFFERED".into());
        unbuffered.or_insert("1".into());
        // The client of the worker is this program, also where it has no address.
        let proxies = match command.placeholder() {
            Placeholder::Fd | Placeholder::Socket => "*",
            Placeholder::Port | Placeholder::Environment => "127.0.0.1",
        };
        let allowed = variables.entry("FORWARDED_ALLOW_IPS".into());
        allowed.or_insert(proxies.into());
        variables
    }
}

impl fmt::Debug for WorkerEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether the variable sets another one for the workers.
pub(super) fn is_passed_on(name: &str) -> bool {
    name.strip_prefix(APP_ENV_PREFIX)
        .is_some_and(|name| !name.is_empty())
}

/// `NAME` and the value, if the variable is `APP_ENV_NAME`.
fn passed_on((name, value): (&OsString, &OsString)) -> Option<(OsString, OsString)> {
    let name = name.as_bytes().strip_prefix(APP_ENV_PREFIX.as_bytes())?;
    (!name.is_empty()).then(|| (OsString::from_vec(name.to_vec()), value.clone()))
}

fn is_own(name: &OsStr) -> bool {
    let is_prefix = |prefix: &&str| name.as_bytes().starts_with(prefix.as_bytes());
    OWN_NAMES.iter().any(|own| name == *own) || OWN_PREFIXES.iter().any(is_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        command: &str,
        file: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> BTreeMap<OsString, OsString> {
        let file = file
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        WorkerEnvironment::new(&file.collect(), &variables.collect())
            .for_worker(&AppCommand::parse(command).unwrap(), Path::new("/srv"))
    }

    fn get<'a>(environment: &'a BTreeMap<OsString, OsString>, name: &str) -> Option<&'a str> {
        environment.get(OsStr::new(name))?.to_str()
    }

    #[test]
    fn variables_of_the_daemon_override_lines_of_the_file() {
        let found = environment(
            "x {fd}",
            &[
                ("A", "file"),
                ("B", "file"),
                ("DATABASE_URL", "postgres://db"),
            ],
            &[("B", "environment"), ("LOG_LEVEL", "DEBUG")],
        );
        assert_eq!(get(&found, "A"), Some("file"));
        assert_eq!(get(&found, "B"), Some("environment"));
        assert_eq!(get(&found, "DATABASE_URL"), Some("postgres://db"));
        assert_eq!(get(&found, "LOG_LEVEL"), Some("DEBUG"));
        assert_eq!(get(&found, "PYTHONUNBUFFERED"), Some("1"));
        assert_eq!(get(&found, "FORWARDED_ALLOW_IPS"), Some("*"));
    }

    #[test]
    fn variables_of_the_daemon_itself_are_removed() {
        let names = [
            "JWT_SECRET_KEY",
            "JWT_SECRET_KEY_FILE",
            "ADMIN_PORT",
            "HOST",
            "PORT",
            "PID_FILE",
            "LOG_FILE",
            "AUDIT_FILE",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "LISTEN_FDS",
            "JOURNAL_STREAM",
            "CREDENTIALS_DIRECTORY",
        ];
        let values: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
        for found in [
            environment("x", &values, &[]),
            environment("x", &[], &values),
        ] {
            let left: Vec<_> = found.keys().collect();
            assert_eq!(left, ["FORWARDED_ALLOW_IPS", "PWD", "PYTHONUNBUFFERED"]);
        }
    }

    #[test]
    fn app_env_sets_any_variable() {
        let found = environment(
            "x {port}",
            &[
                ("APP_ENV_A", "file"),
                ("APP_ENV_EMPTY", ""),
                ("APP_ENV_JWT_SECRET_KEY", "own"),
            ],
            &[
                ("A", "environment"),
                ("APP_ENV", "production"),
                ("APP_ENV_", "x"),
                ("APP_ENV_FORWARDED_ALLOW_IPS", "10.0.0.1"),
                ("JWT_SECRET_KEY", "of the daemon"),
            ],
        );
        assert_eq!(get(&found, "A"), Some("file"));
        assert_eq!(get(&found, "EMPTY"), Some(""));
        assert_eq!(get(&found, "JWT_SECRET_KEY"), Some("own"));
        assert_eq!(get(&found, "APP_ENV"), Some("production"));
        assert_eq!(get(&found, "FORWARDED_ALLOW_IPS"), Some("10.0.0.1"));
        assert_eq!(get(&found, ""), None);
        let port = environment("x {port}", &[], &[]);
        assert_eq!(get(&port, "FORWARDED_ALLOW_IPS"), Some("127.0.0.1"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let variables = [("A_SECRET".into(), "hunter2".into())]
            .into_iter()
            .collect();
        let environment = WorkerEnvironment::new(&BTreeMap::new(), &variables);
        let settings = format!("{environment:?}");
        assert!(settings.contains("A_SECRET") && !settings.contains("hunter2"));
    }
}
