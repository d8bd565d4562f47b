//! Real applications behind the public port: each of them starts, answers, is edited, restarted,
//! broken and stopped.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::support::{
    Application, Connection, DocumentedApplication, HEAVY, Home, Load, LoadProfile, Outcome,
    Response, WebSocket, documented_settings, eventually, request, scale,
};

/// Each application answers its release.
const INDEX: &[(&str, &str)] = &[("/", "release ")];

/// Clients that leave time to applications that handle one request at a time.
const FEW: LoadProfile = LoadProfile {
    per_request: 1,
    persistent: 1,
    idle: 1,
};

fn get(home: &Home, path: &str) -> Response {
    request(&home.public_address(), "GET", path, &[], "")
}

#[track_caller]
fn assert_release(home: &Home, release: &str) {
    let answer = get(home, "/");
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert!(answer.body.starts_with(release), "{answer:#?}");
}

fn workers(home: &Home) -> Vec<Value> {
    let status = home.call_admin("GET", "/admin/status").json();
    status["workers"].as_array().unwrap().clone()
}

/// PID of the only worker.
#[track_caller]
fn worker(home: &Home) -> u64 {
    let workers = workers(home);
    assert_eq!(workers.len(), 1, "{workers:#?}");
    assert_eq!(workers[0]["state"], "ready", "{workers:#?}");
    workers[0]["pid"].as_u64().unwrap()
}

/// Checks the paths that all web frameworks can answer.
fn check_paths(home: &Home) {
    let address = home.public_address();
    let echo = request(&address, "POST", "/echo", &[], r#"{"order":4711}"#);
    assert_eq!(
        (echo.status, echo.body.as_str()),
        (200, r#"{"order":4711}"#),
        "{echo:#?}"
    );
    let slow = get(home, "/slow?ms=20");
    assert_eq!((slow.status, slow.body.as_str()), (200, "after 20 ms"));
    assert_eq!(slow.header("content-security-policy"), None);
    let sent = [("X-Forwarded-For", "203.0.113.7")];
    let answer = request(&address, "GET", "/headers", &sent, "");
    let headers = answer.json();
    assert_eq!(headers["host"], address, "{headers:#}");
    let id = headers["x-request-id"].as_str();
    assert!(
        id.is_some() && id == answer.header("x-request-id"),
        "{answer:#?}"
    );
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1", "{headers:#}");
    assert_eq!(headers["x-forwarded-proto"], "http", "{headers:#}");
    // Of FastAPI: the server believes the headers of the daemon.
    if let Some(client) = headers.get("seen-client") {
        assert_eq!(client, "127.0.0.1", "{headers:#}");
    }
    let missing = get(home, "/nothing");
    assert_eq!(missing.status, 404, "{missing:#?}");
    // The daemon answers these itself.
    let health = get(home, "/health").json();
    assert_eq!(health["service"], "fullon_master_api");
}

/// A program that does not receive SIGTERM cannot end its work.
#[track_caller]
fn assert_signals_are_unblocked(pid: u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find(|line| line.starts_with("SigBlk:"));
    assert_eq!(mask, Some("SigBlk:\t0000000000000000"));
}

/// The message of a restart that failed.
#[track_caller]
fn assert_nothing_changed(outcome: Outcome, texts: &[&str]) {
    outcome
        .exits(1)
        .stderr_contains(texts)
        .stderr_contains(&["The daemon continues as before."]);
}

/// The whole life of an application.
fn run(application: Application) {
    for _ in 0..scale::application_rounds() {
        let Some(home) = Home::with_application(application) else {
            return;
        };
        let command = application.command();
        home.run_with_application("start", &command).succeeds();
        assert_release(&home, "release 1");
        if application.has_all_paths() {
            check_paths(&home);
        }
        let status = home.run(["status"]).succeeds();
        let first = worker(&home);
        let line = format!("Worker:    1 is ready (PID {first}, ");
        status.stdout_contains(&[&format!("App:       {}\n", command.join(" ")), &line]);
        assert_signals_are_unblocked(first);

        let load = Load::start_requesting(INDEX, &home.public_address(), &FEW);
        load.wait_for_more(10);
        let slow = application.has_all_paths().then(|| {
            let mut slow = Connection::open(&home.public_address());
            slow.send("GET", "/slow?ms=1500", &[], "");
            slow
        });
        application.edit(&home, "release 2");
        home.restart();
        assert_release(&home, "release 2");
        let second = worker(&home);
        assert_ne!(second, first);
        if let Some(mut slow) = slow {
            assert_eq!(slow.read_response("GET").body, "after 1500 ms");
        }

        break_and_restart(&home, application);
        assert_release(&home, "release 2");
        assert_eq!(worker(&home), second);
        load.wait_for_more(10);
        load.finish().assert_flawless();

        home.run(["stop"]).succeeds();
        home.wait_until_empty();
        assert_no_socket_is_left(&home);
    }
}

/// A restart of the broken application fails with its message.
fn break_and_restart(home: &Home, application: Application) {
    if application == Application::Files {
        let command = ["python3", "-m", "http.server", "{port}", "--no-such-option"];
        let outcome = home.run_with_application("restart", &command);
        assert_nothing_changed(outcome, &["no-such-option", "exited with code 2"]);
    } else {
        let message = application.break_in(home);
        let outcome = home.run(["restart"]);
        assert_nothing_changed(outcome, &[message, "exited with code"]);
    }
}

#[track_caller]
fn assert_no_socket_is_left(home: &Home) {
    let mut directory = home.pid_file().into_os_string();
    directory.push(".d");
    let entries = fs::read_dir(directory).into_iter().flatten();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn fastapi_on_uvicorn() {
    run(Application::FastApiOnUvicorn);
}

#[test]
fn fastapi_on_gunicorn() {
    run(Application::FastApiOnGunicorn);
}

#[test]
fn flask_on_gunicorn() {
    run(Application::Flask);
}

#[test]
fn node_http() {
    run(Application::Node);
}

#[test]
fn express_with_port_from_the_environment() {
    run(Application::Express);
}

#[test]
fn rust_program_on_a_socket_path() {
    run(Application::Rust);
}

#[test]
fn folder_of_files_on_a_port() {
    run(Application::Files);
}

#[test]
fn web_socket_server() {
    run(Application::WebSocket);
}

#[test]
fn applications_of_the_page_run() {
    let applications = [
        Application::FastApiOnGunicorn,
        Application::Flask,
        Application::Express,
    ];
    if !applications
        .iter()
        .all(|application| application.is_installed())
    {
        return;
    }
    let mut started = 0;
    for application in DocumentedApplication::all() {
        // The documentation tests compile it.
        if application.file == "src/main.rs" {
            continue;
        }
        let mut home = Home::new();
        home.use_application_programs();
        fs::write(home.path().join(application.file), application.source).unwrap();
        for command in application.commands {
            home.run_with_application("start", &command).succeeds();
            let answer = get(&home, "/");
            assert!(answer.body.contains("Hello!"), "{command:?}: {answer:#?}");
            home.run(["stop"]).succeeds();
            home.wait_until_empty();
            started += 1;
        }
    }
    assert_eq!(started, 5);
}

#[test]
fn settings_of_the_page_start_the_application() {
    let Some(home) = Home::with_application(Application::FastApiOnUvicorn) else {
        return;
    };
    home.write_env(documented_settings());
    home.run(["start"]).succeeds();
    assert_release(&home, "release 1");
    assert_eq!(workers(&home).len(), 4);
}

/// Messages pass in both directions. A restart ends the connections of the old worker, and new ones
/// reach the new worker.
#[test]
fn web_sockets_reach_the_application() {
    for (application, path) in [
        (Application::FastApiOnUvicorn, "/socket"),
        (Application::WebSocket, "/"),
    ] {
        let Some(home) = Home::with_application(application) else {
            return;
        };
        let command = application.command();
        home.run_with_application("start", &command).succeeds();
        let mut socket = WebSocket::open(&home.public_address(), path);
        let long = "orders ".repeat(5_000);
        for text in ["first", "", &long, "last"] {
            socket.send(text);
            assert_eq!(socket.receive(), text, "{application:?}");
        }
        home.restart();
        let mut new = WebSocket::open(&home.public_address(), path);
        new.send("after the restart");
        assert_eq!(new.receive(), "after the restart");
        socket.wait_for_end();
        home.run(["stop"]).succeeds();
        new.wait_for_end();
        home.wait_until_empty();
    }
}

/// Restarts an application under load. Returns a line about it, or `None` if it is not installed.
fn restart_under_load(application: Application) -> Option<String> {
    let _permit = HEAVY.enter();
    let home = Home::with_application(application)?;
    let command = application.command();
    home.run_with_application("start", &command).succeeds();
    let load = Load::start_requesting(INDEX, &home.public_address(), &LoadProfile::default());
    load.wait_for_more(200);
    let mut times = Vec::new();
    for _ in 0..scale::restarts() {
        let begun = Instant::now();
        home.restart();
        times.push(begun.elapsed());
        load.wait_for_more(200);
    }
    let report = load.finish();
    let summary = format!(
        "{application:?}: {} restarts, the longest {:?}; {} requests, {} failed, {} cut; longest time without an answer {:?}",
        times.len(),
        times.iter().max().unwrap(),
        report.answered,
        report.failures.len(),
        report.dropped_connections,
        report.longest_gap,
    );
    report.assert_flawless();
    home.run(["stop"]).succeeds();
    home.wait_until_empty();
    Some(summary)
}

#[test]
fn restarts_of_fastapi_under_load_lose_no_request() {
    println!("{:?}", restart_under_load(Application::FastApiOnUvicorn));
}

/// The Node program exits at once when it receives SIGTERM.
#[test]
fn restarts_of_node_under_load_lose_no_request() {
    println!("{:?}", restart_under_load(Application::Node));
}

/// A request goes to the worker with the fewest requests in flight.
#[test]
fn four_workers_share_the_requests() {
    let Some(mut home) = Home::with_application(Application::Node) else {
        return;
    };
    home.set("APP_WORKERS", "4");
    let command = Application::Node.command();
    home.run_with_application("start", &command).succeeds();
    let mut pids: Vec<u64> = (workers(&home).iter())
        .map(|worker| worker["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids.len(), 4);
    let mut clients = Vec::new();
    for number in 1..=4 {
        let mut client = Connection::open(&home.public_address());
        client.send("GET", "/slow?ms=3000", &[], "");
        clients.push(client);
        eventually("the request is in flight", || {
            let workers = workers(&home);
            let busy = workers.iter().filter(|worker| worker["in_flight"] == 1);
            busy.count() == number
        });
    }
    for mut client in clients {
        assert_eq!(client.read_response("GET").body, "after 3000 ms");
    }
    home.restart();
    pids.retain(|pid| workers(&home).iter().any(|worker| worker["pid"] == *pid));
    assert!(pids.is_empty(), "{pids:?} are old");
    home.run(["stop"]).succeeds();
    home.wait_until_empty();
}
