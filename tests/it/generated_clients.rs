//! Clients that public tools generate from the checked-in documents operate a running daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fullon_master_api::api::{RestartRequest, StopRequest};
use fullon_master_api::auth::{TokenSigner, read_key_file};
use fullon_master_api::client::{AdminClient, ClientError, LogEvent, LogQuery};
use fullon_master_api::config::Secret;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{
    HEAVY, Home, Outcome, PATIENCE, eventually, free_port, may_run, request, tools,
};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

fn document() -> String {
    format!("{SOURCES}/openapi/admin.json")
}

fn source(path: &str) -> String {
    format!("{SOURCES}/clients/{path}")
}

/// The client of this crate.
fn own_client(home: &Home) -> AdminClient {
    let key = read_key_file(&home.path().join(".fullon_master_api.key")).unwrap();
    AdminClient::new(
        &format!("http://{}", home.admin()),
        TokenSigner::with_configured_key(&key),
        "me",
    )
    .unwrap()
}

fn wait<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(call)
}

/// Runs a generated client with address and token, and returns its output.
fn run(home: &Home, command: &mut Command) -> String {
    let address = format!("http://{}", home.admin());
    let token = home.token("admin:read admin:logs admin:control");
    command
        .env("FULLON_ADMIN", address)
        .env("FULLON_TOKEN", token);
    Outcome::of(command).succeeds().stdout
}

type Said = Map<String, Value>;

/// Runs a program that calls every operation from status to stop.
#[track_caller]
fn operates(program: impl Fn(&Home) -> Command) {
    let said = operated(|home| {
        let printed = run(home, &mut program(home));
        let lines = printed
            .lines()
            .map(|line| serde_json::from_str::<Said>(line).unwrap());
        lines.flatten().collect()
    });
    let level = json!({ "before": "info", "now": "debug", "configured": "info" });
    assert_eq!(said["log_level"], level);
}

/// The same with the client of this crate.
async fn operate(home: &Home) -> Result<Said, ClientError> {
    let base = format!("http://{}", home.admin());
    let another = TokenSigner::with_configured_key(&Secret::new("x".repeat(32)));
    let stranger = AdminClient::new(&base, another, "me")?;
    let Err(ClientError::TokenRefused { problem, .. }) = stranger.status().await else {
        panic!("the request was not refused");
    };
    let client = own_client(home);
    let query = |lines, since: Option<&str>| LogQuery {
        lines,
        since: since.map(str::to_owned),
        ..LogQuery::default()
    };
    let mut said = Said::new();
    let mut say = |step: &str, value| said.insert(step.into(), value);
    say("refused", json!(problem));
    say("status", json!(client.status().await?));
    let Err(ClientError::Problem(problem)) = client.logs(&query(2, Some("soon"))).await else {
        panic!("the request was not refused");
    };
    say("bad_parameter", json!(problem));
    say("logs", json!(client.logs(&query(2, None)).await?.entries));
    let mut stream = client.follow_logs(&query(2, None)).await?;
    let mut events = Vec::new();
    while events.len() < 2 {
        let Some(LogEvent::Entry(entry)) = stream.next().await? else {
            panic!("not a log entry");
        };
        events.push(json!({ "event": "log", "entry": entry }));
    }
    drop(stream);
    say("events", json!(events));
    say("reload", json!(client.reload().await?));
    say(
        "restart",
        json!(client.restart(&RestartRequest::default()).await?),
    );
    let order = StopRequest {
        timeout_seconds: Some(5.0),
    };
    say("stop", json!(client.stop(&order).await?));
    Ok(said)
}

/// The status without fields that always change.
fn lasting(status: &Value) -> Said {
    let mut fields = status.as_object().unwrap().clone();
    fields.retain(|name, _| !["uptime_seconds", "process", "http"].contains(&name.as_str()));
    fields
}

/// Operates a daemon from status to stop, and compares all results with its own reports.
#[track_caller]
fn operated(operate: impl FnOnce(&Home) -> Said) -> Said {
    let home = Home::new();
    home.write_env("LOG_KEEP=5\n");
    home.run(["start"]).succeeds();
    home.write_env("LOG_KEEP=6\n");
    let daemon = home.daemon().unwrap();
    let state = home.state();
    let before = home.ask("GET", "/admin/status").json();

    let said = operate(&home);

    assert_eq!(said["refused"]["status"], 401, "{said:#?}");
    assert_eq!(said["refused"]["title"], "Unauthorized");
    assert!(
        said["refused"]["detail"]
            .as_str()
            .unwrap()
            .contains("`fullon token`")
    );
    assert_eq!(said["bad_parameter"]["status"], 400);
    assert!(
        said["bad_parameter"]["detail"]
            .as_str()
            .unwrap()
            .starts_with("parameter `")
    );
    assert_eq!(lasting(&said["status"]), lasting(&before));
    let log = home.log();
    let is_logged = |entry: &Value| {
        assert_eq!(entry.as_object().unwrap().len(), 6, "{entry}");
        let line = entry["line"].as_str().unwrap();
        log.lines().any(|there| there == line)
            && line.contains(entry["message"].as_str().unwrap())
            && line.starts_with(entry["timestamp"].as_str().unwrap())
    };
    let lines = said["logs"].as_array().unwrap();
    assert!(
        lines.len() == 2 && lines.iter().all(is_logged),
        "{lines:#?}"
    );
    let events = said["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|event| event["event"] == "log" && is_logged(&event["entry"])),
        "{events:#?}"
    );
    let change = json!({ "name": "LOG_KEEP", "from": "5", "to": "6" });
    assert_eq!(
        said["reload"],
        json!({ "changed": [change], "needs_restart": [] })
    );
    let restart = &said["restart"];
    assert_ne!(restart["pid"], before["pid"]);
    let expected = json!({
        "old_pid": before["pid"], "pid": restart["pid"], "generation": 2,
        "server": state.server, "admin": state.admin,
    });
    assert_eq!(*restart, expected);
    let stop = &said["stop"];
    assert_eq!(
        (&stop["pid"], &stop["phase"]),
        (&restart["pid"], &json!("draining"))
    );
    let left = stop["seconds_left"].as_f64().unwrap();
    assert!(left > 4.0 && left <= 5.0, "{left}");
    assert!(daemon.wait_for_exit(PATIENCE));
    eventually("the new process has stopped", || home.daemon().is_none());
    said
}

#[test]
fn own_client_operates_daemon() {
    operated(|home| wait(operate(home)).unwrap());
}

/// Runs the example of docs/automation.md.
#[track_caller]
fn does_what_is_documented(example: &str, language: &str, program: impl Fn(&Home) -> Command) {
    let page = fs::read_to_string(format!("{SOURCES}/docs/automation.md")).unwrap();
    let example = fs::read_to_string(source(example)).unwrap();
    assert!(
        page.contains(&format!("```{language}\n{example}```\n")),
        "docs/automation.md has another {language} example"
    );
    let home = Home::started();
    let pid = home.state().pid;
    let own = own_client(&home);
    let printed = run(&home, &mut program(&home));
    let lines: Vec<_> = printed.lines().collect();
    let successor = home.state().pid;
    assert!(lines.len() > 2, "{printed}");
    assert_eq!(lines.first(), Some(&pid.to_string().as_str()), "{printed}");
    assert_eq!(
        lines.last(),
        Some(&successor.to_string().as_str()),
        "{printed}"
    );
    assert_ne!(pid, successor);
    let query = LogQuery {
        lines: 100,
        ..LogQuery::default()
    };
    let page = wait(own.logs(&query)).unwrap();
    for line in &lines[1..lines.len() - 1] {
        assert!(
            page.entries.iter().any(|entry| entry.line == **line),
            "{line}"
        );
    }
}

/// The Python package that openapi-generator makes of a document. `None` if the tool is missing.
fn python_package(test: &str, document: &str, name: &str) -> Option<TempDir> {
    let generator = tools().join("bin/openapi-generator-cli");
    let needed = "openapi-generator (scripts/install-test-tools.sh)";
    if !may_run(test, needed, generator.is_file()) {
        return None;
    }
    let client = tempfile::tempdir().unwrap();
    let mut generate = Command::new(generator);
    generate
        .args(["generate", "-g", "python", "-i", document, "-o"])
        .arg(client.path())
        .args(["--package-name", name]);
    // The generator looks for `java` in PATH.
    Outcome::of(generate.env("PATH", path())).succeeds();
    Some(client)
}

fn python_program(home: &Home, package: &TempDir, file: &str) -> Command {
    let mut python = home.command(tools().join("bin/python"));
    python
        .arg(source(file))
        .env("PYTHONPATH", package.path())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

#[test]
fn python_client_operates_daemon() {
    let document = document();
    let Some(package) = python_package(
        "generated_clients::python_client_operates_daemon",
        &document,
        "fullon_admin",
    ) else {
        return;
    };
    let program = |file| {
        let package = &package;
        move |home: &Home| python_program(home, package, file)
    };
    operates(program("python/operate.py"));
    does_what_is_documented("python/example.py", "python", program("python/example.py"));
}

#[test]
fn python_client_reads_health() {
    let document = format!("{SOURCES}/openapi/public.json");
    let test = "generated_clients::python_client_reads_health";
    let Some(package) = python_package(test, &document, "fullon_public") else {
        return;
    };
    let mut home = Home::started();
    for status in [200, 503] {
        if status == 503 {
            home.run(["stop"]).succeeds();
            home.set("REDIS_HOST", "localhost");
            home.set("REDIS_PORT", &free_port().to_string());
            home.run(["start"]).succeeds();
        }
        let host = home.public();
        let mut answer = None;
        eventually("the state is known", || {
            let said = request(&host, "GET", "/health/ready", &[], "");
            let is_known = said.status == status && !said.body.contains("unknown");
            answer = is_known.then(|| said.json());
            is_known
        });
        let mut program = python_program(&home, &package, "python/health.py");
        let said = Outcome::of(program.env("FULLON_PUBLIC", format!("http://{host}")));
        assert_eq!(said.succeeds().json(), answer.unwrap());
    }
}

/// PATH with the test tools first.
fn path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{}:{inherited}", tools().join("bin").display())
}

#[test]
fn typescript_client_operates_daemon() {
    let packages = tools().join("typescript/node_modules");
    if !may_run(
        "generated_clients::typescript_client_operates_daemon",
        "openapi-ts (scripts/install-test-tools.sh)",
        packages.is_dir(),
    ) {
        return;
    }
    let client = tempfile::tempdir().unwrap();
    for file in [
        "operate.ts",
        "example.ts",
        "openapi-ts.config.ts",
        "package.json",
        "tsconfig.json",
    ] {
        fs::copy(
            source(&format!("typescript/{file}")),
            client.path().join(file),
        )
        .unwrap();
    }
    symlink(packages, client.path().join("node_modules")).unwrap();
    let node = |arguments: &[&str]| {
        let mut node = Command::new(tools().join("bin/node"));
        node.args(arguments)
            .current_dir(client.path())
            .env("DOCUMENT", document());
        Outcome::of(&mut node).succeeds();
    };
    node(&["node_modules/@hey-api/openapi-ts/bin/run.js"]);
    node(&["node_modules/typescript/bin/tsc"]);
    let program = |file: &'static str| {
        let path = client.path().join(file);
        move |home: &Home| {
            let mut node = home.command(tools().join("bin/node"));
            node.arg(&path);
            node
        }
    };
    operates(program("operate.ts"));
    does_what_is_documented("typescript/example.ts", "typescript", program("example.ts"));
}

#[test]
fn rust_client_operates_daemon() {
    let _permit = HEAVY.enter();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--locked", "--bins", "--examples"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "false");
    Outcome::of(build.current_dir(source("rust"))).succeeds();
    let program = |name: &str| {
        let path = target.join("debug").join(name);
        move |home: &Home| home.command(&path)
    };
    operates(program("fullon_operate"));
    does_what_is_documented(
        "rust/examples/example.rs",
        "rust",
        program("examples/example"),
    );
}
