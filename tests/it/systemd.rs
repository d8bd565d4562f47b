//! The shipped units under a real systemd.

use std::time::{Duration, Instant};

use crate::support::{
    Connection, Load, LoadProfile, Machine, SERVICE, eventually, request, running_as_root,
};

const SOCKET: &str = "fullon_master_api.socket";
const PUBLIC: &str = "127.0.0.1:8000";
const ADMIN: &str = "127.0.0.1:8001";

/// A booted machine, or `None` if the test may not run.
fn boot(test: &str) -> Option<Machine> {
    running_as_root(test).then(Machine::boot)
}

fn start(machine: &Machine) {
    machine.systemctl(["start", SERVICE]).succeeds();
}

/// Checks that the public API responds.
fn assert_serves(machine: &Machine) {
    let answer = machine.in_its_network(|| request(PUBLIC, "GET", "/health", &[], ""));
    assert_eq!(answer.status, 200, "{answer:#?}");
}

/// A field of `/proc/PID/status` of the main process.
fn status_of_process(machine: &Machine, field: &str) -> String {
    let file = format!("/proc/{}/status", machine.main_pid());
    let status = machine.run("cat", [file.as_str()]).succeeds().stdout;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.unwrap().trim_start_matches(':').trim().to_owned()
}

/// Runs a command as root with the paths of the service.
fn fullon<'a>(machine: &Machine, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let service = [
        "HOME=/var/lib/fullon_master_api",
        "PID_FILE=/run/fullon_master_api/fullon.pid",
        "fullon",
    ];
    let command = service.into_iter().chain(arguments);
    machine.run("env", command).succeeds().stdout
}

/// Waits until a new main process serves.
fn wait_for_new_process(machine: &Machine, old: u32) {
    eventually("the main process changes", || {
        ![0, old].contains(&machine.main_pid())
    });
    eventually("the service is active", || {
        machine.property("ActiveState") == "active"
    });
    assert_serves(machine);
}

#[test]
fn installed_units_are_valid_and_tmpfiles_keep_log() {
    let Some(machine) = boot("installed_units_are_valid_and_tmpfiles_keep_log") else {
        return;
    };
    for unit in [SERVICE, SOCKET] {
        let file = format!("/usr/local/lib/systemd/system/{unit}");
        let outcome = machine.run(
            "systemd-analyze",
            ["verify", "--recursive-errors=yes", &file],
        );
        assert_eq!(outcome.succeeds().stderr, "");
    }
    let arguments = ["security", "--threshold=20", "--no-pager", SERVICE];
    machine.run("systemd-analyze", arguments).succeeds();
    machine.systemctl(["enable", "--now", SERVICE]).succeeds();
    assert_serves(&machine);

    // Files that a cleanup of old files in /tmp would remove.
    let kept = ["fullon_master_api.log", "fullon_master_api.log.1"];
    let removed = "another.log";
    for name in kept.into_iter().chain([removed]) {
        let path = format!("/tmp/{name}");
        machine
            .run("touch", ["--date=30 days ago", path.as_str()])
            .succeeds();
    }
    let rule = "q /tmp 1777 root root m:10d\n";
    std::fs::write(machine.file("etc/tmpfiles.d/tmp.conf"), rule).unwrap();
    machine.run("systemd-tmpfiles", ["--clean"]).succeeds();
    assert!(!machine.file("tmp").join(removed).exists());
    for name in kept {
        assert!(machine.file("tmp").join(name).exists(), "{name}");
    }
}

#[test]
fn service_is_active_unprivileged_and_logs_to_journal() {
    let Some(machine) = boot("service_is_active_unprivileged_and_logs_to_journal") else {
        return;
    };
    start(&machine);
    assert_serves(&machine);
    assert_eq!(machine.property("SubState"), "running");
    assert_eq!(machine.property("StatusText"), "serving");
    machine.in_its_network(|| request(PUBLIC, "GET", "/", &[("X-Request-Id", "marked")], ""));
    eventually("the log is in the journal", || {
        let journal = machine.journal();
        journal.contains(" ready version=") && journal.contains("request_id=\"marked\"")
    });

    let user = machine.run("id", ["-u", "fullon"]).succeeds().stdout;
    let ids = status_of_process(&machine, "Uid");
    assert!(
        ids.split('\t').all(|id| id == user.trim() && id != "0"),
        "{ids}"
    );
    assert_eq!(status_of_process(&machine, "CapBnd"), "0000000000000000");
    assert_eq!(status_of_process(&machine, "NoNewPrivs"), "1");
    assert_eq!(status_of_process(&machine, "Seccomp"), "2");

    // Its files are private, and where the unit says.
    let found = machine
        .run(
            "find",
            [
                "/var/lib/fullon_master_api",
                "/run/fullon_master_api",
                "-printf",
                "%p %u %m\n",
            ],
        )
        .succeeds();
    found.stdout_contains(&[
        "/var/lib/fullon_master_api fullon 700\n",
        "/var/lib/fullon_master_api/.fullon_master_api.key fullon 600\n",
        "/run/fullon_master_api/fullon.pid.state fullon 600\n",
    ]);

    // Root can operate the service.
    let status = fullon(&machine, ["status"]);
    assert!(status.starts_with("Status:    running\n"), "{status}");
    fullon(&machine, ["stop"]);
    eventually("systemd sees the stop", || {
        machine.property("ActiveState") == "inactive"
    });
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn crash_is_restarted_but_invalid_settings_are_not() {
    let Some(machine) = boot("crash_is_restarted_but_invalid_settings_are_not") else {
        return;
    };
    start(&machine);
    let old = machine.main_pid();
    machine
        .systemctl(["kill", "--signal=KILL", SERVICE])
        .succeeds();
    wait_for_new_process(&machine, old);
    assert_eq!(machine.property("NRestarts"), "1");
    let last = &status(&machine)["last_exit"];
    assert_eq!(
        (&last["cause"], &last["pid"]),
        (&"crashed".into(), &old.into())
    );

    machine.write_settings("PORT=none\n");
    machine.systemctl(["restart", SERVICE]).exits(1);
    assert_eq!(machine.property("ActiveState"), "failed");
    assert_eq!(machine.property("Result"), "exit-code");
    assert_eq!(machine.property("ExecMainStatus"), "2");
    let journal = machine.journal();
    assert!(journal.contains("PORT: `none` is not a port"), "{journal}");
    machine.write_settings("PORT=8000\n");
    start(&machine);
    assert_serves(&machine);
}

#[test]
fn hanging_daemon_is_replaced_by_watchdog() {
    let Some(machine) = boot("hanging_daemon_is_replaced_by_watchdog") else {
        return;
    };
    machine.drop_in("WatchdogSec=2s\nRestartSec=0");
    start(&machine);
    hang_and_wait_for_restart(&machine);
    // The new process notifies the watchdog as the old one did.
    machine.systemctl(["reload", SERVICE]).succeeds();
    hang_and_wait_for_restart(&machine);
    assert_eq!(machine.property("NRestarts"), "2");
    let journal = machine.journal();
    assert_eq!(journal.matches("Watchdog timeout").count(), 2, "{journal}");
}

fn hang_and_wait_for_restart(machine: &Machine) {
    let old = machine.main_pid();
    for _ in 0..2 {
        let last = machine.property("WatchdogTimestampMonotonic");
        eventually("the daemon notifies the watchdog", || {
            machine.property("WatchdogTimestampMonotonic") != last
        });
    }
    assert_eq!(
        machine.main_pid(),
        old,
        "the daemon missed a watchdog notification"
    );
    machine
        .systemctl(["kill", "--signal=STOP", "--kill-who=main", SERVICE])
        .succeeds();
    wait_for_new_process(machine, old);
}

#[test]
fn reload_replaces_process_without_lost_request() {
    let Some(machine) = boot("reload_replaces_process_without_lost_request") else {
        return;
    };
    // Keeps access lines out of the journal.
    machine.write_settings("LOG_LEVEL=info,access=off\n");
    start(&machine);
    let mut pids = vec![machine.main_pid()];
    let load = machine.in_its_network(|| Load::start(PUBLIC, &LoadProfile::default()));
    for _ in 0..4 {
        load.wait_for_more(200);
        machine.systemctl(["reload", SERVICE]).succeeds();
        let pid = machine.main_pid();
        assert!(!pids.contains(&pid), "{pid} is new, after {pids:?}");
        pids.push(pid);
    }
    load.wait_for_more(200);
    load.finish().assert_flawless();
    assert_eq!(machine.property("NRestarts"), "0");
    assert_eq!(machine.property("StatusText"), "serving");
    eventually("the old processes have exited", || {
        processes(&machine) == machine.main_pid().to_string()
    });
    assert_serves(&machine);
    machine.systemctl(["stop", SERVICE]).succeeds();
    assert_eq!(machine.property("Result"), "success");

    let journal = machine.journal();
    assert_eq!(journal.matches(" ready version=").count(), 5, "{journal}");
    assert!(journal.contains(" stopped\n"), "{journal}");
    // systemd is the parent of each main process and gets messages from no other.
    for complaint in ["not our child", "reception only permitted"] {
        assert!(!journal.contains(complaint), "{journal}");
    }
}

/// The PIDs of the service.
fn processes(machine: &Machine) -> String {
    let group = machine.property("ControlGroup");
    let file = format!("/sys/fs/cgroup{group}/cgroup.procs");
    let processes = machine.run("cat", [file.as_str()]).succeeds().stdout;
    processes.trim_end().replace('\n', " ")
}

#[test]
fn reload_takes_new_settings_and_program_or_nothing() {
    let Some(machine) = boot("reload_takes_new_settings_and_program_or_nothing") else {
        return;
    };
    start(&machine);
    let old = machine.main_pid();
    let unchanged = || {
        machine.systemctl(["reload", SERVICE]).exits(1);
        assert_eq!(machine.main_pid(), old);
        assert_eq!(machine.property("ActiveState"), "active");
        assert_serves(&machine);
    };
    machine.write_settings("LOG_LEVEL=info,=,\n");
    unchanged();
    let journal = machine.journal();
    assert!(journal.contains("LOG_LEVEL: "), "{journal}");

    machine.write_settings("LOG_LEVEL=DEBUG\n");
    let program = "usr/local/bin/fullon";
    let replace = |with: &str| {
        let new = format!("/{program}.new");
        machine.run("cp", [with, new.as_str()]).succeeds();
        machine
            .run("mv", [new.as_str(), "/usr/local/bin/fullon"])
            .succeeds();
    };
    machine
        .run("cp", ["/usr/local/bin/fullon", "/usr/local/bin/kept"])
        .succeeds();
    replace("/bin/false");
    unchanged();

    replace("/usr/local/bin/kept");
    machine.systemctl(["reload", SERVICE]).succeeds();
    let new = machine.main_pid();
    assert_ne!(new, old);
    let link = format!("/proc/{new}/exe");
    let running = machine.run("readlink", [link.as_str()]).succeeds();
    assert_eq!(running.stdout.trim_end(), "/usr/local/bin/fullon");
    assert_eq!(status(&machine)["log_level"], "debug");
}

/// The status that the daemon reports.
fn status(machine: &Machine) -> serde_json::Value {
    let output: serde_json::Value =
        serde_json::from_str(&fullon(machine, ["status", "--json"])).unwrap();
    output["status"].clone()
}

/// A request without its body stays in flight until the deadline.
fn unfinished_request(machine: &Machine) -> Connection {
    let token = fullon(machine, ["token"]);
    let mut connection = machine.in_its_network(|| Connection::open(ADMIN));
    let head = format!(
        "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{",
        token.trim()
    );
    connection.send_bytes(head.as_bytes());
    eventually("the request is in flight", || {
        status(machine)["http"]["in_flight"] == 2
    });
    connection
}

#[test]
fn hanging_new_process_leaves_nothing_behind() {
    let Some(machine) = boot("hanging_new_process_leaves_nothing_behind") else {
        return;
    };
    start(&machine);
    let old = machine.main_pid();
    let authorization = format!("Bearer {}", fullon(&machine, ["token"]).trim());
    // Opening the settings blocks until the lease on them is released (`fcntl(2)`).
    let settings = "/etc/fullon_master_api/.env";
    machine
        .run("ln", ["--symbolic", "/run/leased", settings])
        .succeeds();
    let lease = "import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open('/run/leased', 'w+')
os.fchmod(file.fileno(), 0o644)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open('/run/is-leased', 'w')
time.sleep(40)";
    machine
        .run("sh", ["-c", "python3 -c \"$0\" >/dev/null 2>&1 &", lease])
        .succeeds();
    eventually("the file is leased", || {
        machine.run("test", ["-e", "/run/is-leased"]).code == 0
    });
    let headers = [("Authorization", authorization.as_str())];
    let body = "{\"timeout_seconds\":2}";
    let mut restart = machine.in_its_network(|| Connection::open(ADMIN));
    restart.send("POST", "/admin/restart", &headers, body);
    let mut pids = String::new();
    eventually("the new process and its shim run", || {
        pids = processes(&machine);
        pids.split(' ').count() == 3
    });
    // It does not notice the end of the old process either.
    let successor = pids
        .split(' ')
        .max_by_key(|pid| pid.parse::<u32>().unwrap());
    machine
        .run("sh", ["-c", "kill -STOP $0", successor.unwrap()])
        .succeeds();
    restart
        .read_response("POST")
        .assert_problem(504, "within 2s");
    assert_eq!(processes(&machine), old.to_string());
    assert_serves(&machine);

    machine.run("rm", [settings]).succeeds();
    machine.systemctl(["reload", SERVICE]).succeeds();
    assert_ne!(machine.main_pid(), old);
}

#[test]
fn crash_of_new_process_during_drain_is_restarted() {
    let Some(machine) = boot("crash_of_new_process_during_drain_is_restarted") else {
        return;
    };
    machine.write_settings("SHUTDOWN_TIMEOUT=2s\n");
    start(&machine);
    let _request = unfinished_request(&machine);
    let old = machine.main_pid();
    machine.systemctl(["reload", SERVICE]).succeeds();
    let successor = machine.main_pid();
    assert_eq!(processes(&machine), format!("{old} {successor}"));
    machine
        .systemctl(["kill", "--signal=KILL", "--kill-who=main", SERVICE])
        .succeeds();
    wait_for_new_process(&machine, successor);
}

#[test]
fn socket_unit_starts_daemon_and_queues_connections() {
    let Some(machine) = boot("socket_unit_starts_daemon_and_queues_connections") else {
        return;
    };
    machine.systemctl(["start", SOCKET]).succeeds();
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_serves(&machine);
    assert_eq!(machine.property("ActiveState"), "active");

    let clients = LoadProfile {
        per_request: 8,
        persistent: 0,
        idle: 0,
    };
    let load = machine.in_its_network(|| Load::start(PUBLIC, &clients));
    let mut pids = vec![machine.main_pid()];
    for verb in ["restart", "reload", "restart"] {
        load.wait_for_more(200);
        machine.systemctl([verb, SERVICE]).succeeds();
        let pid = machine.main_pid();
        assert!(!pids.contains(&pid), "{pid} is new, after {pids:?}");
        pids.push(pid);
    }
    load.wait_for_more(200);
    for failure in load.finish().failures {
        // While it drains before a real stop, it reports unhealthy.
        let is_drain = failure.description.contains("another answer: HTTP/1.1 503");
        assert!(is_drain, "{failure:?}");
    }

    machine
        .systemctl(["kill", "--signal=KILL", SERVICE])
        .succeeds();
    assert_serves(&machine);
    machine.systemctl(["stop", SERVICE]).succeeds();
    assert_serves(&machine);
}

#[test]
fn stop_waits_for_shutdown_timeout() {
    let Some(machine) = boot("stop_waits_for_shutdown_timeout") else {
        return;
    };
    machine.drop_in("TimeoutStopSec=500ms");
    machine.write_settings("SHUTDOWN_TIMEOUT=2s\n");
    start(&machine);
    let _request = unfinished_request(&machine);
    let start = Instant::now();
    machine.systemctl(["stop", SERVICE]).succeeds();
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "the stop did not wait for the request"
    );
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn stop_ends_log_streams() {
    let Some(machine) = boot("stop_ends_log_streams") else {
        return;
    };
    let log = "/var/log/fullon_master_api/fullon.log";
    machine.drop_in(&format!("Environment=LOG_FILE={log}"));
    start(&machine);
    let authorization = format!("Bearer {}", fullon(&machine, ["token"]).trim());
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = machine.in_its_network(|| Connection::open(ADMIN));
            let headers = [("Authorization", authorization.as_str())];
            stream.send("GET", "/admin/logs/stream", &headers, "");
            assert_eq!(stream.read_head().status, 200);
            stream
        })
        .collect();
    machine.systemctl(["stop", SERVICE]).succeeds();
    for stream in &mut streams {
        let rest = stream.read_to_end();
        assert!(
            rest.contains("event: end\ndata: {\"reason\":\"stopping\"}"),
            "{rest}"
        );
    }
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.property("ExecMainStatus"), "0");
}
