//! The daemon holds the admin port at all addresses, or does not start. Beside a port that is not
//! held, another user can bind a multicast address and take over connections.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

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

#[test]
fn daemon_does_not_start_beside_a_connection_that_ends() {
    if !running_as_root("daemon_does_not_start_beside_a_connection_that_ends") {
        return;
    }
    for ip in [[127, 0, 0, 2], [127, 0, 0, 1]] {
        let mut home = Home::new();
        let port = free_port();
        home.set("ADMIN_PORT", &port.to_string());
        as_other_user(|| leave_ending((ip, port).into(), Ending::TimeWait));
        let expected = ["ADMIN_PORT", "has just ended", "try again in a minute"];
        home.run(["start"]).exits(1).stderr_contains(&expected);
        if ip == [127, 0, 0, 2] {
            home.run(["doctor"]).exits(1).stdout_contains(&expected);
        }
    }
}

/// How a connection ends whose server has closed it.
#[derive(Clone, Copy)]
enum Ending {
    TimeWait,
    FinWait1,
    FinWait2,
    LastAck,
}

/// Leaves a connection in this state at the address. Returns its other end.
fn leave_ending(address: SocketAddr, ending: Ending) -> Option<TcpStream> {
    let listener = listen_exclusively(address);
    let client = TcpStream::connect(address).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    match ending {
        Ending::TimeWait => {
            drop(accepted);
            return None;
        }
        Ending::FinWait2 => {}
        Ending::FinWait1 | Ending::LastAck => {
            if matches!(ending, Ending::LastAck) {
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
            }
            // The client does not read.
            accepted.set_nonblocking(true).unwrap();
            while accepted.write(&[0; 4096]).is_ok() {}
        }
    }
    Some(client)
}

#[test]
fn state_of_a_connection_that_keeps_the_port_is_named() {
    for (ending, state) in [
        (Ending::TimeWait, "TIME_WAIT"),
        (Ending::FinWait1, "FIN_WAIT1"),
        (Ending::FinWait2, "FIN_WAIT2"),
        (Ending::LastAck, "LAST_ACK"),
    ] {
        for (setting, ip) in [
            ("ADMIN_PORT", [127, 0, 0, 1]),
            ("ADMIN_PORT", [127, 0, 0, 2]),
            ("PORT", [127, 0, 0, 1]),
        ] {
            let mut home = Home::new();
            home.unset(setting);
            home.run(["start"]).succeeds();
            let address = SocketAddr::from((ip, free_port()));
            home.write_env(&format!("{setting}={}\n", address.port()));
            let client = leave_ending(address, ending);
            let remote = client.as_ref().map(|client| client.local_addr().unwrap());
            let remote = remote.map_or(String::new(), |remote| remote.to_string());
            let next = match ending {
                Ending::TimeWait => "try again in a minute".to_owned(),
                Ending::FinWait2 => "try again in 120 s".to_owned(),
                _ => format!("end that program (`sudo ss -tnp src {remote}` shows it), or wait"),
            };
            let at = address.to_string();
            let expected = [setting, state, &at, &remote, &next, "or "];
            for restart in [&["restart"][..], &["restart", "--hard"]] {
                let outcome = home
                    .run(restart.iter().copied())
                    .exits(1)
                    .stderr_contains(&expected);
                assert!(!outcome.stderr.contains("ss -ltnp"), "{}", outcome.stderr);
            }
            home.run(["stop"]).succeeds();
            home.run(["start"]).exits(1).stderr_contains(&expected);
            let doctor = home.run(["doctor"]).exits(1).stdout_contains(&expected);
            assert!(!doctor.stdout.contains("ss -ltnp"), "{}", doctor.stdout);
            drop(client);
            if matches!(ending, Ending::FinWait1 | Ending::LastAck) {
                // The next step helps.
                home.run(["start"]).succeeds();
            }
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
    leave_ending(([127, 0, 0, 2], port).into(), Ending::TimeWait);
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
