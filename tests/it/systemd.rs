//! The shipped units under a real systemd.

use std::time::{Duration, Instant};

use crate::support::{Connection, Machine, SERVICE, eventually, needs_root, request};

const SOCKET: &str = "fullon_master_api.socket";
const PUBLIC: &str = "127.0.0.1:8000";
const ADMIN: &str = "127.0.0.1:8001";

/// A machine for the test, where it may run.
fn booted(test: &str) -> Option<Machine> {
    needs_root(test).then(Machine::boot)
}

fn started(machine: &Machine) {
    machine.systemctl(["start", SERVICE]).succeeds();
}

/// The daemon answers; who cannot connect fails.
fn serves(machine: &Machine) {
    let answer = machine.inside(|| request(PUBLIC, "GET", "/health", &[], ""));
    assert_eq!(answer.status, 200, "{answer:#?}");
}

/// A line of `/proc/PID/status` of the main process.
fn status_of_process(machine: &Machine, field: &str) -> String {
    let file = format!("/proc/{}/status", machine.main_pid());
    let status = machine.run("cat", [file.as_str()]).succeeds().stdout;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.unwrap().trim_start_matches(':').trim().to_owned()
}

/// Runs a verb as root, who is told where the daemon has its PID file and its key.
fn fullon<'a>(machine: &Machine, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let service = [
        "HOME=/var/lib/fullon_master_api",
        "PID_FILE=/run/fullon_master_api/fullon.pid",
        "fullon",
    ];
    let command = service.into_iter().chain(arguments);
    machine.run("env", command).succeeds().stdout
}

/// Waits until another process than this one is the main one, and serves.
fn succeeded_by_another(machine: &Machine, old: u32) {
    eventually("another main process", || {
        ![0, old].contains(&machine.main_pid())
    });
    eventually("it serves", || machine.property("ActiveState") == "active");
    serves(machine);
}

#[test]
fn the_installed_files_are_valid_and_in_force() {
    let Some(machine) = booted("the_installed_files_are_valid_and_in_force") else {
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
    serves(&machine);

    // What a machine that clears out /tmp by age would remove.
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
fn it_is_active_when_it_serves_with_few_rights_and_a_log_in_the_journal() {
    let Some(machine) =
        booted("it_is_active_when_it_serves_with_few_rights_and_a_log_in_the_journal")
    else {
        return;
    };
    started(&machine);
    serves(&machine);
    assert_eq!(machine.property("SubState"), "running");
    assert_eq!(machine.property("StatusText"), "serving");
    machine.inside(|| request(PUBLIC, "GET", "/", &[("X-Request-Id", "marked")], ""));
    eventually("its log is in the journal", || {
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

    // Its files are nobody else's, and where the unit says.
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
    found.prints(&[
        "/var/lib/fullon_master_api fullon 700\n",
        "/var/lib/fullon_master_api/.fullon_master_api.key fullon 600\n",
        "/run/fullon_master_api/fullon.pid.state fullon 600\n",
    ]);

    // Root operates it like any other.
    let status = fullon(&machine, ["status"]);
    assert!(status.starts_with("Status:    running\n"), "{status}");
    fullon(&machine, ["stop"]);
    eventually("systemd has noticed", || {
        machine.property("ActiveState") == "inactive"
    });
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn it_is_started_again_after_a_crash_but_not_with_invalid_settings() {
    let Some(machine) = booted("it_is_started_again_after_a_crash_but_not_with_invalid_settings")
    else {
        return;
    };
    started(&machine);
    let old = machine.main_pid();
    machine
        .systemctl(["kill", "--signal=KILL", SERVICE])
        .succeeds();
    succeeded_by_another(&machine, old);
    assert_eq!(machine.property("NRestarts"), "1");

    machine.settings("PORT=none\n");
    machine.systemctl(["restart", SERVICE]).exits(1);
    assert_eq!(machine.property("ActiveState"), "failed");
    assert_eq!(machine.property("Result"), "exit-code");
    assert_eq!(machine.property("ExecMainStatus"), "2");
    let journal = machine.journal();
    assert!(journal.contains("PORT: `none` is not a port"), "{journal}");
    machine.settings("PORT=8000\n");
    started(&machine);
    serves(&machine);
}

#[test]
fn a_stop_ends_the_streams() {
    let Some(machine) = booted("a_stop_ends_the_streams") else {
        return;
    };
    let log = "/var/log/fullon_master_api/fullon.log";
    machine.drop_in(&format!("Environment=LOG_FILE={log}"));
    started(&machine);
    let authorization = format!("Bearer {}", fullon(&machine, ["token"]).trim());
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = machine.inside(|| Connection::open(ADMIN));
            let headers = [("Authorization", authorization.as_str())];
            stream.send("GET", "/admin/logs/stream", &headers, "");
            assert_eq!(stream.head().status, 200);
            stream
        })
        .collect();
    let began = Instant::now();
    machine.systemctl(["stop", SERVICE]).succeeds();
    assert!(began.elapsed() < Duration::from_secs(10), "in time");
    for stream in &mut streams {
        let rest = stream.rest();
        assert!(
            rest.contains("event: end\ndata: {\"reason\":\"stopping\"}"),
            "{rest}"
        );
    }
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.property("ExecMainStatus"), "0");
}
