//! The service: start, rights, crash and watchdog.

use super::{
    ADMIN_SOCKET, PUBLIC, SOCKET, assert_serves, boot, fullon, start, status, wait_for_new_process,
};
use crate::support::{Machine, SERVICE, eventually, request};

/// A field of `/proc/PID/status` of the main process.
fn status_of_process(machine: &Machine, field: &str) -> String {
    let file = format!("/proc/{}/status", machine.main_pid());
    let status = machine.run("cat", [file.as_str()]).succeeds().stdout;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.unwrap().trim_start_matches(':').trim().to_owned()
}

#[test]
fn installed_units_are_valid_and_tmpfiles_keep_log() {
    let Some(machine) = boot("installed_units_are_valid_and_tmpfiles_keep_log") else {
        return;
    };
    for unit in [SERVICE, SOCKET, ADMIN_SOCKET] {
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

    let priorities = machine.journal_priorities(" ready version=");
    assert_eq!(priorities, ["6"]);
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
    assert!(status.starts_with("Status:    Running\n"), "{status}");
    fullon(&machine, ["stop"]);
    eventually("systemd sees the stop", || {
        machine.property("ActiveState") == "inactive"
    });
    assert_eq!(machine.property("Result"), "success");
}

/// An administrator copies the unit alone, and enables it.
#[test]
fn copied_unit_works_with_the_command_of_its_first_comment() {
    let Some(machine) = boot("copied_unit_works_with_the_command_of_its_first_comment") else {
        return;
    };
    machine.run("userdel", ["fullon"]).succeeds();
    let installed = format!("usr/local/lib/systemd/system/{SERVICE}");
    let unit = std::fs::read_to_string(machine.file(&installed)).unwrap();
    std::fs::remove_dir_all(machine.file("usr/local/lib/systemd")).unwrap();
    std::fs::remove_dir_all(machine.file("usr/local/lib/sysusers.d")).unwrap();
    let copy = format!("etc/systemd/system/{SERVICE}");
    std::fs::write(machine.file(&copy), &unit).unwrap();
    machine.systemctl(["daemon-reload"]).succeeds();
    machine.systemctl(["enable", SERVICE]).succeeds();
    machine.systemctl(["start", SERVICE]).exits(1);

    let (comment, _) = unit.split_once("[Unit]").unwrap();
    let mut commands = comment.lines().filter_map(|line| line.strip_prefix("#   "));
    let create = commands.next().expect("the comment has a command");
    machine.run("sh", ["-c", create]).succeeds();
    start(&machine);
    assert_serves(&machine);
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
    let priorities = machine.journal_priorities("PORT: `none` is not a port");
    assert!(priorities.iter().all(|it| it == "3") && !priorities.is_empty());
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
