//! Sockets of another user at the admin port, which could take over connections to the daemon.

use std::io::{self, BufRead as _, BufReader, Lines};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use super::{OTHER_USER, as_other_user, false_status};
use crate::support::{ChildGuard, FakeApi, Home, free_port, running_as_root, scale, spawn};

/// Listens at an address as another user.
fn listen_as_other_user(address: impl Into<SocketAddr>) -> io::Result<TcpListener> {
    let address = address.into();
    as_other_user(|| TcpListener::bind(address))
}

/// A socket of another user that was bound to an address, and is connected. The kernel reports it in
/// all versions.
fn connected_socket(bound_to: impl Into<SocketAddr>) -> (TcpStream, TcpListener) {
    let bound_to = bound_to.into();
    as_other_user(|| {
        let socket = if bound_to.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        };
        let socket = socket.unwrap();
        let server = if bound_to.is_ipv4() {
            TcpListener::bind("127.0.0.1:0")
        } else {
            TcpListener::bind("[::1]:0")
        };
        let server = server.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(bound_to).unwrap();
        let connect = socket.connect(server.local_addr().unwrap());
        let client = runtime.block_on(connect).unwrap().into_std().unwrap();
        (client, server)
    })
}

/// A home whose `ADMIN_PORT` is a free port.
fn home_with_port() -> (Home, u16) {
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    (home, port)
}

/// The daemon does not start beside the sockets, and starts after they were closed.
fn assert_prevents_start(home: &Home, sockets: impl Sized) {
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["ADMIN_PORT", "uid 12345", "ps -u 12345"]);
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345", "ps -u 12345"]);
    home.run(["status"]).exits(3);
    drop(sockets);
    home.run(["start"]).succeeds();
}

/// A script that binds sockets to the port as another user.
struct TakenPort {
    process: ChildGuard,
    lines: Lines<BufReader<ChildStdout>>,
}

impl TakenPort {
    fn run(script: &str, port: u16) -> Self {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support");
        let mut command = Command::new("python3");
        command
            .arg(Path::new(directory).join(script))
            .args([port.to_string(), OTHER_USER.to_string()]);
        let mut process = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdout = process.0.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self { process, lines }
    }

    /// Ends the script, and returns the rest of its output.
    fn finish(mut self) -> Vec<String> {
        drop(self.process.0.stdin.take());
        self.lines.map(Result::unwrap).collect()
    }
}

#[test]
fn connection_that_another_user_takes_over_gets_nothing() {
    if !running_as_root("connection_that_another_user_takes_over_gets_nothing") {
        return;
    }
    let home = Home::new();
    home.token("admin:read");
    let port = free_port();
    let taken = TakenPort::run("take_over_connections.py", port);
    let listener = FakeApi::start_as(0, port, &false_status(&home));
    let is_taken_over = || {
        let outcome = home
            .run(["--admin-url", &listener.url(), "status"])
            .exits(4);
        let is_too_late = outcome.stdout.contains("no answer within");
        if !is_too_late {
            outcome.stdout_contains(&["no token was sent", "uid 12345"]);
        }
        !is_too_late
    };
    // On a busy machine, the client may give up before the other user sees it.
    assert!((0..20).any(|_| is_taken_over()));
    let outcomes = taken.finish();
    let mut received = outcomes
        .iter()
        .filter(|outcome| !outcome.starts_with("not connected"));
    assert!(received.clone().count() > 0, "{outcomes:?}");
    assert!(
        received.all(|outcome| outcome == "received b''"),
        "{outcomes:?}"
    );
    assert_eq!(listener.received(), "");
}

#[test]
fn daemon_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("daemon_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let (home, port) = home_with_port();
    assert_prevents_start(&home, connected_socket((Ipv4Addr::LOCALHOST, port)));
}

/// The socket was bound to all addresses. While it is connected, it is at `::1`.
#[test]
fn daemon_refuses_a_port_with_a_socket_that_can_change_its_address() {
    if !running_as_root("daemon_refuses_a_port_with_a_socket_that_can_change_its_address") {
        return;
    }
    let (home, port) = home_with_port();
    assert_prevents_start(&home, connected_socket((Ipv6Addr::UNSPECIFIED, port)));
}

/// A program of another user listened while the daemon was down. It has closed that socket, but not
/// the connections that it has accepted. A browser would send its next requests there.
#[test]
fn daemon_refuses_a_port_where_another_user_has_connections() {
    if !running_as_root("daemon_refuses_a_port_where_another_user_has_connections") {
        return;
    }
    let (home, port) = home_with_port();
    let kept = as_other_user(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        (listener.accept().unwrap(), client)
    });
    assert_prevents_start(&home, kept);
}

/// The kernel does not report all sockets at one moment.
#[test]
fn daemon_refuses_a_port_with_a_socket_that_changes_its_state() {
    if !running_as_root("daemon_refuses_a_port_with_a_socket_that_changes_its_state") {
        return;
    }
    let (home, port) = home_with_port();
    let _taken = TakenPort::run("change_socket_state.py", port);
    for _ in 0..scale::rounds() {
        home.run(["start"])
            .exits(1)
            .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    }
}

/// Linux changes the address of a socket at a multicast address when it connects.
#[test]
fn nobody_binds_the_port_of_a_running_daemon_at_any_address() {
    if !running_as_root("nobody_binds_the_port_of_a_running_daemon_at_any_address") {
        return;
    }
    let (home, port) = home_with_port();
    let listen = || listen_as_other_user(([224, 0, 0, 1], port));
    let taken = listen().unwrap();
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    drop(taken);
    // A connection of that user ends, and is at the port for 60 s: the daemon cannot hold it in the
    // usual way.
    as_other_user(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
    });
    home.run(["start"]).succeeds();
    for _ in 0..3 {
        listen().unwrap_err();
        home.restart();
    }
    listen().unwrap_err();
    home.run(["stop"]).succeeds();
    drop(listen().unwrap());
}

/// A daemon whose ports are in `.env`, with another `ADMIN_PORT` there now.
fn home_with_changed_port() -> (Home, u16) {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    home.write_env("ADMIN_PORT=0\n");
    home.run(["start"]).succeeds();
    home.run(["restart"]).succeeds();
    let port = free_port();
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    (home, port)
}

/// The old process knows that its own admin port is safe, but not the new one.
#[test]
fn restart_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("restart_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let (home, port) = home_with_changed_port();
    let taken = connected_socket((Ipv4Addr::LOCALHOST, port));
    home.run(["restart"]).exits(1).stderr_contains(&[
        "ADMIN_PORT",
        "uid 12345",
        "continues as before",
    ]);
    drop(taken);
    home.run(["restart"]).succeeds();
}

/// The daemon runs until its successor could start.
#[test]
fn hard_restart_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("hard_restart_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let (home, port) = home_with_changed_port();
    let daemon = home.daemon().unwrap();
    let taken = listen_as_other_user(([127, 0, 0, 2], port)).unwrap();
    home.run(["restart", "--hard"]).exits(1).stderr_contains(&[
        "ADMIN_PORT",
        "uid 12345",
        &format!("127.0.0.2:{port}"),
        "ps -u 12345",
        "Nothing has changed",
    ]);
    assert!(!daemon.has_exited());
    drop(taken);
    home.run(["restart", "--hard"]).succeeds();
}

/// The daemon runs until its successor could listen at its addresses.
#[test]
fn hard_restart_refuses_an_address_in_use() {
    let mut home = Home::new();
    for name in ["HOST", "PORT", "ADMIN_PORT"] {
        home.unset(name);
    }
    let [public, admin] = [free_port(), free_port()];
    let change = |host: &str, public: u16, admin: u16| {
        home.write_env(&format!("HOST={host}\nPORT={public}\nADMIN_PORT={admin}\n"));
    };
    change("127.0.0.1", public, admin);
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    let refuses = |setting: &str, problem: &str| {
        home.run(["restart", "--hard"]).exits(1).stderr_contains(&[
            setting,
            problem,
            "Nothing has changed",
        ]);
        assert!(!daemon.has_exited());
    };
    // As this user, at the address and at one that overlaps with it.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    for host in ["127.0.0.1", "0.0.0.0"] {
        change(host, port, admin);
        refuses("PORT", "already in use");
    }
    change("127.0.0.1", public, port);
    refuses("ADMIN_PORT", "already in use");
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    change("127.0.0.1", public, elsewhere.local_addr().unwrap().port());
    refuses("ADMIN_PORT", "127.0.0.2");
    change("192.0.2.1", public, admin);
    refuses("HOST", "192.0.2.1");
    // Beside the daemon's own socket at the same port.
    let beside = TcpListener::bind(("127.0.0.2", public)).unwrap();
    change("0.0.0.0", public, admin);
    refuses("PORT", "already in use");
    drop(beside);
    // The daemon's own sockets are no obstacle.
    home.run(["restart", "--hard"]).succeeds();
    change("127.0.0.1", admin, public);
    home.run(["restart", "--hard"]).succeeds();
}
