//! Clients that public tools generate from the checked-in documents operate a live daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fullon_master_api::api::Status;
use fullon_master_api::auth::{Signer, read_key_file};
use fullon_master_api::client::{AdminClient, LogQuery};
use serde_json::{Map, Value, json};

use crate::support::{Home, Outcome, PATIENCE, may_run, tools};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

fn document() -> String {
    format!("{SOURCES}/openapi/admin.json")
}

fn source(path: &str) -> String {
    format!("{SOURCES}/clients/{path}")
}

/// Our own client of the same daemon.
fn own_client(home: &Home) -> AdminClient {
    let key = read_key_file(&home.path().join(".fullon_master_api.key")).unwrap();
    AdminClient::new(
        &format!("http://{}", home.admin()),
        Signer::configured(&key),
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

/// Lets a generated client in, and gives what it printed.
fn run(home: &Home, command: &mut Command) -> String {
    let address = format!("http://{}", home.admin());
    let token = home.token("admin:read admin:logs admin:control");
    command
        .env("FULLON_ADMIN", address)
        .env("FULLON_TOKEN", token);
    Outcome::of(command).succeeds().stdout
}

/// Runs the program that goes from status to stop, and compares what it saw with what our own client and the daemon say.
#[track_caller]
fn operates(program: impl Fn(&Home) -> Command) {
    let home = Home::new();
    home.write_env("LOG_KEEP=5\n");
    home.run(["start"]).succeeds();
    home.write_env("LOG_KEEP=6\n");
    let daemon = home.daemon().unwrap();
    let own = own_client(&home);
    let before: Status = wait(own.status()).unwrap();

    let printed = run(&home, &mut program(&home));
    let lines = printed
        .lines()
        .map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap());
    let said: Map<String, Value> = lines.flatten().collect();

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
    let status = json!({
        "pid": before.pid, "phase": before.phase, "generation": 1, "instance": before.instance,
    });
    assert_eq!(said["status"], status);
    let log = home.log();
    let is_logged = |line: &Value| log.contains(line.as_str().unwrap());
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
            .all(|event| event["event"] == "log" && is_logged(&event["line"]))
    );
    let level = json!({ "before": "info", "now": "debug", "configured": "info" });
    assert_eq!(said["log_level"], level);
    assert_eq!(said["reload"], json!(["LOG_KEEP"]));
    assert_eq!(said["restart"]["old_pid"], before.pid);
    assert_eq!(said["restart"]["generation"], 2);
    assert_ne!(said["restart"]["pid"], before.pid);
    assert_eq!(
        said["stop"],
        json!({ "pid": said["restart"]["pid"], "phase": "draining" })
    );
    assert!(daemon.wait(PATIENCE));
    crate::support::eventually("its successor has stopped, too", || home.daemon().is_none());
}

/// Runs the lines of docs/automation.md.
#[track_caller]
fn does_what_is_documented(example: &str, language: &str, program: impl Fn(&Home) -> Command) {
    let page = fs::read_to_string(format!("{SOURCES}/docs/automation.md")).unwrap();
    let example = fs::read_to_string(source(example)).unwrap();
    assert!(
        page.contains(&format!("```{language}\n{example}```\n")),
        "docs/automation.md is of another {language}"
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

#[test]
fn python() {
    let generator = tools().join("bin/openapi-generator-cli");
    if !may_run(
        "generated_clients::python",
        "openapi-generator (scripts/install-test-tools.sh)",
        generator.is_file(),
    ) {
        return;
    }
    let client = tempfile::tempdir().unwrap();
    let to = client.path().to_str().unwrap();
    let document = document();
    let mut generate = Command::new(generator);
    generate.args([
        "generate",
        "-g",
        "python",
        "-i",
        &document,
        "-o",
        to,
        "--package-name",
        "fullon_admin",
    ]);
    // The program looks for `java` where the environment says.
    Outcome::of(generate.env("PATH", path())).succeeds();
    let program = |file: &'static str| {
        move |home: &Home| {
            let mut python = home.command(tools().join("bin/python"));
            python
                .arg(source(file))
                .env("PYTHONPATH", to)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            python
        }
    };
    operates(program("python/operate.py"));
    does_what_is_documented("python/example.py", "python", program("python/example.py"));
}

/// The tools first.
fn path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{}:{inherited}", tools().join("bin").display())
}

#[test]
fn typescript() {
    let packages = tools().join("typescript/node_modules");
    if !may_run(
        "generated_clients::typescript",
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
fn rust() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--locked", "--bins", "--examples"])
        .env("CARGO_TARGET_DIR", &target);
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
