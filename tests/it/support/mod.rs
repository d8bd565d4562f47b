//! Real daemons in private home directories.

mod application;
mod browser;
mod certificate;
mod dependency;
mod fake_api;
mod groups;
mod http;
mod installed_program;
pub mod jwt;
mod load;
mod lock;
mod log_follower;
mod numbered_requests;
mod other_server;
mod outcome;
mod pgbouncer;
mod postgres;
mod preload;
mod processes;
mod proxy;
mod random;
mod redis;
mod resource_usage;
pub mod scale;
mod session;
mod signals;
mod systemd;
mod watchdog;
mod web_socket;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fullon_master_api::auth::{Revocations, TokenSigner};
use fullon_master_api::config::{DEFINITIONS, Secret, user_name};
use fullon_master_api::instance::{PidFileStatus, StateFile, inspect_pid_file};
use fullon_master_api::sys::Process;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub use application::{Application, DocumentedApplication, documented_settings};
pub use browser::{Browser, SESSION_HEADERS, SIGN_IN_SCRIPT, browser_available};
pub use certificate::Certificate;
pub use dependency::{Dependency, PASSWORD, dependencies_available, start_dependencies};
pub use fake_api::{FakeApi, proof};
pub use groups::HEAVY;
pub use http::{Connection, Response, request};
pub use installed_program::{InstalledProgram, install_program};
pub use load::{Load, LoadProfile};
pub use lock::lock_file;
pub use log_follower::LogFollower;
pub use numbered_requests::{
    FollowedRequests, NumberedRequests, is_numbered_request, request_numbers,
};
pub use other_server::OtherServer;
pub use outcome::Outcome;
pub use pgbouncer::Pgbouncer;
pub use postgres::Postgres;
pub use preload::preload_library;
pub use processes::{child_processes, executable_of, is_zombie, open_files};
pub use proxy::{Proxy, ProxyProgram, documented_configuration};
pub use random::Random;
pub use redis::Redis;
pub use resource_usage::ResourceSamples;
pub use session::TestSession;
pub use signals::{run_foreground, send_signal};
pub use systemd::{Machine, SERVICE};
pub use web_socket::WebSocket;

/// Time after which a test gives up waiting. It only has to catch a hang.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A home directory with at most one daemon. Ends the daemon when it is dropped.
pub struct Home {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Home {
    /// Creates an empty home. Its daemon listens on free ports.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("fullon.log").display().to_string();
        let environment = [
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("HOST", "127.0.0.1"),
            ("LOG_FILE", &log),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        watchdog::set_limit(directory.path(), watchdog::TEST_LIMIT);
        Self {
            directory,
            environment,
        }
    }

    /// Lets this test run longer than others by this time.
    pub fn extend_time_limit(&self, time: Duration) {
        watchdog::set_limit(self.path(), watchdog::TEST_LIMIT + time);
    }

    /// Creates a home and starts its daemon.
    pub fn started() -> Self {
        let home = Self::new();
        home.run(["start"]).succeeds();
        home
    }

    /// Sets a variable for every process of this home.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(there, _)| there != name);
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn log_file(&self) -> PathBuf {
        self.path().join("fullon.log")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.path().join(".fullon_master_api.pid")
    }

    /// Writes `.env` with mode 0600.
    pub fn write_env(&self, text: &str) {
        let path = self.path().join(".env");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A command with the environment of this home, without settings of the developer.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for setting in &DEFINITIONS {
            for variable in setting.variables() {
                command.env_remove(variable);
            }
        }
        command
            .env("HOME", self.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub fn fullon<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_fullon"));
        command.args(arguments);
        command
    }

    /// Runs `fullon` and waits until it exits.
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        Outcome::run(&mut self.fullon(arguments))
    }

    /// The state file of the running daemon.
    pub fn state(&self) -> StateFile {
        let pid = self.daemon().expect("no daemon runs").pid();
        StateFile::read_active(&self.pid_file(), pid).unwrap()
    }

    /// The process that holds the lock of the PID file.
    pub fn daemon(&self) -> Option<Process> {
        match inspect_pid_file(&self.pid_file()).unwrap() {
            PidFileStatus::Held(holder) => Process::open(holder.pid()?),
            _ => None,
        }
    }

    /// `HOST:PORT` of the public API.
    pub fn public_address(&self) -> String {
        self.state().server.trim_start_matches("http://").to_owned()
    }

    /// `HOST:PORT` of the admin API.
    pub fn admin_address(&self) -> String {
        self.state().admin.trim_start_matches("http://").to_owned()
    }

    /// A token signed with the configured key, valid for an hour. It is signed in this process:
    /// `fullon token` for each request took much of the time of all tests.
    pub fn token(&self, scope: &str) -> String {
        if self.variable("FAKETIME_TIMESTAMP_FILE").is_some() {
            // Only processes of this home use its clock.
            let printed = self.run(["token", "--scope", scope]).succeeds();
            return printed.stdout.trim().to_owned();
        }
        let user = user_name(nix::unistd::getuid().as_raw());
        let hour = Duration::from_hours(1);
        TokenSigner::with_configured_key(&self.key())
            .sign(&user, scope.parse().unwrap(), hour)
            .unwrap()
    }

    /// The configured key: `JWT_SECRET_KEY` of the environment or `.env`, or the key file.
    pub fn key(&self) -> Secret {
        let name = "JWT_SECRET_KEY";
        let of_environment = self.variable(name).map(str::to_owned);
        let of_file = || {
            let path = self.path().join(".env");
            // Reading a pipe could block.
            let text = path.is_file().then(|| fs::read_to_string(path).ok())??;
            let assignments = text.lines().filter_map(|line| line.split_once('='));
            let mut values = assignments.filter(|(there, _)| *there == name);
            Some(values.next_back()?.1.trim_matches(['\'', '"']).to_owned())
        };
        of_environment.or_else(of_file).map_or_else(
            || {
                Revocations::new(None)
                    .read_or_create_key_file(&self.path().join(".fullon_master_api.key"))
                    .unwrap()
            },
            Secret::new,
        )
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let mut all = self.environment.iter();
        all.find_map(|(there, value)| (there == name).then_some(value.as_str()))
    }

    /// Sends a request whose body never ends, and waits until it is in flight.
    pub fn unfinished_request(&self) -> Connection {
        let mut connection = Connection::open(&self.admin_address());
        let head = format!(
            "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
            self.bearer()
        );
        connection.send_bytes(head.as_bytes());
        eventually("it is in flight", || {
            self.call_admin("GET", "/admin/status").json()["http"]["in_flight"] == 2
        });
        connection
    }

    /// Calls the admin API with all scopes.
    pub fn call_admin(&self, method: &str, path: &str) -> Response {
        self.call_admin_with(method, path, "")
    }

    /// Calls the admin API with all scopes and a body.
    pub fn call_admin_with(&self, method: &str, path: &str, body: &str) -> Response {
        request(
            &self.admin_address(),
            method,
            path,
            &[("Authorization", &self.bearer())],
            body,
        )
    }

    /// Calls the admin API with this token.
    pub fn call_admin_as(&self, token: &str, method: &str, path: &str) -> Response {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        request(&self.admin_address(), method, path, &headers, "")
    }

    /// The value of an `Authorization` header with all scopes.
    pub fn bearer(&self) -> String {
        let token = self.token("admin:read admin:logs admin:control");
        format!("Bearer {token}")
    }

    /// Restarts the daemon. Returns the PID of the new process.
    #[track_caller]
    pub fn restart(&self) -> u64 {
        let outcome = self.run(["restart", "--json"]).succeeds();
        outcome.json()["pid"].as_u64().unwrap()
    }

    /// Sends a request with this ID, so that the daemon logs a line with it.
    pub fn log_request(&self, name: &str) {
        request(
            &self.public_address(),
            "GET",
            "/",
            &[("X-Request-Id", name)],
            "",
        );
    }

    /// Reads the log file. logrotate leaves none for a moment.
    pub fn log(&self) -> String {
        let mut text = None;
        eventually("there is a log", || {
            text = fs::read_to_string(self.log_file()).ok();
            text.is_some()
        });
        text.unwrap()
    }

    /// Reads the log file and all rotated files, in any order. Starts again if one is renamed
    /// meanwhile.
    pub fn log_with_rotated(&self) -> String {
        let mut text = None;
        eventually("all files of the log are read", || {
            let entries = fs::read_dir(self.path()).unwrap().flatten();
            let is_log = |entry: &fs::DirEntry| {
                let name = entry.file_name();
                name.to_string_lossy().starts_with("fullon.log")
            };
            let files = entries.filter(is_log);
            text = files
                .map(|entry| fs::read_to_string(entry.path()).ok())
                .collect();
            text.is_some()
        });
        text.unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Ok(PidFileStatus::Held(holder)) = inspect_pid_file(&self.pid_file())
            && let Some(process) = holder.pid().and_then(Process::open)
        {
            let _ = process.kill();
            let _ = process.wait_for_exit(DEADLINE);
        }
        watchdog::remove(self.path());
    }
}

/// Sets a flag when dropped, so that the threads of a test end even if the test fails.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A child process that is killed when dropped.
pub struct ChildGuard(pub Child);

impl ChildGuard {
    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a child process that runs until the guard is dropped.
pub fn spawn(command: &mut Command) -> ChildGuard {
    ChildGuard(command.spawn().unwrap())
}

/// Starts a process that has nothing to do with any daemon.
pub fn unrelated_process() -> ChildGuard {
    let process = spawn(Command::new("sleep").arg("600"));
    let name = format!("/proc/{}/comm", process.0.id());
    // The parent continues a moment before the new program has its name.
    eventually("the program has its name", || {
        fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
    });
    process
}

/// Waits until the condition holds. The test fails if it does not hold before [`DEADLINE`]. The
/// pauses between two checks grow, so that a long wait uses little processor time.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        let waited = begun.elapsed();
        assert!(waited < DEADLINE, "{what}: not within {DEADLINE:?}");
        let pause = (waited / 10).clamp(Duration::from_millis(2), Duration::from_millis(100));
        std::thread::sleep(pause);
    }
}

pub fn file_mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// A port that is free. It is outside `ip_local_port_range`, from which the kernel would give it to
/// another test in between.
pub fn free_port() -> u16 {
    let anywhere = uuid::Uuid::new_v4().as_u64_pair().0;
    let ports = (0..10_000_u64).map(|n| 20_000 + (anywhere % 10_000 + n) % 10_000);
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| is_free(*port))
        .expect("no port is free")
}

/// Whether there is no socket at the port, at any address. Connections that have just ended count,
/// too: the daemon could not hold the port.
fn is_free(port: u16) -> bool {
    // Without `SO_REUSEADDR`.
    let (family, flags) = (AddressFamily::INET6, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    rustix::net::bind(&socket, &everywhere).is_ok()
}

/// Whether this process is root. Reports the test as skipped if not.
pub fn running_as_root(test: &str) -> bool {
    prerequisite_available(test, "root", nix::unistd::geteuid().is_root())
}

/// The directory where `scripts/install-test-tools.sh` installs tools.
pub fn tools_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools")
}

/// Returns `is_there`. If a prerequisite is missing, reports the test as skipped; with `CI` in the
/// environment the test fails.
pub fn prerequisite_available(test: &str, needed: &str, is_there: bool) -> bool {
    if !is_there {
        assert!(
            std::env::var_os("CI").is_none(),
            "{test} needs {needed}, and CI skips nothing"
        );
        report_skipped(&format!("{test}: it needs {needed}"));
    }
    is_there
}

/// Prints that a test was skipped. `scripts/run-tests.sh` counts the lines of its file.
fn report_skipped(text: &str) {
    // Written directly, because the test harness hides the output of passing tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED {text}");
    if let Some(list) = std::env::var_os("SKIPPED_TESTS") {
        let list = fs::File::options().append(true).create(true).open(list);
        writeln!(list.unwrap(), "{text}").unwrap();
    }
}
