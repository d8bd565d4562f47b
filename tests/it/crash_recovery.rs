//! Kills, races, and damaged or foreign PID files.

use std::fs;

use crate::support::{Home, eventually, spawn, unrelated_process};

#[test]
fn killed_daemon_needs_no_cleanup() {
    let home = Home::started();
    let killed_daemon = home.daemon().unwrap();
    killed_daemon.kill().unwrap();
    assert!(killed_daemon.wait_for_exit(crate::support::DEADLINE));

    home.run(["status"])
        .exits(1)
        .stdout_contains(&["Status:    Dead (PID ", &killed_daemon.pid().to_string()]);
    let json = home.run(["status", "--json"]).exits(1).json();
    assert_eq!(json["state"], "dead");
    home.run(["stop"])
        .exits(1)
        .stdout_contains(&["died", "the next start replaces"]);

    home.run(["start"]).succeeds();
    home.run(["status"]).succeeds();
    home.run(["stop"]).succeeds();
    assert!(!home.pid_file().exists());
}

#[test]
fn twelve_concurrent_starts_make_one_daemon() {
    for _ in 0..5 {
        let home = Home::new();
        let starts: Vec<_> = (0..12)
            .map(|_| {
                home.fullon(["start"])
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let outputs: Vec<_> = starts
            .into_iter()
            .map(|start| start.wait_with_output().unwrap())
            .collect();
        let winners = outputs
            .iter()
            .filter(|output| output.status.success())
            .count();
        assert_eq!(winners, 1, "{outputs:#?}");
        for output in outputs.iter().filter(|output| !output.status.success()) {
            assert_eq!(output.status.code(), Some(1));
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("already running"), "{text}");
        }
        assert_eq!(home.log().matches(" ready version=").count(), 1);
        home.run(["status"]).succeeds();
    }
}

#[test]
fn other_process_in_pid_file_is_never_signalled() {
    let home = Home::new();
    let mut other_process = unrelated_process();
    let write = || fs::write(home.pid_file(), format!("{}\n", other_process.0.id())).unwrap();

    write();
    home.run(["status"]).exits(1);
    home.run(["stop"]).exits(1);
    home.run(["logs", "--no-follow"]).exits(1);
    write();
    home.run(["restart"]).succeeds();
    // Now a daemon runs, and its PID file names another process.
    write();
    let status = home.run(["status", "--json"]).succeeds().json();
    assert_ne!(status["pid"], other_process.0.id());
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["already running"]);
    write();
    home.run(["restart"]).succeeds();
    write();
    home.run(["stop"]).succeeds();

    assert!(other_process.is_alive());
    assert!(home.daemon().is_none());
}

/// Without the admin API, the signal is the only way.
#[test]
fn stop_without_api_signals_only_the_daemon() {
    let home = Home::started();
    let mut other_process = unrelated_process();
    let daemon = home.daemon().unwrap();
    fs::remove_file(fullon_master_api::instance::StateFile::path(
        &home.pid_file(),
    ))
    .unwrap();
    fs::write(home.pid_file(), format!("{}\n", other_process.0.id())).unwrap();
    home.run(["stop"])
        .succeeds()
        .stderr_contains(&[&format!("sending SIGTERM to process {}", daemon.pid())]);
    assert!(daemon.has_exited());
    assert!(other_process.is_alive());
}

#[test]
fn pid_file_locked_by_other_program_is_not_a_daemon() {
    let home = Home::new();
    fs::write(home.pid_file(), "").unwrap();
    let script = "import fcntl,struct,os,time,sys\n\
        f=open(sys.argv[1],'r+')\n\
        f.write(str(os.getpid())); f.flush()\n\
        fcntl.fcntl(f,37,struct.pack('hhqqi',fcntl.F_WRLCK,0,0,0,0))\n\
        print('locked',flush=True)\n\
        time.sleep(600)";
    let mut other_program = spawn(
        home.command("python3")
            .args(["-c", script])
            .arg(home.pid_file())
            .stdout(std::process::Stdio::piped()),
    );
    let mut line = String::new();
    let stdout = other_program.0.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "locked\n");
    let expected = ["locked by another program"];
    home.run(["status"]).exits(4).stdout_contains(&expected);
    home.run(["stop"]).exits(1).stderr_contains(&expected);
    home.run(["start"]).exits(1).stderr_contains(&expected);
    assert!(other_program.is_alive());
}

/// PID file contents that a daemon, a launcher, a crash or `touch` may leave.
const STALE_CONTENTS: [&[u8]; 6] = [
    b"",
    b"\n",
    b"0",
    b" 4194304\n",
    b"12345\n\n\n\n\n\n99",
    &[0; 11],
];
/// Contents that only another program can have written.
const FOREIGN_CONTENTS: [&[u8]; 5] = [
    b"my notes\n",
    b"-1",
    b"\xff\xfe\0",
    &[b'9'; 5000],
    &[b'\n'; 5000],
];

#[test]
fn overwritten_pid_file_of_running_daemon_is_harmless() {
    for bytes in STALE_CONTENTS.into_iter().chain(FOREIGN_CONTENTS) {
        let home = Home::started();
        fs::write(home.pid_file(), bytes).unwrap();
        home.run(["status"]).succeeds();
        home.run(["stop"]).succeeds();
        assert!(home.daemon().is_none());
    }
}

#[test]
fn stale_pid_file_is_taken_over_by_start() {
    for bytes in STALE_CONTENTS {
        let home = Home::new();
        fs::write(home.pid_file(), bytes).unwrap();
        home.run(["status"]).exits(1);
        home.run(["stop"]).exits(1);
        home.run(["start"]).succeeds();
        home.run(["stop"]).succeeds();
        assert!(!home.pid_file().exists());
    }
}

#[test]
fn file_that_is_no_pid_file_is_left_unchanged() {
    for bytes in FOREIGN_CONTENTS {
        let home = Home::new();
        let notes = home.path().join("notes.txt");
        fs::write(&notes, bytes).unwrap();
        let shown = notes.display().to_string();
        let flag = format!("--pid-file={shown}");
        let expected = [
            &*shown,
            "something other than a PID",
            "choose another PID_FILE",
        ];
        for (command, code) in [
            (&["start"][..], 1),
            (&["run"], 1),
            (&["stop"], 1),
            (&["restart"], 1),
            (&["restart", "--hard"], 1),
            (&["reload"], 1),
            (&["logs", "--no-follow"], 1),
        ] {
            let arguments = [&*flag].into_iter().chain(command.iter().copied());
            home.run(arguments).exits(code).stderr_contains(&expected);
        }
        home.run([&flag, "status"])
            .exits(4)
            .stdout_contains(&expected);
        home.run([&flag, "doctor"]).exits(1).stdout_contains(&[
            "ERROR",
            "something other than a PID",
            "choose another PID_FILE",
        ]);
        assert_eq!(fs::read(&notes).unwrap(), bytes);
        assert!(!fullon_master_api::instance::StateFile::path(&notes).exists());
        assert!(!home.log_file().exists());
    }
}

#[test]
fn failed_start_leaves_pid_file_unchanged() {
    let mut home = Home::new();
    home.set("LOG_FILE", "/proc/nowhere/fullon.log");
    home.run(["start"]).exits(1);
    assert!(!home.pid_file().exists());
    fs::write(home.pid_file(), "").unwrap();
    home.run(["start"]).exits(1);
    assert_eq!(fs::read(home.pid_file()).unwrap(), b"");
}

#[test]
fn stderr_output_of_libraries_is_in_log() {
    let home = Home::started();
    let pid = home.state().pid;
    // As a C library does.
    fs::OpenOptions::new()
        .append(true)
        .open(format!("/proc/{pid}/fd/2"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"a word from a library\n"))
        .unwrap();
    eventually("the line is an entry", || {
        let page = home
            .call_admin("GET", "/admin/logs?contains=a+word+from")
            .json();
        page["entries"][0]["level"].is_null()
            && page["entries"][0]["line"] == "a word from a library"
    });
}

#[test]
fn replaced_pid_file_does_not_hide_running_daemon() {
    let mut home = Home::started();
    let daemon = home.daemon().unwrap();
    let admin = home.state().admin;
    home.set("ADMIN_PORT", admin.rsplit_once(':').unwrap().1);
    let copy = home.path().join("copy");
    fs::copy(home.pid_file(), &copy).unwrap();
    fs::rename(&copy, home.pid_file()).unwrap();
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running\n", &daemon.pid().to_string()]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
    assert!(daemon.has_exited());
}

#[test]
fn daemon_without_pid_file_leaves_files_of_next_one_alone() {
    let home = Home::started();
    let first = home.daemon().unwrap();
    fs::remove_file(home.pid_file()).unwrap();
    home.run(["start"]).succeeds();
    let second = home.state().instance;
    first.terminate().unwrap();
    assert!(first.wait_for_exit(crate::support::DEADLINE));
    assert_eq!(home.state().instance, second);
    home.run(["restart"]).succeeds();
}
