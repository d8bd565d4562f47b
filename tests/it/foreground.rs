//! `fullon run`: signals, systemd notifications, and stdout.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{
    Connection, DEADLINE, Home, eventually, request, run_foreground, running_as_root, send_signal,
    spawn,
};

#[test]
fn sigterm_and_sigint_stop_gracefully() {
    for stop_signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new();
        let mut child = run_foreground(&home);
        send_signal(child.0.id(), stop_signal);
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        assert!(!home.pid_file().exists());
        assert!(
            home.log()
                .contains(&format!("stopping by=\"{stop_signal}\""))
        );
        assert!(home.log().ends_with("stopped\n"));
    }
}

#[test]
fn unread_stdout_does_not_block_service() {
    // More events than the pipe and the queue hold.
    const REQUESTS: usize = 20_000;
    let mut home = Home::new();
    home.set("LOG_FILE", "-");
    let mut child = spawn(home.fullon(["run"]).stdout(Stdio::piped()));
    let stdout = child.0.stdout.take().unwrap();
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    let mut connection = Connection::open(&home.public_address());
    for _ in 0..REQUESTS / 100 {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        connection.send_bytes(&request);
        for _ in 0..100 {
            assert_eq!(connection.read_response("GET").status, 200);
        }
    }
    home.run(["status"]).succeeds();
    // Once it is read again, it has all buffered lines and the number of missing ones.
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.collect::<Vec<_>>()
    });
    home.log_request("read-again");
    home.run(["stop"]).succeeds();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let lines = lines.join().unwrap();
    let missing_count = lines
        .iter()
        .find(|line| line.contains("events are missing here"))
        .unwrap();
    let missing_count: usize = missing_count
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap();
    let logged = lines
        .iter()
        .filter(|line| line.contains("server=\"public\" method=GET path=\"/\" status=200"))
        .count();
    assert!(
        logged + missing_count >= REQUESTS,
        "{logged} + {missing_count}"
    );
    assert!(
        lines.last().unwrap().contains("stopped"),
        "{:?}",
        lines.last()
    );
}

#[test]
fn second_signal_ends_replaced_process_at_once() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    let mut child = run_foreground(&home);
    let _request = home.unfinished_request();
    home.run(["restart"]).succeeds();
    send_signal(child.0.id(), Signal::SIGINT);
    eventually("the daemon stops", || home.daemon().is_none());
    assert!(child.is_alive(), "the process did not wait for the request");
    send_signal(child.0.id(), Signal::SIGINT);
    eventually("the process exits", || !child.is_alive());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn second_signal_exits_at_once() {
    let home = Home::new();
    let mut child = run_foreground(&home);
    let _request = home.unfinished_request();
    send_signal(child.0.id(), Signal::SIGTERM);
    eventually("the daemon drains", || home.log().contains(" stopping by="));
    assert!(child.is_alive(), "the process did not wait for the request");
    send_signal(child.0.id(), Signal::SIGTERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert!(!home.pid_file().exists());
    assert!(home.log().contains("second signal"));
}

#[test]
fn shutdown_timeout_ends_unfinished_requests() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "300ms");
    let mut child = run_foreground(&home);
    let _request = home.unfinished_request();
    send_signal(child.0.id(), Signal::SIGTERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(home.log().contains("deadline reached"));
}

#[test]
fn systemd_is_notified() {
    let mut home = Home::new();
    let path = home.path().join("notify");
    assert_notifies(
        &mut home,
        &UnixDatagram::bind(&path).unwrap(),
        path.to_str().unwrap(),
    );
}

#[test]
fn abstract_notify_socket_is_notified() {
    let mut home = Home::new();
    let name = format!("fullon-{}", uuid::Uuid::new_v4());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    assert_notifies(&mut home, &socket, &format!("@{name}"));
}

/// Runs the daemon with this `NOTIFY_SOCKET`, and expects its notifications at `socket`.
#[track_caller]
fn assert_notifies(home: &mut Home, socket: &UnixDatagram, notify_socket: &str) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    home.set("NOTIFY_SOCKET", notify_socket);
    let child = spawn(home.fullon(["run"]).stdout(Stdio::null()));
    let mut buffer = [0; 1024];
    let mut next = || {
        let read = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    assert!(next().contains("READY=1"));
    home.unset("NOTIFY_SOCKET");
    home.run(["status"]).succeeds();
    send_signal(child.0.id(), Signal::SIGTERM);
    assert!(next().contains("STOPPING=1"));
}

#[test]
fn log_can_go_to_stdout() {
    let mut home = Home::new();
    home.set("LOG_FILE", "-");
    home.set("LOG_FORMAT", "json");
    let mut child = spawn(home.fullon(["run"]).stdout(Stdio::piped()));
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&event["level"], &event["message"]),
        (&"INFO".into(), &"ready".into())
    );
    home.call_admin("GET", "/admin/logs")
        .assert_problem(409, "stdout");
    send_signal(child.0.id(), Signal::SIGTERM);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(
        rest.trim_end().ends_with('}') && rest.contains("\"message\":\"stopped\""),
        "{rest}"
    );
}

/// A private /tmp, for the default log, and the home outside it. `$0` is the program.
const WITH_PRIVATE_TMP: &str = "set -e
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/home
    mount --bind \"$HOME\" /mnt/home
    mount -t tmpfs tmpfs /tmp
    export HOME=/mnt/home
    cd /mnt/home
    exec \"$0\" run";

#[test]
fn log_is_on_stdout_if_nobody_chose_a_file() {
    if !running_as_root("log_is_on_stdout_if_nobody_chose_a_file") {
        return;
    }
    let mut home = Home::new();
    home.unset("LOG_FILE");
    let run = |home: &Home| {
        let mut command = home.command("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            WITH_PRIVATE_TMP,
            env!("CARGO_BIN_EXE_fullon"),
        ]);
        spawn(command.stdout(Stdio::piped()))
    };
    let mut child = run(&home);
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    let mut read_until = |text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "no {text}");
        }
        line
    };
    let ready = read_until(" ready version=");
    assert!(
        ready.starts_with("20") && !ready.contains('\x1b'),
        "{ready}"
    );
    home.restart();
    home.log_request("of-the-new-process");
    read_until("client_request_id=\"of-the-new-process\"");
    send_signal(child.0.id(), Signal::SIGTERM);
    read_until("stopped");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));

    home.set("LOG_FILE", "fullon.log");
    let mut child = run(&home);
    eventually("the daemon serves", || home.daemon().is_some());
    eventually("the daemon serves", || {
        home.log().contains(" ready version=")
    });
    send_signal(child.0.id(), Signal::SIGTERM);
    let mut shown = String::new();
    child
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut shown)
        .unwrap();
    assert_eq!(shown, "");
}

/// A pipe that the daemon takes for the stream to systemd's journal.
fn journal_pipe(home: &mut Home) -> (BufReader<PipeReader>, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(OwnedFd::from(writer.try_clone().unwrap()));
    let file = file.metadata().unwrap();
    home.set("JOURNAL_STREAM", &format!("{}:{}", file.dev(), file.ino()));
    (BufReader::new(reader), writer)
}

#[test]
fn journal_gets_priorities() {
    for (format, line_start) in [("text", "20"), ("json", "{")] {
        let mut home = Home::new();
        home.set("LOG_FILE", "-");
        home.set("LOG_FORMAT", format);
        home.set("LOG_LEVEL", "debug");
        home.set("LOG_LEVLE", "a warning");
        let (reader, writer) = journal_pipe(&mut home);
        let mut child = spawn(home.fullon(["run"]).stdout(writer));
        let mut lines = reader.lines().map(Result::unwrap);
        let mut line_with = |text: &str| lines.find(|line| line.contains(text)).unwrap();
        let start = |priority: u8| format!("<{priority}>{line_start}");
        let warning = line_with("LOG_LEVLE");
        assert!(warning.starts_with(&start(4)), "{warning}");
        let ready = line_with("ready");
        assert!(ready.starts_with(&start(6)), "{ready}");
        request(&home.public_address(), "GET", "/health/live", &[], "");
        let health = line_with("/health/live");
        assert!(health.starts_with(&start(7)), "{health}");
        send_signal(child.0.id(), Signal::SIGTERM);
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
    }
    // Each line of an error.
    let mut home = Home::new();
    home.set("PORT", "none");
    let (reader, writer) = journal_pipe(&mut home);
    let mut child = spawn(home.fullon(["run"]).stderr(writer));
    let lines: Vec<_> = reader.lines().map(Result::unwrap).collect();
    assert!(
        lines.len() > 1 && lines.iter().all(|line| line.starts_with("<3>")),
        "{lines:#?}"
    );
    assert_eq!(child.0.wait().unwrap().code(), Some(2));
}

#[test]
fn sighup_reopens_rotated_log_without_loss() {
    let home = Home::new();
    let mut child = run_foreground(&home);
    let old = home.path().join("fullon.log.1");
    std::fs::rename(home.log_file(), &old).unwrap();
    home.run(["status"]).succeeds();
    send_signal(child.0.id(), Signal::SIGHUP);
    eventually("the new log file exists", || home.log_file().exists());
    home.run(["stop"]).succeeds();
    child.0.wait().unwrap();
    let (old, new) = (std::fs::read_to_string(old).unwrap(), home.log());
    assert!(
        old.contains(" ready version=") && old.contains("/admin/status"),
        "{old}"
    );
    assert!(new.ends_with("stopped\n"), "{new}");
    let lines = old + new.as_str();
    for word in ["reloaded by=\"SIGHUP\"", "/admin/stop", "stopping by="] {
        assert_eq!(lines.matches(word).count(), 1, "{word} in {lines}");
    }
}

#[test]
fn hard_restart_is_refused() {
    let home = Home::new();
    let mut child = run_foreground(&home);
    home.run(["restart", "--hard"])
        .exits(1)
        .stderr_contains(&["started by `fullon run`", "systemctl restart"]);
    assert!(child.is_alive());
    home.run(["status"]).succeeds();
}

#[test]
fn second_stop_joins_the_first() {
    let home = Home::new();
    let mut child = run_foreground(&home);
    let mut request = home.unfinished_request();
    let stops: Vec<_> = (0..2)
        .map(|_| {
            let stop = home
                .fullon(["stop"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            eventually("the daemon drains", || home.log().contains(" stopping by="));
            stop.unwrap()
        })
        .collect();
    // By signal, or over REST if it arrived before the listener closed.
    eventually("the second stop is received", || {
        let log = home.log();
        log.contains("already stopping") || log.matches("action=\"stop\" outcome").count() == 2
    });
    // An unknown field gets an error response, so the request was not cut off.
    request.send_bytes(b"\"x\":true}  "[..9].as_ref());
    assert_eq!(request.read_response("POST").status, 400);
    for mut stop in stops {
        assert_eq!(stop.wait().unwrap().code(), Some(0));
    }
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn sighup_reopens_log_even_when_nothing_is_logged() {
    let mut home = Home::new();
    home.set("LOG_LEVEL", "warn,audit=warn");
    let child = run_foreground(&home);
    let mut follower = spawn(
        home.fullon(["logs"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    std::fs::rename(home.log_file(), home.path().join("fullon.log.1")).unwrap();
    send_signal(child.0.id(), Signal::SIGHUP);
    eventually("the new log file exists", || home.log_file().exists());
    // Nothing is logged at this level, so the new file stays empty.
    home.run(["status"]).succeeds();
    assert_eq!(home.log(), "");
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
    assert_eq!(follower.0.wait().unwrap().code(), Some(0));
}
