//! Ports, the log file, and disk space.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use super::{
    as_nobody, assert_doctor_finds, assert_findings, fix_admin_port, home_of_nobody, port_of,
};
use crate::support::{Connection, Home, Outcome, eventually, free_port, running_as_root};

#[test]
fn owner_of_taken_port_is_named() {
    for setting in ["PORT", "ADMIN_PORT"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut home = Home::new();
        home.set(setting, port_of(&address));
        let taken = format!("{address} is in use by");
        let own_process = format!("(PID {})", std::process::id());
        let next = format!("stop that process, or choose another {setting}");
        assert_doctor_finds(
            &home,
            1,
            &[(setting, "error", &[&taken, &own_process, &next])],
        );
    }
}

#[test]
fn port_that_a_client_may_get_is_a_warning() {
    if !running_as_root("port_that_a_client_may_get_is_a_warning") {
        return;
    }
    let mut home = Home::new();
    home.set("PORT", "40000");
    home.set("ADMIN_PORT", "40001");
    let doctor = |reserved: &str| {
        let script = format!(
            "ip link set lo up; cd /proc/sys/net/ipv4; echo 40000 40999 > ip_local_port_range; \
             echo {reserved} > ip_local_reserved_ports; cd \"$HOME\"; exec \"$0\" doctor --json"
        );
        let mut command = home.command("unshare");
        command.args(["--net", "sh", "-ec", &script, env!("CARGO_BIN_EXE_fullon")]);
        Outcome::run(&mut command)
    };
    let next = "ip_local_reserved_ports";
    let public = (
        "PORT",
        "warning",
        &["127.0.0.1:40000 is free", "connection", next][..],
    );
    let admin = (
        "ADMIN_PORT",
        "warning",
        &["127.0.0.1:40001 is free", next][..],
    );
    assert_findings(&doctor("30000,50000-50010"), 0, &[public, admin]);
    assert_findings(&doctor("30000,40001-40002"), 0, &[public]);
    assert_findings(&doctor("40000-40001"), 0, &[]);
}

#[test]
fn port_in_time_wait_is_free() {
    let mut home = Home::new();
    home.set("PORT", &free_port().to_string());
    home.run(["start"]).succeeds();
    // The side that closes first keeps the connection in TIME_WAIT for a minute.
    let mut connection = Connection::open(&home.public_address());
    connection.send("GET", "/", &[("Connection", "close")], "");
    connection.read_to_end();
    home.run(["stop"]).succeeds();
    assert_doctor_finds(&home, 0, &[]);
}

#[test]
fn port_held_by_daemon_of_another_pid_file_is_named() {
    let mut home = Home::started();
    fix_admin_port(&mut home);
    let other_daemon = format!("PID file {})", home.pid_file().display());
    home.set(
        "PID_FILE",
        home.path().join("other.pid").display().to_string().as_str(),
    );
    let words = ["in use by", &*other_daemon, "choose another ADMIN_PORT"];
    let path = ["other.pid does not exist", &*other_daemon, "--pid-file"];
    let findings = [
        ("PID file", "warning", &path[..]),
        ("ADMIN_PORT", "error", &words),
        ("log", "warning", &["another daemon (PID ", "LOG_FILE"]),
        (
            "audit trail",
            "warning",
            &["another daemon (PID ", "AUDIT_FILE"],
        ),
    ];
    assert_doctor_finds(&home, 1, &findings);
}

/// Root has no daemon of its own, and did not name the PID file of the service.
#[test]
fn service_of_another_user_is_named_to_root() {
    if !running_as_root("service_of_another_user_is_named_to_root") {
        return;
    }
    let mut service = home_of_nobody();
    let mut home = Home::new();
    let port = free_port().to_string();
    service.set("ADMIN_PORT", &port);
    home.set("ADMIN_PORT", &port);
    Outcome::run(&mut as_nobody(&service, &["start"])).succeeds();
    let named = format!("--pid-file {}", service.pid_file().display());
    let findings = [
        ("PID file", "warning", &["another daemon", &*named][..]),
        ("ADMIN_PORT", "error", &["in use by another daemon", &named]),
    ];
    assert_doctor_finds(&home, 1, &findings);
    let outcome = home.run(["doctor"]);
    assert!(!outcome.stdout.contains("-> fullon start"), "{outcome:#?}");
}

#[test]
fn unusable_address_is_reported() {
    let mut home = Home::new();
    home.set("HOST", "192.0.2.1");
    let words = ["192.0.2.1 is not an address of this machine", "set HOST"];
    assert_doctor_finds(&home, 1, &[("HOST", "error", &words)]);

    if !running_as_root("unusable_address_is_reported") {
        return;
    }
    let mut home = home_of_nobody();
    home.set("HOST", "0.0.0.0");
    home.set("PORT", "80");
    let doctor = as_nobody(&home, &["doctor", "--json"]);
    let mut command = home.command("unshare");
    // In its own network namespace, a sysctl of the container does not apply.
    command
        .arg("--net")
        .arg(doctor.get_program())
        .args(doctor.get_args());
    assert_findings(
        &Outcome::run(&mut command),
        1,
        &[(
            "PORT",
            "error",
            &[
                "cannot listen on 0.0.0.0:80: permission denied",
                "CAP_NET_BIND_SERVICE",
            ],
        )],
    );
}

#[test]
fn port_held_by_systemd_is_a_warning() {
    if !running_as_root("port_held_by_systemd_is_a_warning") {
        return;
    }
    let mut home = Home::new();
    let port = free_port().to_string();
    home.set("PORT", &port);
    let systemd = home.path().join("systemd");
    symlink("/usr/bin/python3", &systemd).unwrap();
    let script = "import socket, subprocess, sys; holds = socket.create_server(('127.0.0.1', int(sys.argv[1]))); \
                  sys.exit(subprocess.run([sys.argv[2], 'doctor', '--json']).returncode)";
    let mut command = home.command("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(systemd)
        .args(["-c", script, &port, env!("CARGO_BIN_EXE_fullon")]);
    let words = ["in use by systemd (PID 1)", "systemctl start"];
    assert_findings(
        &Outcome::run(&mut command),
        0,
        &[("PORT", "warning", &words)],
    );
}

#[test]
fn unwritable_log_is_reported() {
    let mut home = Home::new();
    symlink("elsewhere", home.log_file()).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[("log", "error", &["is a symbolic link", "another LOG_FILE"])],
    );
    fs::remove_file(home.log_file()).unwrap();
    nix::unistd::mkfifo(&home.log_file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_doctor_finds(&home, 1, &[("log", "error", &["is not a regular file"])]);
    fs::remove_file(home.log_file()).unwrap();
    home.set("LOG_FILE", "nowhere/fullon.log");
    assert_doctor_finds(
        &home,
        1,
        &[("log", "error", &["cannot be created: the directory"])],
    );
    home.set("LOG_FILE", "-");
    assert_doctor_finds(&home, 0, &[]);
    home.run(["doctor"])
        .stdout_contains(&["goes to stdout", "set LOG_FILE to a file"]);
}

#[test]
fn full_disk_is_reported() {
    if !running_as_root("full_disk_is_reported") {
        return;
    }
    let home = Home::new();
    let on_small_disk = |then: &str| {
        let script = format!(
            "mount -t tmpfs -o size=1m tmpfs disk && export LOG_FILE=$PWD/disk/log && {then}"
        );
        let mut command = home.command("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .arg(env!("CARGO_BIN_EXE_fullon"));
        Outcome::run(&mut command)
    };
    fs::create_dir(home.path().join("disk")).unwrap();
    let on_small_log_disk = on_small_disk("exec \"$0\" doctor --json");
    let words = ["1.0 MiB free", "disk", "lower LOG_MAX_SIZE"];
    assert_findings(&on_small_log_disk, 0, &[("disk", "warning", &words)]);
    let with_small_limit = on_small_disk("LOG_MAX_SIZE=64KiB exec \"$0\" doctor --json");
    assert_findings(&with_small_limit, 0, &[]);
    let fill = "dd if=/dev/zero of=disk/filler bs=4k status=none 2> /dev/null || true";
    let on_full_disk = on_small_disk(&format!("{fill}; exec \"$0\" doctor --json"));
    assert_findings(
        &on_full_disk,
        1,
        &[("disk", "error", &["0 B free", "free disk space"])],
    );

    // The report of the daemon wins over what can be seen from here.
    on_small_disk(&format!("\"$0\" start > start; {fill}"));
    let error = "No space left on device";
    eventually("the daemon reports the error", || {
        home.run(["status"]).stdout.contains(error)
    });
    assert_doctor_finds(&home, 1, &[("log", "error", &[error, "retries by itself"])]);
}

/// Each daemon would rotate the file of the other one.
#[test]
fn log_of_two_daemons_is_named() {
    let first = Home::new();
    let mut second = Home::new();
    let log = first.log_file().display().to_string();
    second.set("LOG_FILE", &log);
    let audit = second.path().join("audit").display().to_string();
    second.set("AUDIT_FILE", &audit);
    let started = first.run(["start"]).succeeds();
    assert!(!started.stderr.contains("another daemon"), "{started:#?}");
    assert_doctor_finds(&first, 0, &[]);
    // The processes of one daemon are no two daemons.
    first.run(["restart"]).succeeds();
    assert_doctor_finds(&first, 0, &[]);
    assert!(!first.log().contains("another daemon writes"));
    let other = named_daemon(&first);
    let words = format!("writes to {log}, too");
    second
        .run(["start"])
        .succeeds()
        .stderr_contains(&["warning", &other, &words, "LOG_FILE"]);
    eventually("the second daemon has logged it", || {
        first
            .log()
            .contains(&format!("{other} writes to this LOG_FILE"))
    });
    let shared: &[(&str, &str, &[&str])] = &[("log", "warning", &[&other, &words, "LOG_FILE"])];
    assert_doctor_finds(&second, 0, shared);
    let of_second = named_daemon(&second);
    let found: &[(&str, &str, &[&str])] = &[("log", "warning", &[&of_second, &words, "LOG_FILE"])];
    assert_doctor_finds(&first, 0, found);
    // Both write to the next file, too.
    fs::rename(&log, first.path().join("fullon.log.1")).unwrap();
    for home in [&first, &second] {
        home.run(["reload"]).succeeds();
        home.log_request("next-file.");
    }
    eventually("both write to the next file", || {
        first.log_file().exists() && first.log().matches("next-file.").count() == 2
    });
    assert_doctor_finds(&second, 0, shared);
    first.run(["stop"]).succeeds();
    assert_doctor_finds(&second, 0, &[]);
    second.run(["stop"]).succeeds();
    assert_doctor_finds(&first, 0, &[]);
}

/// As warnings call the daemon of this home.
fn named_daemon(home: &Home) -> String {
    let pid = home.daemon().unwrap().pid();
    let pid_file = home.pid_file();
    format!(
        "another daemon (PID {pid}, PID file {})",
        pid_file.display()
    )
}

#[test]
fn audit_file_of_two_daemons_is_named() {
    let mut first = Home::new();
    let mut second = Home::new();
    let audit = first.path().join("shared.audit").display().to_string();
    first.set("AUDIT_FILE", &audit);
    second.set("AUDIT_FILE", &audit);
    let started = first.run(["start"]).succeeds();
    assert!(!started.stderr.contains("another daemon"), "{started:#?}");
    first.run(["restart"]).succeeds();
    assert_doctor_finds(&first, 0, &[]);
    assert!(!first.log().contains("another daemon"));
    let other = named_daemon(&first);
    let words = format!("writes to {audit}, too");
    let started = second.run(["start"]).succeeds();
    started.stderr_contains(&["warning", &other, &words, "choose another AUDIT_FILE"]);
    eventually("the second daemon has logged it", || {
        second
            .log()
            .contains(&format!("{other} writes to this AUDIT_FILE"))
    });
    for (home, other) in [(&first, named_daemon(&second)), (&second, other)] {
        let words = [&*other, &words, "AUDIT_FILE"];
        assert_doctor_finds(home, 0, &[("audit trail", "warning", &words)]);
    }
    // Both continue the file that takes its place, and the chain is whole.
    fs::rename(&audit, format!("{audit}.1")).unwrap();
    for home in [&first, &second] {
        home.run(["reload"]).succeeds();
    }
    let words = [&*words, "AUDIT_FILE"];
    assert_doctor_finds(&second, 0, &[("audit trail", "warning", &words)]);
    first.run(["audit", "--verify"]).succeeds();
    first.run(["stop"]).succeeds();
    assert_doctor_finds(&second, 0, &[]);
}

/// The daemon has the port now, but not when it starts again.
#[test]
fn port_of_a_running_daemon_that_a_client_may_get_is_a_warning() {
    if !running_as_root("port_of_a_running_daemon_that_a_client_may_get_is_a_warning") {
        return;
    }
    let mut home = Home::new();
    home.set("PORT", "40000");
    home.set("ADMIN_PORT", "40001");
    let in_namespace = |reserved: &str, then: &str| {
        let script = format!(
            "ip link set lo up; cd /proc/sys/net/ipv4; echo 40000 40999 > ip_local_port_range; \
             echo {reserved} > ip_local_reserved_ports; cd \"$HOME\"; {then}"
        );
        let mut command = home.command("unshare");
        command.args(["--net", "sh", "-ec", &script, env!("CARGO_BIN_EXE_fullon")]);
        Outcome::run(&mut command)
    };
    let next = "ip_local_reserved_ports";
    let running = "\"$0\" start > /dev/null; \"$0\" doctor --json; \"$0\" stop > /dev/null";
    let public = ("PORT", "warning", &["port 40000", "connection", next][..]);
    let admin = (
        "ADMIN_PORT",
        "warning",
        &["port 40001", "connection", next][..],
    );
    assert_findings(&in_namespace("30000", running), 0, &[public, admin]);
    assert_findings(&in_namespace("40001", running), 0, &[public]);
    assert_findings(&in_namespace("40000-40001", running), 0, &[]);
    let check = |reserved| in_namespace(reserved, "exec \"$0\" config --check").succeeds();
    check("30000").stderr_contains(&["warning: PORT: ", "warning: ADMIN_PORT: ", next]);
    let outcome = check("40000");
    assert!(!outcome.stderr.contains("warning: PORT"), "{outcome:#?}");
    assert_eq!(check("40000-40001").stderr, "");
}
