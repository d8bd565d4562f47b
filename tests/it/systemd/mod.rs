//! The shipped units under a real systemd.

mod admin_socket;
mod reload;
mod service;
mod stop;

use crate::support::{Connection, Machine, SERVICE, eventually, request, running_as_root};

const SOCKET: &str = "fullon_master_api.socket";
const ADMIN_SOCKET: &str = "fullon_master_api-admin.socket";
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

/// The PIDs of the service.
fn processes(machine: &Machine) -> String {
    let group = machine.property("ControlGroup");
    let file = format!("/sys/fs/cgroup{group}/cgroup.procs");
    let processes = machine.run("cat", [file.as_str()]).succeeds().stdout;
    processes.trim_end().replace('\n', " ")
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
