//! Restarts of `fullon run`: the first process stays and supervises the daemon.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use fullon_master_api::sys::Process;
use nix::sys::signal::Signal;

use crate::support::{
    ChildGuard, DEADLINE, Home, InstalledProgram, Load, LoadProfile, Outcome, child_processes,
    eventually, is_zombie, prerequisite_available, run_foreground, running_as_root, send_signal,
    spawn,
};

/// The exit code of `fullon run`.
#[track_caller]
fn wait_for_exit_code(mut child: ChildGuard) -> Option<i32> {
    eventually("the process exits", || !child.is_alive());
    child.0.wait().unwrap().code()
}

#[test]
fn first_process_survives_restarts_and_forwards_stop() {
    for stop_signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new();
        let mut first = run_foreground(&home);
        let load = Load::start(&home.public_address(), &LoadProfile::default());
        for _ in 0..3 {
            home.restart();
            load.wait_for_more(100);
            assert!(first.is_alive());
            assert_ne!(home.state().pid, first.0.id());
        }
        load.finish().assert_flawless();
        let daemon = home.daemon().unwrap();
        send_signal(first.0.id(), stop_signal);
        assert_eq!(wait_for_exit_code(first), Some(0));
        assert!(daemon.has_exited());
        assert!(!home.pid_file().exists());
        home.wait_until_empty();
        assert!(home.log().contains(" stopped\n"));
    }
}

#[test]
fn first_process_exits_when_daemon_is_stopped() {
    let home = Home::new();
    let first = run_foreground(&home);
    home.restart();
    home.run(["stop"]).succeeds();
    assert_eq!(wait_for_exit_code(first), Some(0));
}

#[test]
fn first_process_fails_when_daemon_is_killed() {
    let home = Home::new();
    let mut first = run_foreground(&home);
    home.restart();
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    eventually("the process exits", || !first.is_alive());
    let status = first.0.wait().unwrap();
    assert!(
        status.code() == Some(128 + 9) || status.signal() == Some(9),
        "{status}"
    );
    home.wait_until_empty();
}

#[test]
fn daemon_exits_when_first_process_is_killed() {
    for restarts in [1, 3] {
        let mut home = Home::new();
        home.set("SHUTDOWN_TIMEOUT", "1h");
        home.set("DRAIN_DELAY", "5m");
        let mut first = run_foreground(&home);
        for _ in 0..restarts {
            home.restart();
        }
        let daemon = home.daemon().unwrap();
        let _request = home.unfinished_request();
        send_signal(first.0.id(), Signal::SIGKILL);
        first.0.wait().unwrap();
        assert!(daemon.wait_for_exit(DEADLINE));
        home.wait_until_empty();
        assert!(!home.pid_file().exists());
        home.run(["start"]).succeeds();
        home.run(["status"]).succeeds().stdout_contains(&[
            "Last exit: ended before requests were finished by exit of the supervising process",
        ]);
    }
}

#[test]
fn replaced_and_draining_processes_exit_when_first_process_is_killed() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    let mut first = run_foreground(&home);
    home.restart();
    let _of_replaced = home.unfinished_request();
    home.restart();
    let _of_daemon = home.unfinished_request();
    send_signal(first.0.id(), Signal::SIGTERM);
    eventually("the daemon drains", || home.log().contains(" stopping by="));
    assert!(first.is_alive());
    send_signal(first.0.id(), Signal::SIGKILL);
    first.0.wait().unwrap();
    home.wait_until_empty();
    assert!(!home.pid_file().exists());
}

#[test]
fn restart_is_aborted_when_first_process_is_killed() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    let mut first = spawn(
        home.command(program.path())
            .arg("run")
            .stdout(Stdio::null()),
    );
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    home.restart();
    let daemon = home.daemon().unwrap();
    program.replace("#!/bin/sh\nexec sleep 600\n");
    let mut restart = spawn(home.fullon(["restart"]).stderr(Stdio::null()));
    eventually("the new process runs", || {
        !child_processes(daemon.pid()).is_empty()
    });
    send_signal(first.0.id(), Signal::SIGKILL);
    first.0.wait().unwrap();
    assert!(daemon.wait_for_exit(DEADLINE));
    assert!(!restart.0.wait().unwrap().success());
    home.wait_until_empty();
}

#[test]
fn supervisord_starts_the_daemon_again_after_a_kill() {
    const TEST: &str = "supervisord_starts_the_daemon_again_after_a_kill";
    let mut help = Command::new("supervisord");
    let is_there = help.arg("--version").stdout(Stdio::null()).status().is_ok();
    if !prerequisite_available(TEST, "supervisord", is_there) {
        return;
    }
    let home = Home::new();
    let configuration = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={0}/supervisord.pid\n\
         [program:orders]\ncommand={1} run\nautorestart=unexpected\nexitcodes=0\n\
         redirect_stderr=true\nstdout_logfile={0}/orders.log\n",
        home.path().display(),
        env!("CARGO_BIN_EXE_fullon"),
    );
    let file = home.path().join("supervisord.conf");
    std::fs::write(&file, configuration).unwrap();
    let supervisord = home
        .command("supervisord")
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut supervisord = ChildGuard(supervisord.unwrap());
    let serves = |home: &Home| home.run(["status"]).stdout.contains("Status:    Running\n");
    eventually("the daemon serves", || serves(&home));
    for _ in 0..2 {
        let first = home.daemon().unwrap();
        home.restart();
        let daemon = home.daemon().unwrap();
        first.kill().unwrap();
        assert!(daemon.wait_for_exit(DEADLINE));
        eventually("supervisord starts the daemon again", || serves(&home));
        let parent = home.daemon().and_then(|daemon| daemon.parent_pid());
        assert_eq!(parent, Some(supervisord.0.id()));
    }
    send_signal(supervisord.0.id(), Signal::SIGTERM);
    supervisord.0.wait().unwrap();
    home.wait_until_empty();
}

#[test]
fn first_process_forwards_reload_and_restart_signals() {
    let home = Home::new();
    let first = run_foreground(&home);
    home.restart();
    let second = home.daemon().unwrap();
    send_signal(first.0.id(), Signal::SIGUSR2);
    assert!(second.wait_for_exit(DEADLINE));
    let generation = || home.call_admin("GET", "/admin/status").json()["generation"].clone();
    assert_eq!(generation(), 3);
    std::fs::rename(home.log_file(), home.path().join("fullon.log.1")).unwrap();
    send_signal(first.0.id(), Signal::SIGHUP);
    eventually("the new log file exists", || home.log_file().exists());
    send_signal(first.0.id(), Signal::SIGTERM);
    assert_eq!(wait_for_exit_code(first), Some(0));
}

#[test]
fn failed_restart_keeps_first_process_as_daemon() {
    let home = Home::new();
    let first = run_foreground(&home);
    let env = home.path().join(".env");
    std::fs::write(&env, "LOG_LEVEL=verbose\n").unwrap();
    home.run(["restart"])
        .exits(2)
        .stderr_contains(&["LOG_LEVEL"]);
    assert_eq!(home.state().pid, first.0.id());
    std::fs::remove_file(env).unwrap();
    home.restart();
    home.run(["restart", "--hard"]).exits(1);
    home.run(["status"]).succeeds();
    send_signal(first.0.id(), Signal::SIGTERM);
    assert_eq!(wait_for_exit_code(first), Some(0));
    home.wait_until_empty();
}

/// The daemon as PID 1 of a container.
struct PidNamespace {
    unshare: ChildGuard,
    /// PID 1, as numbered outside.
    init: Process,
}

impl PidNamespace {
    fn command(home: &Home) -> Command {
        let mut command = home.command("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"])
            .arg(env!("CARGO_BIN_EXE_fullon"))
            .arg("run")
            .stdout(Stdio::null());
        command
    }

    fn run(home: &Home) -> Self {
        let unshare = spawn(&mut Self::command(home));
        let mut init = None;
        eventually("PID 1 exists", || {
            init = child_processes(unshare.0.id()).pop();
            init.is_some()
        });
        let container = Self {
            unshare,
            init: init.unwrap(),
        };
        eventually("the daemon serves", || {
            let status = container.fullon(home, &["status"]);
            status.stdout.contains("Status:    Running\n")
        });
        container
    }

    /// Runs a command inside.
    fn fullon(&self, home: &Home, arguments: &[&str]) -> Outcome {
        let mut command = self.enter(home);
        command.arg(env!("CARGO_BIN_EXE_fullon")).args(arguments);
        Outcome::run(&mut command)
    }

    fn enter(&self, home: &Home) -> Command {
        let mut command = home.command("nsenter");
        let target = self.init.pid().to_string();
        command.args(["--target", &target, "--pid", "--mount", "--"]);
        command
    }

    #[track_caller]
    fn wait_for_exit_code(mut self) -> Option<i32> {
        eventually("the process exits", || !self.unshare.is_alive());
        self.unshare.0.wait().unwrap().code()
    }
}

#[test]
fn pid_1_restarts_and_stops_at_once() {
    if !running_as_root("pid_1_restarts_and_stops_at_once") {
        return;
    }
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    let container = PidNamespace::run(&home);
    let address = container.fullon(&home, &["status", "--json"]).json()["server"].clone();
    let host = address.as_str().unwrap().trim_start_matches("http://");
    let load = Load::start(host, &LoadProfile::default());
    let mut pids = Vec::new();
    for _ in 0..3 {
        let outcome = container.fullon(&home, &["restart", "--json"]).succeeds();
        pids.push(outcome.json()["pid"].as_u64().unwrap());
        load.wait_for_more(100);
    }
    load.finish().assert_flawless();
    pids.dedup();
    assert!(pids.len() == 3 && !pids.contains(&1), "{pids:?}");
    send_signal(container.init.pid(), Signal::SIGTERM);
    assert!(
        container.init.wait_for_exit(DEADLINE),
        "nothing is in flight"
    );
    assert_eq!(container.wait_for_exit_code(), Some(0));
    assert!(!home.pid_file().exists());
    assert!(home.log().ends_with(" stopped\n"));
}

#[test]
fn pid_1_reaps_orphans() {
    if !running_as_root("pid_1_reaps_orphans") {
        return;
    }
    let home = Home::new();
    let container = PidNamespace::run(&home);
    let script = "for n in $(seq 50); do (sleep 0.01 & ) ; done";
    for _ in 0..2 {
        Outcome::run(container.enter(&home).args(["sh", "-c", script])).succeeds();
        // The daemon is the only child that stays.
        eventually("the orphans are reaped", || {
            let remaining = child_processes(container.init.pid());
            remaining.len() == 1 && !is_zombie(remaining[0].pid())
        });
        container.fullon(&home, &["restart"]).succeeds();
    }
    // The command ends with PID 1, maybe before it can print anything.
    container.fullon(&home, &["stop"]);
    assert_eq!(container.wait_for_exit_code(), Some(0));
}

#[test]
fn pid_1_forwards_exit_code() {
    if !running_as_root("pid_1_forwards_exit_code") {
        return;
    }
    let mut home = Home::new();
    home.set("LOG_LEVEL", "verbose");
    let outcome = Outcome::run(PidNamespace::command(&home).stdout(Stdio::piped()));
    outcome.exits(2).stderr_contains(&["LOG_LEVEL: `verbose`"]);
    home.unset("LOG_LEVEL");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.set("PORT", &listener.local_addr().unwrap().port().to_string());
    let outcome = Outcome::run(PidNamespace::command(&home).stdout(Stdio::piped()));
    outcome.exits(1).stderr_contains(&["PORT", "in use"]);
    home.wait_until_empty();
}
