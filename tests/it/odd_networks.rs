//! Machines without IPv6, and with unusual loopback interfaces.

use crate::support::{Home, Outcome, running_as_root};

/// The program as `$fullon`, and the loopback interface up.
const SETUP: &str = "set -e; fullon=$0; ip link set lo up;";

/// Runs a shell script in a network of its own. The daemon ends with the script.
fn run_in_own_network(home: &Home, script: &str) -> Outcome {
    let mut command = home.command("unshare");
    command
        .args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["bash", "-c", &format!("{SETUP}{script}")])
        .arg(env!("CARGO_BIN_EXE_fullon"));
    Outcome::run(&mut command)
}

#[test]
fn daemon_on_all_addresses_restarts_without_ipv6() {
    if !running_as_root("daemon_on_all_addresses_restarts_without_ipv6") {
        return;
    }
    let mut home = Home::new();
    home.set("HOST", "::");
    let script = "
        echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
        echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6
        $fullon start; $fullon restart; $fullon doctor; $fullon status --ready; $fullon status";
    run_in_own_network(&home, script)
        .succeeds()
        .stdout_contains(&["Server:    http://127.0.0.1:"]);
}

#[test]
fn daemon_on_all_addresses_restarts_when_ipv6_is_disabled_later() {
    if !running_as_root("daemon_on_all_addresses_restarts_when_ipv6_is_disabled_later") {
        return;
    }
    let mut home = Home::new();
    home.set("HOST", "::");
    let script = "
        $fullon start; $fullon status
        echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6
        $fullon restart; $fullon doctor; $fullon status";
    run_in_own_network(&home, script)
        .succeeds()
        .stdout_contains(&["Server:    http://[::1]:", "Server:    http://127.0.0.1:"]);
}

#[test]
fn daemon_on_ipv6_only_socket_restarts() {
    if !running_as_root("daemon_on_ipv6_only_socket_restarts") {
        return;
    }
    let mut home = Home::new();
    home.set("HOST", "::");
    let script = "
        echo 1 >/proc/sys/net/ipv6/bindv6only
        $fullon start; $fullon restart; $fullon doctor; $fullon status";
    run_in_own_network(&home, script)
        .succeeds()
        .stdout_contains(&["Server:    http://[::1]:"]);
}

#[test]
fn daemon_restarts_where_127_0_0_1_is_the_only_loopback_address() {
    if !running_as_root("daemon_restarts_where_127_0_0_1_is_the_only_loopback_address") {
        return;
    }
    let mut home = Home::new();
    home.set("HOST", "0.0.0.0");
    let script = "
        ip address del 127.0.0.1/8 dev lo; ip address add 127.0.0.1/32 dev lo
        $fullon start; $fullon restart; $fullon restart; $fullon doctor";
    run_in_own_network(&home, script).succeeds();
}

#[test]
fn doctor_names_the_missing_loopback_address() {
    if !running_as_root("doctor_names_the_missing_loopback_address") {
        return;
    }
    let cases = [
        ("0.0.0.0", "ip address del 127.0.0.1/8 dev lo", "127.0.0.1"),
        (
            "::",
            "echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6",
            "::1",
        ),
    ];
    for (host, change, missing) in cases {
        let mut home = Home::new();
        home.set("HOST", host);
        let script = format!("$fullon start; {change}; $fullon doctor");
        let outcome = run_in_own_network(&home, &script)
            .exits(1)
            .stdout_contains(&[&format!("this machine has no address {missing} now")]);
        assert!(!outcome.stdout.contains("hangs"), "{outcome:#?}");
    }
}
