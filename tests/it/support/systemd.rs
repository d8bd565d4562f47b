//! A private machine: systemd in namespaces, on an overlay of this machine's files, with fullon
//! installed by `make install`. It has its own network, so that the daemon has the default ports.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use fullon_master_api::sys::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::groups::{Permit, SYSTEMD};
use super::{ChildGuard, DEADLINE, Outcome, spawn};

/// The installed service.
pub const SERVICE: &str = "fullon_master_api.service";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running systemd. Dropping it ends all its processes.
pub struct Machine {
    init: Process,
    cgroup: PathBuf,
    log: PathBuf,
    _outside: ChildGuard,
    _directory: tempfile::TempDir,
    _permit: Permit,
}

impl Machine {
    /// Boots it. fullon is installed, not enabled.
    pub fn boot() -> Self {
        let permit = SYSTEMD.enter();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let log = directory.path().join("log");
        let output = fs::File::create(&log).unwrap();
        let cgroup = cgroups().join(format!("fullon-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&cgroup).unwrap();
        let mut command = clean("sh");
        command
            .args(["-ec", "echo $$ >\"$0/cgroup.procs\"; exec \"$@\""])
            .arg(&cgroup)
            // The machine ends with the test, even if the test is killed.
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(["unshare", "--kill-child", "--fork", "--pid", "--mount"])
            .args(["--cgroup", "--ipc", "--uts", "--net"])
            .args(["--propagation", "private", "sh"])
            .arg(source("tests/it/support/systemd.sh"))
            .arg(root)
            .arg(source(""))
            .arg(env!("CARGO_BIN_EXE_fullon"))
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let mut outside = spawn(&mut command);
        let init = loop {
            assert!(outside.is_alive(), "{}", fs::read_to_string(&log).unwrap());
            if let Some(init) = child_of(outside.0.id()) {
                break init;
            }
            std::thread::yield_now();
        };
        let machine = Self {
            init,
            cgroup,
            log,
            _outside: outside,
            _directory: directory,
            _permit: permit,
        };
        machine.wait_for_boot();
        machine.run("systemd-sysusers", []).succeeds();
        machine
    }

    fn wait_for_boot(&self) {
        let is_up = self.file("run/systemd/private");
        let name = format!("/proc/{}/comm", self.init.pid());
        let began = Instant::now();
        // Before that, it may still see the files of this machine.
        while fs::read_to_string(&name).ok().as_deref() != Some("systemd\n") || !is_up.exists() {
            assert!(
                !self.init.has_exited() && began.elapsed() < DEADLINE,
                "it does not boot: {}",
                fs::read_to_string(&self.log).unwrap()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.systemctl(["is-system-running", "--wait"])
            .stdout_contains(&["running"]);
    }

    /// The path of a file of the machine as seen from outside. `path` has no leading `/`.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init.pid())).join(path)
    }

    /// Runs a program in the machine as root.
    pub fn run<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        Outcome::run(&mut self.command(program, arguments))
    }

    fn command<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = clean("nsenter");
        let target = self.init.pid().to_string();
        command.args(["--target", &target, "--all", program]);
        command.args(arguments);
        command
    }

    pub fn systemctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.run("systemctl", arguments)
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        let show = ["show", "--value", "--property", name, SERVICE];
        let value = self.systemctl(show).succeeds().stdout;
        value.trim_end().to_owned()
    }

    /// PID of the main process of the service, inside the machine. 0 if there is none.
    pub fn main_pid(&self) -> u32 {
        self.property("MainPID").parse().unwrap()
    }

    /// Adds a drop-in to the service. `text` has lines of its `[Service]` section.
    pub fn drop_in(&self, text: &str) {
        let directory = self.file(&format!("etc/systemd/system/{SERVICE}.d"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("test.conf"), format!("[Service]\n{text}\n")).unwrap();
        self.systemctl(["daemon-reload"]).succeeds();
    }

    /// Writes the settings of the service.
    pub fn write_settings(&self, text: &str) {
        fs::create_dir_all(self.file("etc/fullon_master_api")).unwrap();
        fs::write(self.file("etc/fullon_master_api/.env"), text).unwrap();
    }

    /// The journal of the service.
    pub fn journal(&self) -> String {
        self.run("journalctl", ["--sync"]).succeeds();
        let arguments = ["--unit", SERVICE, "--output", "cat", "--no-pager"];
        self.run("journalctl", arguments).succeeds().stdout
    }

    /// The priorities of the service's journal entries with this text.
    pub fn journal_priorities(&self, text: &str) -> Vec<String> {
        let arguments = ["--unit", SERVICE, "--output", "json", "--no-pager"];
        let entries = self.run("journalctl", arguments).succeeds().stdout;
        let entries = entries
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        entries
            .filter(|entry| {
                entry["MESSAGE"]
                    .as_str()
                    .is_some_and(|it| it.contains(text))
            })
            .map(|entry| entry["PRIORITY"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Prints the journal of a failed test.
    #[expect(clippy::print_stderr, reason = "the test harness captures it")]
    fn show_journal(&self) {
        let mut command = self.command("journalctl", ["--no-pager", "--lines=100"]);
        if let Ok(output) = command.output() {
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }

    /// Runs the closure in the network namespace of the machine.
    pub fn in_its_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init.pid())).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_journal();
        }
        let _ = self.init.kill();
        let _ = self.init.wait_for_exit(DEADLINE);
        let began = Instant::now();
        while !remove_cgroup(&self.cgroup) && began.elapsed() < DEADLINE {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// A command without the environment of the developer, and of the `make` that may run the tests.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Mount point of the cgroup hierarchy that systemd uses.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let path = mounts.find_map(|mut fields| {
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then_some(path)
    });
    path.expect("cgroup2 is mounted nowhere").into()
}

fn remove_cgroup(path: &Path) -> bool {
    for child in fs::read_dir(path).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

fn child_of(pid: u32) -> Option<Process> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Process::open(children.split(' ').next()?.parse().ok()?)
}
