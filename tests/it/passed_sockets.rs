//! Sockets that systemd passes, by its own `systemd-socket-activate`.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{
    ChildGuard, Connection, Home, eventually, free_port, request, send_signal, spawn,
};

/// A socket as an option of `systemd-socket-activate`, and its name.
type Socket<'a> = (&'a str, &'a str);

fn run_with_sockets(home: &Home, sockets: &[Socket]) -> ChildGuard {
    let mut command = home.command("systemd-socket-activate");
    for name in ["HOST", "PORT", "ADMIN_PORT", "LOG_FILE"] {
        command.args(["-E", name]);
    }
    for (address, _) in sockets {
        command.args(["-l", address]);
    }
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    command.arg(format!("--fdname={}", names.join(":")));
    command.args([env!("CARGO_BIN_EXE_fullon"), "run"]);
    spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

fn addresses<const N: usize>() -> [String; N] {
    std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()))
}

#[test]
fn every_socket_of_a_name_is_served_across_restarts() {
    let home = Home::new();
    let [one, two, other, admin, other_admin] = addresses();
    // The second public address is another one of the same port, as for IPv4 and IPv6.
    let same_port = one.replace("127.0.0.1", "127.0.0.3");
    let public = [&one, &two, &other, &same_port];
    let mut sockets: Vec<Socket> = public.map(|it| (it.as_str(), "public")).to_vec();
    sockets.extend([(admin.as_str(), "admin"), (other_admin.as_str(), "admin")]);
    let child = run_with_sockets(&home, &sockets);
    // The first connection starts the daemon.
    eventually("systemd-socket-activate listens", || {
        std::net::TcpStream::connect(&one).is_ok()
    });
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    for _ in 0..3 {
        let status = home.call_admin("GET", "/admin/status").json();
        let mut listens_on: Vec<String> =
            serde_json::from_value(status["listens_on"].clone()).unwrap();
        let mut expected = public.map(ToString::to_string);
        listens_on.sort();
        expected.sort();
        assert_eq!(listens_on, expected);
        for address in public {
            let health = request(address, "GET", "/health", &[], "");
            assert_eq!(health.status, 200, "{address}");
        }
        for address in [&admin, &other_admin] {
            let mut connection = Connection::open(address);
            connection.send(
                "GET",
                "/admin/status",
                &[("Authorization", &home.bearer())],
                "",
            );
            assert_eq!(connection.read_response("GET").status, 200, "{address}");
        }
        home.restart();
    }
    send_signal(child.0.id(), Signal::SIGTERM);
    home.wait_until_empty();
}

#[test]
fn every_admin_socket_must_be_a_loopback_address() {
    let mut home = Home::new();
    home.set("LOG_FILE", "-");
    let [public, admin] = addresses();
    let open = format!("0.0.0.0:{}", free_port());
    let sockets = [
        (public.as_str(), "public"),
        (admin.as_str(), "admin"),
        (open.as_str(), "admin"),
    ];
    let mut child = run_with_sockets(&home, &sockets);
    eventually("systemd-socket-activate listens", || {
        std::net::TcpStream::connect(&public).is_ok()
    });
    eventually("the daemon refuses to start", || !child.is_alive());
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
}
