//! `fullon logs` continues through rotations, restarts and crashes.

use std::io::Write as _;

use nix::sys::signal::Signal;

use crate::support::{
    DEADLINE, FollowedRequests, Home, Load, LoadProfile, LogFollower, eventually, send_signal,
};

fn whole_log(home: &Home) -> Vec<String> {
    let mut text = String::new();
    for suffix in ["2", "1"] {
        text += &std::fs::read_to_string(home.log_file().with_extension(format!("log.{suffix}")))
            .unwrap_or_default();
    }
    text += &home.log();
    text.lines().map(|line| format!("{line}\n")).collect()
}

fn rotate(home: &Home) {
    let name = |number: u32| home.log_file().with_extension(format!("log.{number}"));
    let _ = std::fs::rename(name(1), name(2));
    std::fs::rename(home.log_file(), name(1)).unwrap();
}

#[test]
fn follows_through_rotation_restart_and_crash() {
    let home = Home::started();
    let mut logs = LogFollower::start(&home, &["--lines", "10000"]);
    let mut read = logs.read_until(" ready version=");
    home.log_request("before");
    read.extend(logs.read_until("before"));
    rotate(&home);
    home.log_request("rotated");
    read.extend(logs.read_until("rotated"));
    let replaced = home.daemon().unwrap();
    home.run(["restart"]).succeeds();
    // While no file has the log's name, it would still write to the file before the last.
    assert!(replaced.wait_for_exit(DEADLINE));
    home.log_request("restarted");
    rotate(&home);
    home.log_request("rotated-again");
    read.extend(logs.read_until("rotated-again"));
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    home.log_request("after-crash");
    read.extend(logs.read_until("after-crash"));
    home.run(["stop"]).succeeds();
    let (rest, outcome) = logs.finish();
    read.extend(rest);
    assert_eq!(read, whole_log(&home), "{outcome:#?}");
    outcome.succeeds().stderr_contains(&["end of the log"]);
}

#[test]
fn follows_file_through_rotation_without_admin_api() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    send_signal(daemon.pid(), Signal::SIGSTOP);
    let mut logs = LogFollower::start(&home, &["--lines", "1"]);
    logs.read_until(" ready version=");
    rotate(&home);
    send_signal(daemon.pid(), Signal::SIGCONT);
    home.log_request("rotated");
    logs.read_until("rotated");
    home.run(["stop"]).succeeds();
    let (rest, outcome) = logs.finish();
    assert!(rest.last().unwrap().ends_with("stopped\n"), "{rest:?}");
    outcome
        .succeeds()
        .stderr_contains(&["reading", "end of the log"]);
}

#[test]
fn escapes_are_removed_and_closed_pipe_ends_command() {
    let home = Home::started();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    log.write_all(b"\x1b[31mred\x1b[0m \x1b]0;title\x07and \x9b2J\x00\x08.\n")
        .unwrap();
    let outcome = home.run(["logs", "--no-follow", "--contains", "red"]);
    assert_eq!(outcome.succeeds().stdout, "red and \u{fffd}2J.\n");

    let mut logs = LogFollower::start(&home, &["--lines", "1"]);
    logs.read_until("/admin/logs");
    drop(logs.lines);
    // Although nothing is logged.
    eventually("the process exits", || !logs.child.is_alive());
    assert!(logs.child.0.wait().unwrap().success());
}

#[test]
fn truncated_or_removed_log_is_never_repeated() {
    let home = Home::started();
    let mut logs = LogFollower::start(&home, &["--lines", "1"]);
    // Connected before the first truncation.
    logs.read_until("/admin/logs/stream");
    let mut read = Vec::new();
    for number in 0..6 {
        // A file that grows back to its size before it is read does not look truncated.
        for _ in 0..20 {
            home.log_request("long");
        }
        let end = format!("end-{number}");
        home.log_request(&end);
        read.extend(logs.read_until(&end));
        if number % 2 == 0 {
            std::fs::File::create(home.log_file()).unwrap();
        } else {
            std::fs::remove_file(home.log_file()).unwrap();
        }
        let last = format!("round-{number}-b");
        home.log_request(&format!("round-{number}-a"));
        home.log_request(&last);
        read.extend(logs.read_until(&last));
    }
    home.run(["stop"]).succeeds();
    let (rest, outcome) = logs.finish();
    read.extend(rest);
    // A line logged between the truncation and its detection may be lost. None is repeated.
    let mut lines: Vec<&String> = read.iter().filter(|line| line.contains("round-")).collect();
    let count = lines.len();
    lines.sort();
    lines.dedup();
    assert!(
        (6..=12).contains(&count) && lines.len() == count,
        "{read:#?}"
    );
    let gaps = outcome
        .stderr
        .matches("some lines are missing here")
        .count();
    // None is reported if the follower had read everything before.
    assert!(gaps <= 12, "{}", outcome.stderr);
}

#[test]
fn search_reads_file_to_its_end() {
    let home = Home::started();
    home.log_request("needle-0");
    let filler = format!("{}\n", "x".repeat(999)).repeat(3_000);
    eventually("the line is logged", || home.log().contains("needle-0"));
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    log.write_all(filler.as_bytes()).unwrap();
    home.log_request("needle-1");
    eventually("the line is logged", || home.log().contains("needle-1"));
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(DEADLINE));
    let outcome = home.run(["logs", "--contains", "needle-"]).succeeds();
    assert_eq!(outcome.stdout.lines().count(), 2, "{outcome:#?}");
}

/// Two processes write to the log during a restart, while it rotates.
#[test]
fn follows_through_restarts_while_log_rotates() {
    const RESTARTS: u64 = 5;

    let mut home = Home::new();
    home.set("LOG_MAX_SIZE", "64KiB");
    home.set("LOG_KEEP", "1000");
    home.run(["start"]).succeeds();
    let load = Load::start(
        &home.public_address(),
        &LoadProfile {
            per_request: 4,
            persistent: 4,
            idle: 0,
        },
    );
    let requests = FollowedRequests::start(&home);
    for _ in 0..RESTARTS {
        load.wait_for_more(2000);
        home.restart();
    }
    load.wait_for_more(2000);
    load.finish().assert_flawless();
    requests.finish();
    let rotated = std::fs::read_dir(home.path()).unwrap().count();
    assert!(rotated > 10, "the log rotated too seldom");
}
