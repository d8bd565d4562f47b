//! The daemon holds the admin port at all addresses, or does not start. Beside a port that is not
//! held, another user can bind a multicast address and take over connections.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::listener_proof::as_other_user;
use crate::support::{Home, eventually, free_port, running_as_root};

/// Listens without `SO_REUSEADDR`.
fn listen_exclusively(address: SocketAddr) -> TcpListener {
    // A program that another test starts must not inherit it.
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 1).unwrap();
    TcpListener::from(socket)
}

/// A connection at the address that its server has closed first.
fn leave_time_wait(address: SocketAddr) {
    let listener = listen_exclusively(address);
    let client = TcpStream::connect(address).unwrap();
    drop(listener.accept().unwrap());
    drop((listener, client));
}

#[test]
fn daemon_does_not_start_beside_a_connection_that_ends() {
    if !running_as_root("daemon_does_not_start_beside_a_connection_that_ends") {
        return;
    }
    for ip in [[127, 0, 0, 2], [127, 0, 0, 1]] {
        let mut home = Home::new();
        let port = free_port();
        home.set("ADMIN_PORT", &port.to_string());
        as_other_user(|| leave_time_wait((ip, port).into()));
        let expected = ["ADMIN_PORT", "has just ended", "try again in a minute"];
        home.run(["start"]).exits(1).stderr_contains(&expected);
        if ip == [127, 0, 0, 2] {
            home.run(["doctor"]).exits(1).stdout_contains(&expected);
        }
    }
}

#[test]
fn daemon_does_not_start_beside_a_listener_at_another_address() {
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    // Of this user, who may be root.
    let other = listen_exclusively(([127, 0, 0, 53], port).into());
    let expected = ["ADMIN_PORT", "127.0.0.53", "stop that program"];
    home.run(["doctor"]).exits(1).stdout_contains(&expected);
    home.run(["start"]).exits(1).stderr_contains(&expected);
    drop(other);
    home.run(["start"]).succeeds();
}

#[test]
fn restart_to_a_port_that_cannot_be_held_changes_nothing() {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    home.write_env(&format!("ADMIN_PORT={}\n", free_port()));
    home.run(["start"]).succeeds();
    let pid = home.state().pid;
    let port = free_port();
    leave_time_wait(([127, 0, 0, 2], port).into());
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    home.run(["restart"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "try again in a minute"]);
    assert_eq!(home.state().pid, pid);
}

/// Their connections end with the option of the daemon's own listener.
#[test]
fn daemon_starts_beside_its_own_connections_that_end() {
    let mut home = Home::new();
    home.set("ADMIN_PORT", &free_port().to_string());
    for _ in 0..3 {
        home.run(["start"]).succeeds();
        let answer = home.call_admin("GET", "/admin/status");
        assert_eq!(answer.status, 200);
        home.daemon().unwrap().kill().unwrap();
        eventually("it has ended", || home.daemon().is_none());
    }
}
