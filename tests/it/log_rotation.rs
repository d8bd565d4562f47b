//! Rotation by size.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::doctor::{as_nobody, home_of_nobody};
use crate::support::{
    Connection, Home, Outcome, Response, eventually, file_mode, request, running_as_root,
};

const MAX_SIZE: u64 = 64 * 1024;

/// A daemon that rotates at the smallest allowed size.
fn start_with_rotation(keep: &str) -> Home {
    let mut home = Home::new();
    home.set("LOG_MAX_SIZE", "64KiB");
    home.set("LOG_KEEP", keep);
    home.run(["start"]).succeeds();
    home
}

fn rotated_file(home: &Home, number: usize) -> PathBuf {
    home.path().join(format!("fullon.log.{number}"))
}

fn log_marks(home: &Home, count: usize) {
    let mut connection = Connection::open(&home.public_address());
    for number in 0..count {
        let id = format!("mark-{number}.");
        connection.send("GET", "/", &[("X-Request-Id", &id)], "");
        assert_eq!(connection.read_response("GET").status, 200);
    }
    let last = format!("mark-{}.", count - 1);
    eventually("the line is logged", || home.log().contains(&last));
}

/// The numbers of the marks, in their order.
fn mark_numbers<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    lines
        .into_iter()
        .filter_map(|line| {
            line.split_once("\"mark-")?
                .1
                .split_once('.')?
                .0
                .parse()
                .ok()
        })
        .collect()
}

fn plain_text(home: &Home, query: &str) -> Response {
    let token = format!("Bearer {}", home.token("admin:logs"));
    let headers = [("Authorization", token.as_str()), ("Accept", "text/plain")];
    request(
        &home.admin_address(),
        "GET",
        &format!("/admin/logs{query}"),
        &headers,
        "",
    )
}

#[test]
fn file_size_and_count_stay_within_limits() {
    let home = start_with_rotation("3");
    log_marks(&home, 3_000);
    for number in 1..=3 {
        let file = rotated_file(&home, number);
        let size = file.metadata().unwrap().len();
        assert!((MAX_SIZE - 1_000..=MAX_SIZE).contains(&size), "{size}");
        assert_eq!(file_mode(&file), 0o600);
    }
    assert!(!rotated_file(&home, 4).exists() && file_mode(&home.log_file()) == 0o600);
    // Output to stdout goes to the new file.
    let stdout = format!("/proc/{}/fd/1", home.state().pid);
    assert_eq!(std::fs::read_link(stdout).unwrap(), home.log_file());

    // `fullon logs` has a limit of its own. The plain text of the API has every line.
    let all = plain_text(&home, "?lines=1000000");
    let mut files: String = (1..=3)
        .rev()
        .map(|number| std::fs::read_to_string(rotated_file(&home, number)).unwrap())
        .collect();
    files += &home.log();
    assert!(
        files.starts_with(&all.body),
        "the response is not the beginning of the log"
    );
    assert!(all.header("x-first-cursor").is_none() && all.header("x-next-cursor").is_some());
    let logged = mark_numbers(all.body.lines());
    let first = logged[0];
    assert_eq!(logged, (first..3_000).collect::<Vec<_>>());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn log_mode_is_that_of_all_new_files() {
    let mut home = Home::new();
    home.set("LOG_MAX_SIZE", "64KiB");
    let set_log_mode = |mode: &str| {
        fs::write(home.path().join(".env"), format!("LOG_MODE={mode}\n")).unwrap();
    };
    set_log_mode("0640");
    // A file that the daemon has not created.
    fs::write(home.log_file(), "before\n").unwrap();
    set_mode(&home.log_file(), 0o600);
    home.run(["start"]).succeeds();
    assert_eq!(file_mode(&home.log_file()), 0o640);
    log_marks(&home, 400);
    assert_eq!(file_mode(&rotated_file(&home, 1)), 0o640);
    assert_eq!(file_mode(&home.log_file()), 0o640);
    // The audit trail stays private.
    assert_eq!(file_mode(&home.path().join("fullon.log.audit")), 0o600);
    for (mode, expected) in [("0600", 0o600), ("644", 0o644)] {
        set_log_mode(mode);
        home.run(["reload"]).succeeds();
        eventually("the file has the new mode", || {
            file_mode(&home.log_file()) == expected
        });
    }
    let doctor = home.run(["doctor"]).stdout;
    assert!(doctor.contains("all users can read"), "{doctor}");
    home.run(["stop"]).succeeds();
    for bad in ["0660", "0646", "0700", "0440", "rw"] {
        set_log_mode(bad);
        home.run(["start"])
            .exits(2)
            .stderr_contains(&["LOG_MODE", "is not a mode of a log file such as 0640"]);
    }
}

/// As an administrator or logrotate has set them.
#[test]
fn mode_and_group_of_the_file_are_kept_without_log_mode() {
    let mut home = Home::new();
    home.set("LOG_MAX_SIZE", "64KiB");
    fs::write(home.log_file(), "before\n").unwrap();
    set_mode(&home.log_file(), 0o640);
    let group = |file: &Path| fs::metadata(file).unwrap().gid();
    let mut expected = group(&home.log_file());
    if running_as_root("the group of a log file") {
        expected = 4;
        std::os::unix::fs::chown(home.log_file(), None, Some(expected)).unwrap();
    }
    home.run(["start"]).succeeds();
    assert_eq!(file_mode(&home.log_file()), 0o640);
    log_marks(&home, 400);
    for file in [home.log_file(), rotated_file(&home, 1)] {
        assert_eq!((file_mode(&file), group(&file)), (0o640, expected));
    }
    // Nobody else may write to it.
    home.run(["stop"]).succeeds();
    set_mode(&home.log_file(), 0o660);
    home.run(["start"]).succeeds();
    assert_eq!(file_mode(&home.log_file()), 0o600);
}

/// The group of the daemon is not the one that the administrator has chosen.
#[test]
fn no_other_group_reads_the_log_after_rotations_and_starts() {
    if !running_as_root("a group of a log file") {
        return;
    }
    let mut home = home_of_nobody();
    home.set("LOG_MAX_SIZE", "64KiB");
    home.set("LOG_MODE", "0640");
    let run = |arguments: &[&str]| Outcome::run(&mut as_nobody(&home, arguments)).succeeds();
    run(&["start"]);
    assert_eq!(file_mode(&home.log_file()), 0o640);
    run(&["stop"]);
    std::os::unix::fs::chown(home.log_file(), None, Some(4)).unwrap();
    run(&["start"]);
    assert_eq!(file_mode(&home.log_file()), 0o640);
    let assert_private = || assert_eq!(file_mode(&home.log_file()), 0o600);
    let rotate = || {
        let inode = || home.log_file().metadata().unwrap().ino();
        let before = inode();
        log_marks(&home, 400);
        assert_ne!(inode(), before);
    };
    rotate();
    assert_private();
    let text = "no group can read";
    assert!(home.log().contains(text));
    run(&["restart"]);
    assert_private();
    rotate();
    rotate();
    assert_private();
    run(&["restart", "--hard"]);
    assert_private();
    // An external rotation.
    fs::rename(home.log_file(), home.path().join("moved.log")).unwrap();
    run(&["reload"]);
    eventually("a new file is there", || home.log_file().exists());
    assert_private();
    run(&["doctor"]).stdout_contains(&[text, "chmod 640"]);
    // The administrator lets the present group read.
    set_mode(&home.log_file(), 0o640);
    run(&["restart"]);
    rotate();
    assert_eq!(file_mode(&home.log_file()), 0o640);
    let doctor = run(&["doctor"]);
    assert!(!doctor.stdout.contains(text), "{doctor:#?}");
}

#[test]
fn pages_go_back_through_rotated_files() {
    let home = start_with_rotation("20");
    log_marks(&home, 2_000);
    assert!(rotated_file(&home, 4).exists());
    for query in ["?lines=300", "?lines=150", "?lines=300&contains=mark-"] {
        let mut found = Vec::new();
        let mut before = String::new();
        loop {
            let page = home
                .call_admin("GET", &format!("/admin/logs{query}{before}"))
                .json();
            let entries = page["entries"].as_array().unwrap();
            let lines = entries.iter().map(|entry| entry["line"].as_str().unwrap());
            found.splice(0..0, mark_numbers(lines));
            match page["first_cursor"].as_str() {
                Some(cursor) => before = format!("&before={cursor}"),
                None => break,
            }
        }
        assert_eq!(found, (0..2_000).collect::<Vec<_>>(), "{query}");
    }
    let lines = home
        .run([
            "logs",
            "--no-follow",
            "--lines",
            "1700",
            "--contains",
            "mark-",
        ])
        .succeeds();
    assert_eq!(
        mark_numbers(lines.stdout.lines()),
        (300..2_000).collect::<Vec<_>>()
    );
}

#[test]
fn cursor_survives_rotation_until_file_is_removed() {
    let home = start_with_rotation("1");
    log_marks(&home, 10);
    let page = home
        .call_admin("GET", "/admin/logs?contains=mark-4.")
        .json();
    let cursor = page["entries"][0]["cursor"].as_str().unwrap().to_owned();
    let before = format!("/admin/logs?lines=2&contains=mark-&before={cursor}");
    log_marks(&home, 500);
    home.run(["restart"]).succeeds();
    assert!(rotated_file(&home, 1).exists());
    let page = home.call_admin("GET", &before).json();
    let entries = page["entries"].as_array().unwrap();
    let lines = entries.iter().map(|entry| entry["line"].as_str().unwrap());
    assert_eq!(mark_numbers(lines), [2, 3]);
    log_marks(&home, 1_000);
    home.call_admin("GET", &before)
        .assert_problem(404, "no longer in the log");
}

#[test]
fn unrelated_file_with_large_number_is_left_alone() {
    let home = start_with_rotation("1");
    let unrelated = ["999999", "202511", "2025"].map(|suffix| {
        let file = home.path().join(format!("fullon.log.{suffix}"));
        std::fs::write(&file, "not ours\n").unwrap();
        file
    });
    log_marks(&home, 1_000);
    assert!(rotated_file(&home, 1).exists() && !rotated_file(&home, 2).exists());
    assert!(unrelated.iter().all(|file| file.exists()));
    let all = plain_text(&home, "?lines=1000000");
    assert!(!all.body.contains("not ours"));
}

#[test]
fn external_rotation_and_removal_are_followed() {
    let home = start_with_rotation("5");
    std::fs::rename(home.log_file(), rotated_file(&home, 1)).unwrap();
    let log_of = |file: PathBuf| std::fs::read_to_string(file).unwrap();
    home.log_request("nameless");
    eventually("the line is logged", || {
        log_of(rotated_file(&home, 1)).contains("nameless")
    });
    assert!(!home.log_file().exists());
    std::fs::File::create_new(home.log_file()).unwrap();
    home.log_request("named");
    eventually("the line is logged", || home.log().contains("named"));
    std::fs::remove_file(home.log_file()).unwrap();
    home.log_request("removed");
    eventually("the line is logged", || {
        home.log_file().exists() && home.log().contains("removed")
    });
    assert_eq!(file_mode(&home.log_file()), 0o600);
}

#[test]
fn reading_all_files_keeps_one_open_at_a_time() {
    const FILES: usize = 40;
    const LINES: usize = 400;
    let mut home = Home::new();
    home.set("LOG_KEEP", "100");
    let line = |number| format!("line-{number:06} {}\n", "x".repeat(1_000));
    for file in 0..FILES {
        let lines = (file * LINES..(file + 1) * LINES).map(line);
        std::fs::write(rotated_file(&home, FILES - file), lines.collect::<String>()).unwrap();
    }
    home.run(["start"]).succeeds();
    let pid = home.state().pid;
    let files_open = || {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let names = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        let is_rotated = |name: &PathBuf| {
            let name = name.to_string_lossy();
            name.contains("/fullon.log.") && !name.ends_with(".audit")
        };
        names.filter(is_rotated).count()
    };
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str()), ("Accept", "text/plain")];
    let mut reader = Connection::with_small_buffer(&home.admin_address());
    reader.send("GET", "/admin/logs?lines=10000000", &headers, "");
    assert_eq!(reader.read_head().status, 200);
    // Once the response headers have arrived, all files were found.
    let open = files_open();
    assert!(open <= 1, "{open} files");
    let all = String::from_utf8(reader.read_chunks()).unwrap();
    let numbers = all
        .lines()
        .filter_map(|line| line.strip_prefix("line-")?.get(..6)?.parse().ok());
    assert_eq!(
        numbers.collect::<Vec<usize>>(),
        (0..FILES * LINES).collect::<Vec<_>>()
    );
}

/// In a shared directory such as `/tmp`, anyone can take the known names first.
#[test]
fn rotation_skips_names_taken_by_another_user() {
    if !running_as_root("files of another user") {
        return;
    }
    let mut home = Home::new();
    let shared = home.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let named = |suffix: &str| shared.join(format!("it.log{suffix}"));
    let (directories, files) = ([".1", ".new"], [".3"]);
    for suffix in directories {
        std::fs::create_dir(named(suffix)).unwrap();
    }
    for suffix in files {
        std::fs::write(named(suffix), "not ours\n").unwrap();
    }
    for suffix in directories.iter().chain(&files) {
        std::os::unix::fs::chown(named(suffix), Some(65534), Some(65534)).unwrap();
    }
    home.set("LOG_FILE", named("").to_str().unwrap());
    home.set("LOG_MAX_SIZE", "64KiB");
    home.set("LOG_KEEP", "2");
    home.run(["start"]).succeeds();
    let mut connection = Connection::open(&home.public_address());
    for number in 0..2_000 {
        let id = format!("mark-{number}.");
        connection.send("GET", "/", &[("X-Request-Id", &id)], "");
        assert_eq!(connection.read_response("GET").status, 200);
    }
    eventually("the last mark is logged", || {
        plain_text(&home, "?lines=20").body.contains("mark-1999.")
    });
    for suffix in ["", ".2", ".4"] {
        let size = named(suffix).metadata().unwrap().len();
        assert!(size <= MAX_SIZE, "{suffix}: {size}");
    }
    assert!(!named(".5").exists());
    for suffix in directories {
        assert!(named(suffix).is_dir());
    }
    assert_eq!(std::fs::read_to_string(named(".3")).unwrap(), "not ours\n");
    let all = plain_text(&home, "?lines=1000000");
    let logged = mark_numbers(all.body.lines());
    let first = logged[0];
    assert_eq!(logged, (first..2_000).collect::<Vec<_>>());
    assert!(!all.body.contains("cannot rotate"), "{}", all.body);
    // Once the names are free, rotation uses them again.
    std::fs::remove_dir(named(".1")).unwrap();
    std::fs::remove_file(named(".3")).unwrap();
    for number in 0..1_000 {
        let id = format!("more-{number}.");
        connection.send("GET", "/", &[("X-Request-Id", &id)], "");
        assert_eq!(connection.read_response("GET").status, 200);
    }
    eventually("the first numbers are used again", || {
        [".1", ".2"].iter().all(|suffix| named(suffix).is_file()) && !named(".4").exists()
    });
}

/// As in a container whose log is one mounted file.
#[test]
fn mounted_file_grows_and_no_rotated_file_is_lost() {
    const AUDIT_KEEP: usize = 20;
    if !running_as_root("a mount namespace") {
        return;
    }
    let home = start_with_rotation("3");
    home.run(["stop"]).succeeds();
    let named = |name: &str| home.path().join(name);
    let audit = named("fullon.log.audit");
    let records = std::fs::read_to_string(&audit).unwrap();
    // Large enough to be rotated.
    let filler = format!("{}\n", "x".repeat(1023)).repeat(10 * 1024);
    for (mounted, name, content) in [
        ("log", "fullon.log", String::new()),
        ("audit", "fullon.log.audit", filler + records.as_str()),
    ] {
        std::fs::write(named(mounted), content).unwrap();
        std::fs::set_permissions(named(mounted), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(named(name), "").unwrap();
    }
    let old = |name: &str, count: usize| -> Vec<(PathBuf, String)> {
        let numbers = 1..=count;
        numbers
            .map(|number| {
                (
                    named(&format!("{name}.{number}")),
                    format!("old {number}\n"),
                )
            })
            .collect()
    };
    let files = [old("fullon.log", 3), old("fullon.log.audit", AUDIT_KEEP)].concat();
    for (file, content) in &files {
        std::fs::write(file, content).unwrap();
    }
    let script =
        "mount --bind log fullon.log && mount --bind audit fullon.log.audit && exec \"$0\" start";
    let mut command = home.command("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_fullon")]);
    assert!(command.status().unwrap().success());
    let mut connection = Connection::open(&home.public_address());
    for _ in 0..1_000 {
        connection.send("GET", "/", &[], "");
        assert_eq!(connection.read_response("GET").status, 200);
    }
    eventually("the failure is logged", || {
        let log = std::fs::read_to_string(named("log")).unwrap();
        log.contains("cannot rotate the log file") && log.contains("mount its directory")
    });
    let size = |name: &str| named(name).metadata().unwrap().len();
    let audit_size = size("audit");
    home.run(["reload"]).succeeds();
    eventually("the log and the audit trail grow", || {
        size("log") > MAX_SIZE && size("audit") > audit_size
    });
    for (file, content) in &files {
        let now = std::fs::read_to_string(file).ok();
        assert_eq!(now.as_ref(), Some(content), "{}", file.display());
    }
    home.run(["stop"]).succeeds();
}
