//! A restart that no client notices.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use fullon_master_api::instance::{PidFileStatus, inspect_pid_file};
use nix::sys::signal::Signal;

use crate::support::{
    Connection, HEAVY, Home, InstalledProgram, Load, LoadProfile, Outcome, SetOnDrop,
    child_processes, eventually, request, scale, send_signal,
};

fn generation(home: &Home) -> u64 {
    home.call_admin("GET", "/admin/status").json()["generation"]
        .as_u64()
        .unwrap()
}

#[test]
fn twenty_restarts_lose_no_request_or_connection() {
    const RESTARTS: u64 = 20;

    let _permit = HEAVY.enter();
    let requests = scale::requests();
    let home = Home::started();
    let mut pids = BTreeSet::from([u64::from(home.state().pid)]);
    let load = Load::start(&home.public_address(), &LoadProfile::default());
    for number in 1..=RESTARTS {
        let due = requests * number / RESTARTS;
        eventually("requests are answered", || load.answered() >= due);
        let old = home.state().pid;
        let answer = home.run(["restart", "--json"]).succeeds().json();
        assert_eq!(answer["old_pid"], old);
        assert_eq!(answer["generation"], number + 1);
        assert_eq!(answer["server"], home.state().server);
        let new = answer["pid"].as_u64().unwrap();
        assert_eq!(new, u64::from(home.state().pid));
        assert!(pids.insert(new), "{new} came twice");
    }
    load.wait_for_more(1000);
    let report = load.finish();
    report.assert_flawless();
    assert!(report.answered >= requests, "{report:#?}");
    assert_eq!(generation(&home), RESTARTS + 1);
    let log = home.log();
    let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
    assert_eq!(log.lines().find(bad), None);
    // The old processes have exited.
    home.wait_until_only(home.state().pid);
}

#[test]
fn restart_prints_old_and_new_pid() {
    let home = Home::started();
    let old = home.state().pid;
    let outcome = home.run(["restart"]).succeeds();
    let new = home.state().pid;
    let line = format!("Daemon restarted with PID {new} (was {old})\n");
    let outcome = outcome.stdout_contains(&[&line]);
    assert!(outcome.stderr.is_empty(), "{outcome:#?}");
    let answer = home.call_admin("POST", "/admin/restart");
    assert_eq!(answer.status, 200, "{answer:#?}");
    let state = home.state();
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "old_pid": new,
            "pid": state.pid,
            "generation": 3,
            "server": state.server,
            "admin": state.admin,
        })
    );
    home.run(["restart", "--hard"]).succeeds();
    assert_eq!(generation(&home), 1);
}

/// Attributes of a process that a restart must not change.
fn process_attributes(pid: u32) -> Vec<String> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    let stat = file("stat");
    let stat: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let status = file("status");
    let kept = [
        "Umask",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "NoNewPrivs",
        "CapEff",
    ];
    let status = status
        .lines()
        .filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let mut seen: Vec<String> = status.map(str::to_owned).collect();
    seen.push(file("limits"));
    seen.extend(
        ["cwd", "root", "exe", "fd/0", "fd/1", "fd/2"].map(|name| link(name).display().to_string()),
    );
    // Session, terminal, nice value (`proc_pid_stat(5)`).
    seen.extend([stat[3], stat[4], stat[16]].map(|field| field.replace(&pid.to_string(), "self")));
    seen.push(file("environ").replace('\0', "\n"));
    seen
}

#[test]
fn restarted_process_equals_started_one() {
    let home = Home::started();
    let state = || home.state();
    let usage = || {
        let process = home.call_admin("GET", "/admin/status").json()["process"].clone();
        let number = |name: &str| process[name].as_u64().unwrap();
        (number("open_files"), number("threads"))
    };
    let arguments = || fs::read_to_string(format!("/proc/{}/cmdline", state().pid)).unwrap();
    let (first, before) = (process_attributes(state().pid), usage());
    home.restart();
    let restarted_arguments = arguments();
    for _ in 0..5 {
        home.restart();
        assert_eq!(process_attributes(state().pid), first);
    }
    assert_eq!(arguments(), restarted_arguments);
    // Reader threads and connections vary, but leaks add up.
    eventually("resource use is as before", || {
        let now = usage();
        now.0 <= before.0 + 3 && now.1 <= before.1 + 3
    });
}

/// A client that knows of the restart never reaches the old process again.
#[test]
fn requests_after_restart_reach_new_process() {
    let home = Home::started();
    let (admin, bearer) = (home.admin_address(), home.bearer());
    let known_pids = AtomicU64::new(1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let known_pids = known_pids.load(Ordering::SeqCst);
                        let headers = [("Authorization", bearer.as_str())];
                        let answer = request(&admin, "GET", "/admin/status", &headers, "");
                        let generation = answer.json()["generation"].as_u64().unwrap();
                        assert!(
                            generation >= known_pids,
                            "generation {generation} after {known_pids}"
                        );
                    }
                })
            })
            .collect();
        for generation in 2..=21 {
            home.restart();
            known_pids.store(generation, Ordering::SeqCst);
        }
        drop(end);
        for client in clients {
            client.join().unwrap();
        }
    });
}

/// A program that creates `begun`, and waits for `go` before it executes `program`.
fn waiting_program(home: &Home, program: &str) -> String {
    let home = home.path().display();
    format!(
        "#!/bin/sh\n: > {home}/begun\nwhile [ ! -e {home}/go ]; do sleep 0.01; done\nexec {program} \"$@\"\n"
    )
}

#[test]
fn second_concurrent_restart_is_refused() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    program.replace(waiting_program(&home, env!("CARGO_BIN_EXE_fullon")));
    let load = Load::start(&home.public_address(), &LoadProfile::default());
    thread::scope(|scope| {
        let first = scope.spawn(|| home.run(["restart"]));
        eventually("the new process is starting", || {
            home.path().join("begun").exists()
        });
        let refused = "another restart";
        home.call_admin("POST", "/admin/restart")
            .assert_problem(409, refused);
        home.run(["restart"]).exits(1).stderr_contains(&[refused]);
        fs::write(home.path().join("go"), "").unwrap();
        first.join().unwrap().succeeds();
    });
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(generation(&home), 2);
}

/// A new process may take long until it asks for the handoff, because its application starts.
#[test]
fn old_process_carries_out_changes_until_the_handoff() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    program.replace(waiting_program(&home, env!("CARGO_BIN_EXE_fullon")));
    let token = home.token("admin:read");
    thread::scope(|scope| {
        let restart = scope.spawn(|| home.run(["restart"]));
        eventually("the new process is starting", || {
            home.path().join("begun").exists()
        });
        let revoked = home.run(["token", "--revoke-all"]).succeeds();
        assert_eq!(revoked.stderr, "", "the daemon did it, not the command");
        home.write_env("LOG_LEVEL=DEBUG\n");
        home.run(["reload"])
            .succeeds()
            .stdout_contains(&["LOG_LEVEL"]);
        fs::write(home.path().join("go"), "").unwrap();
        restart.join().unwrap().succeeds();
    });
    assert_eq!(generation(&home), 2);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let refused = request(&home.admin_address(), "GET", "/admin/status", &headers, "");
    assert_eq!(refused.status, 401);
    let level = home.call_admin("GET", "/admin/log-level").json();
    assert_eq!(level["level"], "debug", "{level}");
}

#[test]
fn pid_file_always_has_one_owner() {
    let home = Home::started();
    let mut known_pids = BTreeSet::from([u64::from(home.state().pid)]);
    let is_over = AtomicBool::new(false);
    let is_finished = || is_over.load(Ordering::Relaxed);
    let seen = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        scope.spawn(|| {
            while !is_finished() {
                let text = fs::read_to_string(home.pid_file()).unwrap();
                let number = text.trim_end().parse::<u64>();
                let number = number.unwrap_or_else(|error| panic!("{error}: {text:?}"));
                seen.lock().unwrap().insert(number);
            }
        });
        let inspector = scope.spawn(|| {
            let mut inspections = 0;
            while !is_finished() {
                let presence = inspect_pid_file(&home.pid_file()).unwrap();
                assert!(matches!(presence, PidFileStatus::Held(_)), "{presence:?}");
                inspections += 1;
            }
            inspections
        });
        let starter = scope.spawn(|| {
            let mut starts = 0;
            while !is_finished() {
                home.run(["start"])
                    .exits(1)
                    .stderr_contains(&["already running"]);
                starts += 1;
            }
            starts
        });
        for _ in 0..15 {
            let pid = home.restart();
            known_pids.insert(pid);
            eventually("the PID is in the PID file", || {
                seen.lock().unwrap().contains(&pid)
            });
        }
        drop(end);
        assert!(inspector.join().unwrap() > 15);
        assert!(starter.join().unwrap() > 15);
    });
    // The reader may miss the first one.
    seen.lock().unwrap().extend(known_pids.first());
    assert_eq!(*seen.lock().unwrap(), known_pids, "PIDs in the PID file");
    assert_eq!(generation(&home), 16);
}

/// A command during a restart is answered by the old or the new process.
#[test]
fn status_works_during_restarts() {
    let home = Home::started();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        let client = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let outcome = home.run(["status", "--json"]).succeeds();
                assert_eq!(outcome.stderr, "", "{outcome:#?}");
                assert_eq!(outcome.json()["state"], "running");
                count += 1;
            }
            count
        });
        for _ in 0..15 {
            home.restart();
        }
        drop(end);
        assert!(client.join().unwrap() >= 5);
    });
}

#[test]
fn sigusr2_restarts() {
    let home = Home::started();
    let load = Load::start(&home.public_address(), &LoadProfile::default());
    let old = home.daemon().unwrap();
    send_signal(old.pid(), Signal::SIGUSR2);
    assert!(old.wait_for_exit(crate::support::DEADLINE));
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(generation(&home), 2);
}

/// A program that starts and never reports anything.
fn hanging_program(home: &Home) -> String {
    let home = home.path().display();
    format!("#!/bin/sh\n: > {home}/begun\nexec sleep 600\n")
}

/// Stops a daemon whose new process hangs. Returns the outcome of the restart.
fn stop_during_restart(stop: impl FnOnce(&Home)) -> Outcome {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    program.replace(hanging_program(&home));
    thread::scope(|scope| {
        let restart = scope.spawn(|| home.run(["restart"]));
        eventually("the new process hangs", || {
            home.path().join("begun").exists()
        });
        let daemon = home.daemon().unwrap();
        let new_processes = child_processes(daemon.pid());
        assert_eq!(new_processes.len(), 1);
        stop(&home);
        assert!(daemon.wait_for_exit(crate::support::DEADLINE));
        assert!(new_processes[0].wait_for_exit(crate::support::DEADLINE));
        let outcome = restart.join().unwrap();
        assert!(!home.pid_file().exists());
        home.wait_until_empty();
        outcome
    })
}

#[test]
fn stop_command_ends_restart_under_way() {
    let outcome = stop_during_restart(|home| {
        home.run(["stop"])
            .succeeds()
            .stdout_contains(&["Daemon stopped"]);
    });
    outcome.exits(1);
}

#[test]
fn sigterm_ends_restart_under_way() {
    let outcome = stop_during_restart(|home| {
        send_signal(home.daemon().unwrap().pid(), Signal::SIGTERM);
    });
    outcome.exits(1);
}

/// Whichever process gets the request, none is left.
#[test]
fn stop_at_any_moment_of_restart_stops() {
    let rounds = u32::try_from(scale::rounds()).unwrap();
    let home = Home::started();
    let start = Instant::now();
    home.restart();
    let pace = start.elapsed();
    for round in 0..rounds {
        let bearer = home.bearer();
        let mut restart = Connection::open(&home.admin_address());
        let headers = [("Authorization", bearer.as_str())];
        restart.send("POST", "/admin/restart", &headers, "");
        // The moment of the stop is what differs from round to round.
        thread::sleep(pace * round / rounds);
        let stop = home.run(["stop"]);
        assert_eq!(stop.code, 0, "round {round}: {stop:#?}");
        // Its response does not matter.
        drop(restart);
        assert!(home.daemon().is_none(), "round {round}: {}", home.log());
        home.wait_until_empty();
        assert!(!home.pid_file().exists());
        home.run(["start"]).succeeds();
    }
}

#[test]
fn restart_of_suspended_daemon_fails_with_advice() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    send_signal(daemon.pid(), Signal::SIGSTOP);
    let outcome = home.run(["restart", "--timeout", "1"]).exits(1);
    outcome.stderr_contains(&[&daemon.pid().to_string(), "--hard"]);
    assert!(!daemon.has_exited());
    send_signal(daemon.pid(), Signal::SIGCONT);
    // The signal sent meanwhile may restart it now.
    eventually("the daemon serves", || home.run(["status"]).code == 0);
    let health = request(&home.public_address(), "GET", "/health", &[], "");
    assert_eq!(health.status, 200);
}
