//! Clients that public tools generate from the checked-in documents operate a running daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use fullon_master_api::api::{RestartRequest, StopRequest};
use fullon_master_api::auth::{TokenSigner, read_key_file};
use fullon_master_api::client::{AdminClient, ClientError, LogEvent, LogQuery};
use fullon_master_api::config::Secret;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{
    DEADLINE, HEAVY, Home, Outcome, eventually, free_port, prerequisite_available, request,
    tools_directory,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn source(path: &str) -> String {
    format!("{ROOT}/clients/{path}")
}

/// Results of builds that the next run can use.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

/// The client of this crate.
fn own_client(home: &Home) -> AdminClient {
    let key = read_key_file(&home.path().join(".fullon_master_api.key")).unwrap();
    AdminClient::new(
        &format!("http://{}", home.admin_address()),
        TokenSigner::with_configured_key(&key),
        "me",
    )
    .unwrap()
}

fn block_on<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(call)
}

/// Runs a generated client with address and token, and returns its output.
fn run_client(home: &Home, command: &mut Command) -> String {
    let address = format!("http://{}", home.admin_address());
    let token = home.token("admin:read admin:logs admin:control");
    command
        .env("FULLON_ADMIN", address)
        .env("FULLON_TOKEN", token);
    Outcome::run(command).succeeds().stdout
}

type Results = Map<String, Value>;

/// Runs a program that calls every operation from status to stop.
#[track_caller]
fn assert_program_operates(program: impl Fn(&Home) -> Command) {
    let results = assert_operates(|home| {
        let output = run_client(home, &mut program(home));
        let lines = output
            .lines()
            .map(|line| serde_json::from_str::<Results>(line).unwrap());
        lines.flatten().collect()
    });
    let level = json!({ "before": "info", "now": "debug", "configured": "info" });
    assert_eq!(results["log_level"], level);
}

/// The same with the client of this crate.
async fn operate(home: &Home) -> Result<Results, ClientError> {
    let base = format!("http://{}", home.admin_address());
    let other_key = TokenSigner::with_configured_key(&Secret::new("x".repeat(32)));
    let unauthorized = AdminClient::new(&base, other_key, "me")?;
    let Err(ClientError::TokenRefused { problem, .. }) = unauthorized.status().await else {
        panic!("the request was not refused");
    };
    let client = own_client(home);
    let query = |lines, since: Option<&str>| LogQuery {
        lines,
        since: since.map(str::to_owned),
        ..LogQuery::default()
    };
    let mut results = Results::new();
    let mut add = |step: &str, value| results.insert(step.into(), value);
    add("refused", json!(problem));
    add("status", json!(client.status().await?));
    let Err(ClientError::Problem(problem)) = client.logs(&query(2, Some("soon"))).await else {
        panic!("the request was not refused");
    };
    add("bad_parameter", json!(problem));
    add("logs", json!(client.logs(&query(2, None)).await?.entries));
    let mut stream = client.stream_logs(&query(2, None)).await?;
    let mut events = Vec::new();
    while events.len() < 2 {
        let Some(LogEvent::Entry(entry)) = stream.next().await? else {
            panic!("not a log entry");
        };
        events.push(json!({ "event": "log", "entry": entry }));
    }
    drop(stream);
    add("events", json!(events));
    add("reload", json!(client.reload_settings().await?));
    add("audit", json!(client.audit(1, None).await?.records));
    add(
        "restart",
        json!(client.restart_daemon(&RestartRequest::default()).await?),
    );
    let request = StopRequest {
        timeout_seconds: Some(5.0),
    };
    add("stop", json!(client.stop_daemon(&request).await?));
    Ok(results)
}

/// The status without fields that always change.
fn stable_fields(status: &Value) -> Value {
    let mut fields = status.as_object().unwrap().clone();
    fields.retain(|name, _| !["uptime_seconds", "process", "http"].contains(&name.as_str()));
    with_microseconds(&fields.into())
}

/// The value with its timestamps as microseconds since 1970, and its numbers without a fraction of
/// zero: languages print them in different forms, and not all keep nanoseconds.
fn with_microseconds(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(timestamp) => timestamp.as_microsecond().into(),
            Err(_) => value.clone(),
        },
        Value::Array(items) => items.iter().map(with_microseconds).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| (name.clone(), with_microseconds(value)))
                .collect()
        }
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 => {
                format!("{whole:.0}").parse::<i64>().unwrap().into()
            }
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Operates a daemon from status to stop, and compares all results with its own reports.
#[track_caller]
fn assert_operates(operate: impl FnOnce(&Home) -> Results) -> Results {
    let home = Home::new();
    home.write_env("LOG_KEEP=5\n");
    home.run(["start"]).succeeds();
    home.write_env("LOG_KEEP=6\n");
    let daemon = home.daemon().unwrap();
    let state = home.state();
    let before = home.call_admin("GET", "/admin/status").json();

    let results = operate(&home);

    assert_eq!(results["refused"]["status"], 401, "{results:#?}");
    assert_eq!(results["refused"]["title"], "Unauthorized");
    assert!(
        results["refused"]["detail"]
            .as_str()
            .unwrap()
            .contains("`fullon token`")
    );
    assert_eq!(results["bad_parameter"]["status"], 400);
    assert!(
        results["bad_parameter"]["detail"]
            .as_str()
            .unwrap()
            .starts_with("parameter `")
    );
    assert_eq!(stable_fields(&results["status"]), stable_fields(&before));
    let log = home.log();
    let is_logged = |entry: &Value| {
        assert_eq!(entry.as_object().unwrap().len(), 6, "{entry}");
        let line = entry["line"].as_str().unwrap();
        log.lines().any(|there| there == line)
            && line.contains(entry["message"].as_str().unwrap())
            && with_microseconds(&line.split(' ').next().into())
                == with_microseconds(&entry["timestamp"])
    };
    let lines = results["logs"].as_array().unwrap();
    assert!(
        lines.len() == 2 && lines.iter().all(is_logged),
        "{lines:#?}"
    );
    let events = results["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|event| event["event"] == "log" && is_logged(&event["entry"])),
        "{events:#?}"
    );
    let change = json!({ "name": "LOG_KEEP", "from": "5", "to": "6" });
    assert_eq!(
        results["reload"],
        json!({ "changed": [change], "needs_restart": [] })
    );
    let trail = fs::read_to_string(home.path().join("fullon.log.audit")).unwrap();
    let records = trail
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let reload: Vec<Value> = records
        .filter(|record: &Value| record["event"] == "reload")
        .collect();
    assert_eq!(
        with_microseconds(&results["audit"]),
        with_microseconds(&reload.into())
    );
    let restart = &results["restart"];
    assert_ne!(restart["pid"], before["pid"]);
    let expected = json!({
        "old_pid": before["pid"], "pid": restart["pid"], "generation": 2,
        "server": state.server, "admin": state.admin,
    });
    assert_eq!(*restart, expected);
    let stop = &results["stop"];
    assert_eq!(
        (&stop["pid"], &stop["phase"]),
        (&restart["pid"], &json!("draining"))
    );
    let seconds_left = stop["seconds_left"].as_f64().unwrap();
    assert!(seconds_left > 4.0 && seconds_left <= 5.0, "{seconds_left}");
    assert!(daemon.wait_for_exit(DEADLINE));
    eventually("the new process has stopped", || home.daemon().is_none());
    results
}

#[test]
fn own_client_operates_daemon() {
    assert_operates(|home| block_on(operate(home)).unwrap());
}

/// Runs the example of docs/api-clients.md.
#[track_caller]
fn assert_example_works(example: &str, language: &str, program: impl Fn(&Home) -> Command) {
    let page = fs::read_to_string(format!("{ROOT}/docs/api-clients.md")).unwrap();
    let example = fs::read_to_string(source(example)).unwrap();
    assert!(
        page.contains(&format!("```{language}\n{example}```\n")),
        "docs/api-clients.md has another {language} example"
    );
    let home = Home::started();
    let pid = home.state().pid;
    let own_client = own_client(&home);
    let output = run_client(&home, &mut program(&home));
    let lines: Vec<_> = output.lines().collect();
    let new_pid = home.state().pid;
    assert!(lines.len() > 2, "{output}");
    assert_eq!(lines.first(), Some(&pid.to_string().as_str()), "{output}");
    assert_eq!(
        lines.last(),
        Some(&new_pid.to_string().as_str()),
        "{output}"
    );
    assert_ne!(pid, new_pid);
    let query = LogQuery {
        lines: 100,
        ..LogQuery::default()
    };
    let page = block_on(own_client.logs(&query)).unwrap();
    for line in &lines[1..lines.len() - 1] {
        assert!(
            page.entries.iter().any(|entry| entry.line == **line),
            "{line}"
        );
    }
}

/// A copy of a folder in `clients`, with a client that was generated in it.
struct GeneratedClient(TempDir);

impl GeneratedClient {
    /// Generates and compiles a client with a shell command. `None` if a program or a file that it
    /// needs is missing.
    fn build(test: &str, folder: &str, needs: &[&str], command: &str) -> Option<Self> {
        let client = Self::copy_of(folder);
        for name in needs {
            let search = format!("[ -e {name} ] || command -v {name}");
            let search = Outcome::run(&mut client.shell(Command::new("sh"), &search));
            let needed = format!("{name} (scripts/install-test-tools.sh)");
            let test = format!("generated_clients::{test}");
            if !prerequisite_available(&test, &needed, search.code == 0) {
                return None;
            }
        }
        let _permit = HEAVY.enter();
        let mut build = client.shell(Command::new("sh"), command);
        Outcome::run(build.env("GOCACHE", target().join("go"))).succeeds();
        Some(client)
    }

    fn copy_of(folder: &str) -> Self {
        let client = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(client.path()).unwrap();
        for entry in fs::read_dir(source(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), client.path().join(entry.file_name())).unwrap();
            }
        }
        let packages = tools_directory().join("typescript/node_modules");
        symlink(packages, client.path().join("node_modules")).unwrap();
        symlink(format!("{ROOT}/openapi"), client.0.path().join("openapi")).unwrap();
        client
    }

    /// As deep as in the repository, because the commands read `../../openapi`.
    fn path(&self) -> PathBuf {
        self.0.path().join("clients/copy")
    }

    /// Lets a shell run a command in the folder, with the test tools first in PATH.
    fn shell(&self, mut shell: Command, command: &str) -> Command {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let tools = tools_directory().join("bin");
        shell
            .args(["-c", command])
            .current_dir(self.path())
            .env("PATH", format!("{}:{inherited}", tools.display()));
        shell
    }

    fn program(&self, command: String) -> impl Fn(&Home) -> Command {
        move |home| self.shell(home.command("sh"), &command)
    }
}

const PYTHON: &str = "openapi-generator-cli generate -g python -o generated";

#[test]
fn python_client_operates_daemon() {
    let Some(client) = GeneratedClient::build(
        "python_client_operates_daemon",
        "python",
        &["openapi-generator-cli"],
        &format!("{PYTHON} -i ../../openapi/admin.json --package-name fullon_admin"),
    ) else {
        return;
    };
    let program = |file| client.program(format!("PYTHONPATH=generated exec python {file}"));
    assert_program_operates(program("operate.py"));
    assert_example_works("python/example.py", "python", program("example.py"));
}

#[test]
fn python_client_reads_health() {
    let Some(client) = GeneratedClient::build(
        "python_client_reads_health",
        "python",
        &["openapi-generator-cli"],
        &format!("{PYTHON} -i ../../openapi/public.json --package-name fullon_public"),
    ) else {
        return;
    };
    let program = client.program("PYTHONPATH=generated exec python health.py".to_owned());
    let mut home = Home::started();
    for status in [200, 503] {
        if status == 503 {
            home.run(["stop"]).succeeds();
            home.set("REDIS_HOST", "localhost");
            home.set("REDIS_PORT", &free_port().to_string());
            home.run(["start"]).succeeds();
        }
        let host = home.public_address();
        let mut answer = None;
        eventually("the state is known", || {
            let results = request(&host, "GET", "/health/ready", &[], "");
            let is_known = results.status == status && !results.body.contains("unknown");
            answer = is_known.then(|| results.json());
            is_known
        });
        let mut program = program(&home);
        let results = Outcome::run(program.env("FULLON_PUBLIC", format!("http://{host}")));
        assert_eq!(
            with_microseconds(&results.succeeds().json()),
            with_microseconds(&answer.unwrap())
        );
    }
}

#[test]
fn typescript_client_operates_daemon() {
    let Some(client) = GeneratedClient::build(
        "typescript_client_operates_daemon",
        "typescript",
        &["node", "node_modules/.bin/openapi-ts"],
        "node_modules/.bin/openapi-ts && node_modules/.bin/tsc",
    ) else {
        return;
    };
    let program = |file| client.program(format!("exec node {file}"));
    assert_program_operates(program("operate.ts"));
    assert_example_works("typescript/example.ts", "typescript", program("example.ts"));
}

/// Operates a daemon with a client whose folder has a script that generates and compiles it.
#[track_caller]
fn assert_built_client_operates(test: &str, folder: &str, script: &str, tool: &str, program: &str) {
    let needs = ["openapi-generator-cli", tool];
    if let Some(client) = GeneratedClient::build(test, folder, &needs, &format!("sh {script}")) {
        assert_program_operates(client.program(format!("exec {program}")));
    }
}

#[test]
fn go_client_operates_daemon() {
    let test = "go_client_operates_daemon";
    assert_built_client_operates(test, "go", "build.sh", "go", "./operate");
}

#[test]
fn java_client_operates_daemon() {
    let test = "java_client_operates_daemon";
    let program = "java -cp generated/classes:generated/jackson.jar Operate";
    assert_built_client_operates(test, "java", "build.sh", "javac", program);
}

#[test]
fn axios_client_operates_daemon() {
    let test = "axios_client_operates_daemon";
    let program = "node generated-axios/compiled/operate-axios.js";
    let packages = "node_modules/axios";
    assert_built_client_operates(test, "typescript", "build-axios.sh", packages, program);
}

#[test]
fn openapi_python_client_operates_daemon() {
    let test = "openapi_python_client_operates_daemon";
    let program = "env PYTHONPATH=generated python operate.py";
    let tool = "openapi-python-client";
    assert_built_client_operates(test, "openapi-python-client", "build.sh", tool, program);
}

#[test]
fn rust_client_operates_daemon() {
    let _permit = HEAVY.enter();
    let target = target();
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--locked", "--bins", "--examples"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "false");
    Outcome::run(build.current_dir(source("rust"))).succeeds();
    let program = |name: &str| {
        let path = target.join("debug").join(name);
        move |home: &Home| home.command(&path)
    };
    assert_program_operates(program("fullon_operate"));
    assert_example_works(
        "rust/examples/example.rs",
        "rust",
        program("examples/example"),
    );
}
