//! The log while logrotate itself rotates it, in each of its ways.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::support::{
    Home, LogFollower, eventually, file_mode, prerequisite_available, send_signal,
};

const ROUNDS: usize = 3;
const MARKS_PER_ROUND: usize = 4;

/// A daemon that leaves the rotation to logrotate; `None` without logrotate.
fn home_for_logrotate() -> Option<Home> {
    let has_logrotate = logrotate().arg("--version").output().is_ok();
    prerequisite_available("rotation by logrotate", "logrotate", has_logrotate).then(|| {
        let mut home = Home::new();
        home.set("LOG_MAX_SIZE", "0");
        home
    })
}

/// Not every PATH has the directory of programs for root.
fn logrotate() -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("logrotate");
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Rotates the log now with these directives.
fn rotate(home: &Home, directives: &str) {
    let named = |name: &str| home.path().join(name);
    let log = home.log_file();
    let text = format!("{} {{\nrotate 9\n{directives}\n}}\n", log.display());
    std::fs::write(named("logrotate.conf"), text).unwrap();
    std::fs::set_permissions(
        named("logrotate.conf"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let mut command = logrotate();
    command.arg("--force").arg("--state");
    command.args([named("logrotate.state"), named("logrotate.conf")]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

fn wait_for_next_second() {
    let second = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    };
    let start = second();
    eventually("a second has passed", || second() > start);
}

fn marks(lines: &[String]) -> Vec<usize> {
    let number = |line: &String| {
        line.split_once("\"mark-")?
            .1
            .split_once('.')?
            .0
            .parse()
            .ok()
    };
    lines.iter().filter_map(number).collect()
}

/// Rotates several times while the log is followed. Every line arrives once, and none is reported
/// as missing. Returns the home of the stopped daemon.
fn assert_followed(home: Home, directives: &str) -> Home {
    home.run(["start"]).succeeds();
    let mut logs = LogFollower::start(&home, &["--lines", "10000"]);
    let mut lines = logs.read_until(" ready version=");
    for round in 0..=ROUNDS {
        let first = round * MARKS_PER_ROUND;
        for number in first..first + MARKS_PER_ROUND {
            home.log_request(&format!("mark-{number}."));
        }
        let last = format!("mark-{}.", first + MARKS_PER_ROUND - 1);
        lines.extend(logs.read_until(&last));
        if round < ROUNDS {
            // A date is used once.
            wait_for_next_second();
            eventually("the file that was not created is there", || {
                home.log_request("another line");
                home.log_file().exists()
            });
            rotate(&home, directives);
        }
    }
    let all: Vec<usize> = (0..MARKS_PER_ROUND * (ROUNDS + 1)).collect();
    if !directives.contains("olddir") {
        assert_eq!(marks(&last_lines(&home)), all, "{directives}");
        assert_paged(&home, &all, directives);
        let mut late = LogFollower::start(&home, &["--lines", "10000"]);
        let last = format!("mark-{}.", all.len() - 1);
        assert_eq!(marks(&late.read_until(&last)), all, "{directives}");
    }
    home.run(["stop"]).succeeds();
    let (rest, outcome) = logs.finish();
    lines.extend(rest);
    assert_eq!(marks(&lines), all, "{directives}: {outcome:#?}");
    if !directives.contains("olddir") {
        // From the files.
        assert_eq!(marks(&last_lines(&home)), all, "{directives}");
    }
    assert!(
        !outcome.stderr.contains("missing"),
        "{directives}: {outcome:#?}"
    );
    home
}

fn last_lines(home: &Home) -> Vec<String> {
    let lines = home.run(["logs", "--no-follow", "--lines", "10000"]);
    let lines = lines.succeeds().stdout;
    lines.lines().map(str::to_owned).collect()
}

/// Page by page over REST.
fn assert_paged(home: &Home, all: &[usize], directives: &str) {
    let mut lines = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/admin/logs?lines=3&contains=mark-{before}");
        let page = home.call_admin("GET", &path).json();
        let entries = page["entries"].as_array().unwrap();
        let page_lines = entries.iter().map(|entry| entry["line"].as_str().unwrap());
        lines.splice(0..0, page_lines.map(str::to_owned));
        match page["first_cursor"].as_str() {
            Some(cursor) => before = format!("&before={cursor}"),
            None => break,
        }
    }
    assert_eq!(marks(&lines), all, "{directives}");
}

fn rotated_count(directory: &Path, prefix: &str) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .count()
}

#[test]
fn renamed_files_are_followed() {
    for directives in [
        "create",
        "nocreate",
        "create\ndelaycompress\ncompress",
        "dateext\ndateformat -%Y%m%d-%s\ncreate",
        "create 0640",
        "create\ndelaycompress\ncompress\ndateext\ndateformat -%Y%m%d-%s",
    ] {
        let Some(home) = home_for_logrotate() else {
            return;
        };
        let home = assert_followed(home, directives);
        if directives != "nocreate" {
            let mode = if directives == "create 0640" {
                0o640
            } else {
                0o600
            };
            assert_eq!(file_mode(&home.log_file()), mode, "{directives}");
        }
    }
}

/// The follower's file leaves the log before the daemon writes to the next one.
#[test]
fn files_that_leave_the_log_are_followed_without_a_gap() {
    for directives in [
        "create\ncompress",
        "create\ncompress\ndateext\ndateformat -%Y%m%d-%s",
        "create\ncompress\ncompresscmd zstd\ncompressoptions -q\ncompressext .zst",
        "create\nolddir OLD",
        "create\nrenamecopy",
        "create\nrenamecopy\nolddir OLD",
    ] {
        let Some(home) = home_for_logrotate() else {
            return;
        };
        let old = home.path().join("old");
        std::fs::create_dir(&old).unwrap();
        assert_followed(home, &directives.replace("OLD", &old.display().to_string()));
    }
}

#[test]
fn truncated_file_is_followed_without_a_gap() {
    for directives in ["copytruncate", "copytruncate\ncompress"] {
        if let Some(home) = home_for_logrotate() {
            assert_followed(home, directives);
        }
    }
}

/// The daemon has rotated by itself before.
#[test]
fn files_of_both_kinds_of_names_are_one_log() {
    for directives in [
        "create\ndateext\ndateformat -%Y%m%d-%s",
        "create\ndateext\ndateformat -%Y%m%d-%s\ncompress\ndelaycompress",
        "create\nolddir OLD",
    ] {
        let Some(home) = home_for_logrotate() else {
            return;
        };
        let old = home.path().join("old");
        std::fs::create_dir(&old).unwrap();
        let own: Vec<String> = (1..=50)
            .map(|number| format!("own line {number}"))
            .collect();
        std::fs::write(home.path().join("fullon.log.1"), own.join("\n") + "\n").unwrap();
        let is_dated = directives.contains("dateext");
        let home = assert_followed(home, &directives.replace("OLD", &old.display().to_string()));
        let lines = last_lines(&home);
        assert_eq!(lines[..own.len()], own, "{directives}");
        if is_dated {
            assert_eq!(rotated_count(home.path(), "fullon.log-"), ROUNDS);
            assert_eq!(marks(&lines), (0..lines.len()).take(16).collect::<Vec<_>>());
        }
    }
}

/// As the `postrotate` script of nginx does.
#[test]
fn sigusr1_reopens_the_log() {
    let Some(home) = home_for_logrotate() else {
        return;
    };
    home.run(["start"]).succeeds();
    let pid = home.state().pid;
    let script = format!("nocreate\npostrotate\nkill -USR1 {pid}\nendscript");
    for _ in 0..2 {
        home.log_request("before");
        eventually("the line is logged", || home.log().contains("before"));
        rotate(&home, &script);
        eventually("there is a new file", || {
            home.log_file().exists() && home.log().contains("by=\"SIGUSR1\"")
        });
        assert!(!home.log().contains("before"));
    }
    home.run(["restart"]).succeeds();
    assert_eq!(home.state().generation, 2);
    send_signal(home.state().pid, Signal::SIGUSR1);
    eventually("the signal is handled", || {
        home.log()
            .lines()
            .filter(|line| line.contains("by=\"SIGUSR1\""))
            .count()
            == 2
    });
    home.run(["stop"]).succeeds();
}
