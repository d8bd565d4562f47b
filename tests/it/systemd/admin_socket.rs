//! The admin port, held by systemd.

use std::net::TcpListener;
use std::thread;

use nix::unistd::{Uid, setfsuid};

use super::{ADMIN, ADMIN_SOCKET, SOCKET, assert_serves, boot, fullon, status};
use crate::support::{Connection, Machine, SERVICE, TestSession, eventually, request};

/// A user that is neither root nor the daemon's.
const OTHER_USER: u32 = 12345;

/// Checks that no other user can listen at the admin port, at its address or at all addresses.
#[track_caller]
fn assert_port_is_taken(machine: &Machine) {
    machine.in_its_network(|| {
        for address in [ADMIN, "0.0.0.0:8001", "[::]:8001"] {
            let listening = thread::spawn(move || {
                setfsuid(Uid::from_raw(OTHER_USER));
                TcpListener::bind(address).map_err(|error| error.kind())
            });
            let outcome = listening.join().unwrap();
            assert_eq!(
                outcome.err(),
                Some(std::io::ErrorKind::AddrInUse),
                "{address}"
            );
        }
    });
}

fn assert_is_down(machine: &Machine) {
    assert_eq!(machine.property("ActiveState"), "inactive");
}

/// A page of the console.
fn sign_in(machine: &Machine) -> TestSession {
    let bearer = format!("Bearer {}", fullon(machine, ["token"]).trim());
    let headers = [("Authorization", bearer.as_str())];
    let answer = machine.in_its_network(|| request(ADMIN, "POST", "/admin/session", &headers, ""));
    TestSession::from(&answer)
}

/// The status of the response to a page of the console.
fn page(machine: &Machine, session: &TestSession) -> u16 {
    machine.in_its_network(|| session.request(ADMIN, "GET", "/admin/status").status)
}

#[test]
fn admin_port_is_held_while_daemon_is_down() {
    let Some(machine) = boot("admin_port_is_held_while_daemon_is_down") else {
        return;
    };
    machine.systemctl(["start", ADMIN_SOCKET]).succeeds();
    assert_port_is_taken(&machine);
    // No command connects, which would start the daemon.
    let service = ["PID_FILE=/run/fullon_master_api/fullon.pid", "fullon"];
    for (command, code) in [
        (&["status"][..], 3),
        (&["stop"], 1),
        (&["reload"], 1),
        (&["console"], 1),
        (&["logs", "--no-follow"], 1),
    ] {
        let command = service.iter().chain(command).copied();
        machine.run("env", command).exits(code);
        assert_is_down(&machine);
    }
    let as_service = ["--reuid=fullon", "--regid=fullon", "--clear-groups", "env"];
    let home = ["HOME=/var/lib/fullon_master_api"];
    let commands = [&["doctor"][..], &["--json", "doctor"]];
    for command in commands {
        let command = as_service
            .iter()
            .chain(&home)
            .chain(&service)
            .chain(command);
        let outcome = machine.run("setpriv", command.copied());
        outcome.stdout_contains(&["127.0.0.1:8001 is in use by", "socket unit"]);
        assert_is_down(&machine);
    }

    // A connection starts the daemon and waits for it.
    let answer = machine.in_its_network(|| request(ADMIN, "GET", "/admin/status", &[], ""));
    answer.assert_problem(401, "fullon token");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_serves(&machine);
    assert_eq!(status(&machine)["phase"], "ready");
    assert!(fullon(&machine, ["console"]).contains(ADMIN));
    for command in ["restart", "reload", "stop"] {
        machine.systemctl([command, SERVICE]).succeeds();
        assert_port_is_taken(&machine);
    }
    assert_is_down(&machine);
}

/// Nobody else can have listened there, so open pages stay signed in. With a socket unit for the
/// public port only, somebody can.
#[test]
fn sessions_outlive_the_daemon_while_its_admin_port_is_held() {
    let Some(machine) = boot("sessions_outlive_the_daemon_while_its_admin_port_is_held") else {
        return;
    };
    machine
        .systemctl(["start", SOCKET, ADMIN_SOCKET, SERVICE])
        .succeeds();
    let session = sign_in(&machine);
    for command in ["reload", "restart", "stop"] {
        machine.systemctl([command, SERVICE]).succeeds();
        assert_eq!(page(&machine, &session), 200, "{command}");
    }
    let old = machine.main_pid();
    machine
        .systemctl(["kill", "--signal=KILL", SERVICE])
        .succeeds();
    assert_eq!(page(&machine, &session), 200);
    assert_ne!(machine.main_pid(), old);

    // The port was free in between.
    machine
        .systemctl(["stop", SERVICE, ADMIN_SOCKET])
        .succeeds();
    machine.systemctl(["start", ADMIN_SOCKET]).succeeds();
    assert_eq!(page(&machine, &session), 401);
    let session = sign_in(&machine);
    assert_eq!(page(&machine, &session), 200);
    machine
        .systemctl(["stop", SERVICE, ADMIN_SOCKET])
        .succeeds();
    assert_serves(&machine);
    assert_eq!(page(&machine, &session), 401);
}

/// Connections that wait while the daemon is killed are answered by the next one.
#[test]
fn connections_to_the_admin_port_wait_through_a_crash() {
    let Some(machine) = boot("connections_to_the_admin_port_wait_through_a_crash") else {
        return;
    };
    machine
        .systemctl(["start", ADMIN_SOCKET, SERVICE])
        .succeeds();
    let old = machine.main_pid();
    machine
        .systemctl(["kill", "--signal=STOP", "--kill-who=main", SERVICE])
        .succeeds();
    let mut waiting = machine.in_its_network(|| Connection::open(ADMIN));
    waiting.send("GET", "/admin/status", &[], "");
    machine
        .systemctl(["kill", "--signal=KILL", "--kill-who=main", SERVICE])
        .succeeds();
    waiting
        .read_response("GET")
        .assert_problem(401, "fullon token");
    eventually("the main process changes", || {
        ![0, old].contains(&machine.main_pid())
    });
}
