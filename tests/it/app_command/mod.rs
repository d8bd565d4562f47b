//! The command of the application: `APP_COMMAND`, and `fullon start -- COMMAND…`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fullon_master_api::config::AppCommand;
use serde_json::{Value, json};

use crate::support::{Home, Outcome};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/app_command/serve.py");

/// A command whose last word is `name`.
fn command(name: &str) -> [&str; 4] {
    ["python3", SCRIPT, "{fd}", name]
}

/// Runs `fullon ARGUMENTS -- COMMAND`.
fn run(home: &Home, arguments: &[&str], words: &[&str]) -> Outcome {
    let all = arguments.iter().chain(&["--"]).chain(words);
    home.run(all.copied())
}

/// The entry of `APP_COMMAND` in the output of `config`, or in an answer of the admin API.
fn entry(entries: &Value) -> (&str, &str) {
    let mut entries = entries.as_array().unwrap().iter();
    let entry = entries.find(|it| it["name"] == "APP_COMMAND").unwrap();
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    (text("value"), text("source"))
}

/// The arguments, the directory and the environment of the last worker that was started.
fn seen(home: &Home) -> Value {
    let text = fs::read_to_string(home.path().join("seen.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The last word of the running command, and where the daemon has it from.
fn running(home: &Home) -> (String, String) {
    let settings = home.call_admin("GET", "/admin/config").json();
    let (command, source) = entry(&settings);
    let words = AppCommand::parse(command).unwrap();
    (words.words().last().unwrap().clone(), source.to_owned())
}

const OF_START: &str = "command line of start";

#[test]
fn words_of_start_reach_application_without_loss() {
    let home = Home::new();
    let mut words = command("a b").to_vec();
    words.extend([
        "it's",
        "\"",
        "$HOME",
        "`id`",
        "",
        "new\nline",
        "#",
        "~/x",
        "\\",
        "--a=b;",
        "ä",
    ]);
    run(&home, &["start"], &words).succeeds();
    let stored = &home.state().flags["APP_COMMAND"];
    assert_eq!(AppCommand::parse(stored).unwrap().words(), words);
    let local = home.run(["config", "--json"]).succeeds().json();
    assert_eq!(entry(&local), (stored.as_str(), OF_START));
    let active = home.call_admin("GET", "/admin/config").json();
    assert_eq!(entry(&active), (stored.as_str(), OF_START));
    let mut expected = words.split_off(2);
    expected[0] = "3";
    assert_eq!(seen(&home)["words"], json!(expected));
}

#[test]
fn application_gets_env_file_and_environment_without_those_of_daemon() {
    let mut home = Home::new();
    home.set("FROM_SHELL", "shell");
    home.set("BOTH", "shell");
    let directory = home.path().join("app");
    fs::create_dir(&directory).unwrap();
    home.write_env(&format!(
        "APP_COMMAND=python3 {SCRIPT} {{fd}}\nAPP_DIRECTORY=app\nFROM_FILE=file\nBOTH=file\nJWT_SECRET_KEY={}\nAPP_ENV_PORT=7\nAPP_ENV_LOG_FILE=own.log\n",
        "an obviously made-up secret of the tests",
    ));
    home.run(["start"]).succeeds();
    let seen = seen(&home);
    assert_eq!(seen["directory"], json!(directory));
    let environment = &seen["environment"];
    for (name, value) in [
        ("FROM_SHELL", "shell"),
        ("FROM_FILE", "file"),
        ("BOTH", "shell"),
        ("LOG_FILE", "own.log"),
        ("PYTHONUNBUFFERED", "1"),
        ("FORWARDED_ALLOW_IPS", "*"),
        ("PWD", directory.to_str().unwrap()),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    for name in ["JWT_SECRET_KEY", "ADMIN_PORT", "HOST", "PID_FILE"] {
        assert!(environment.get(name).is_none(), "{name}");
    }
}

#[test]
fn command_of_start_stays_until_restart_with_another() {
    let home = Home::new();
    let of_file = format!("{SCRIPT} {{fd}} file");
    home.write_env(&format!("APP_COMMAND=python3 {of_file}\n"));
    let at_start = |name: &str| (name.to_owned(), OF_START.to_owned());
    run(&home, &["start"], &command("first")).succeeds();
    assert_eq!(running(&home), at_start("first"));
    home.restart();
    assert_eq!(running(&home), at_start("first"));
    run(&home, &["restart"], &command("second")).succeeds();
    assert_eq!(running(&home), at_start("second"));
    home.restart();
    assert_eq!(running(&home), at_start("second"));
    run(&home, &["restart", "--hard"], &command("third")).succeeds();
    assert_eq!(running(&home), at_start("third"));
    home.run(["restart", "--hard"]).succeeds();
    let file = home.path().join(".env").display().to_string();
    assert_eq!(running(&home), ("file".into(), file));
}

#[test]
fn hard_restart_keeps_the_only_command() {
    let home = Home::new();
    run(&home, &["start"], &command("only")).succeeds();
    home.run(["restart", "--hard"]).succeeds();
    assert_eq!(running(&home), ("only".into(), OF_START.into()));
}

#[test]
fn hard_restart_checks_the_program_before_the_stop() {
    let home = Home::new();
    run(&home, &["start"], &command("old")).succeeds();
    let pid = home.state().pid;
    run(&home, &["restart", "--hard"], &["nowhere", "{fd}"])
        .exits(1)
        .stderr_contains(&["nowhere is in no directory of PATH", "Nothing has changed"]);
    assert_eq!(home.state().pid, pid);
}

#[test]
fn restart_starts_daemon_with_command() {
    let home = Home::new();
    run(&home, &["restart"], &command("new")).succeeds();
    assert_eq!(running(&home), ("new".into(), OF_START.into()));
}

#[test]
fn failed_restart_does_not_change_the_command() {
    let home = Home::new();
    run(&home, &["start"], &command("old")).succeeds();
    home.write_env("LOG_LEVEL=no/such\n");
    run(&home, &["restart"], &command("new")).exits(2);
    home.write_env("");
    assert_eq!(running(&home), ("old".into(), OF_START.into()));
    home.restart();
    assert_eq!(running(&home), ("old".into(), OF_START.into()));
}

#[test]
fn restart_by_signal_refuses_another_command() {
    let home = Home::new();
    run(&home, &["start"], &command("old")).succeeds();
    let old = home.state();
    let mut hidden = old.clone();
    // No program listens there.
    hidden.admin = format!("http://127.0.0.1:{}", crate::support::free_port());
    hidden.write(&home.pid_file()).unwrap();
    run(&home, &["restart"], &command("new"))
        .exits(1)
        .stderr_contains(&["cannot change the command of the application", "--hard"]);
    old.write(&home.pid_file()).unwrap();
    assert_eq!(running(&home), ("old".into(), OF_START.into()));
    assert_eq!(home.state().pid, old.pid);
}

#[test]
fn token_of_operator_cannot_change_the_command() {
    let home = Home::started();
    let pid = home.state().pid;
    let body = r#"{"command":["touch","/tmp/never"]}"#;
    let answer = home.call_admin_with("POST", "/admin/restart", body);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("fullon restart -- COMMAND"));
    assert_eq!(home.state().pid, pid);
}

#[test]
fn restart_records_the_command_in_audit_trail() {
    let home = Home::started();
    run(&home, &["restart"], &command("new")).succeeds();
    let records = home.run(["audit", "--json"]).succeeds().stdout;
    let records = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let mut records = records.filter(|record: &Value| record["event"] == "restart");
    let command = records.next().unwrap()["detail"]["command"].to_string();
    assert!(command.contains("serve.py {fd} new"), "{command}");
}

#[test]
fn wrong_commands_are_usage_errors() {
    let home = Home::new();
    for (arguments, words, message) in [
        (
            &["start"][..],
            &["DEBUG=1", "run"][..],
            "set APP_ENV_DEBUG instead",
        ),
        (&["start"], &["run --fd {fd}"], "leave out the quotes"),
        (&["start"], &["run", "{fd}", "{port}"], "use one of them"),
        (
            &["restart"],
            &["run", "{sock}"],
            "`{sock}` is not a placeholder",
        ),
        (&["run"], &["cd", "/x"], "is a command of the shell"),
        (&["start", "--app-command=a"], &["b"], "use one of them"),
        (&["stop"], &["b"], "unexpected argument"),
    ] {
        run(&home, arguments, words)
            .exits(2)
            .stderr_contains(&[message]);
    }
    home.run(["start", "--app-command=cd x && run"])
        .exits(2)
        .stderr_contains(&["sh -c 'cd x && exec run'", "(flag)"]);
}

#[test]
fn help_of_start_shows_an_application() {
    let help = Home::new().run(["start", "--help"]).succeeds();
    help.stdout_contains(&["fullon start -- uvicorn app:app --fd {fd}"]);
}

/// A deployment that switches a link from release to release.
#[test]
fn directory_is_followed_by_the_name_of_the_shell() {
    let home = Home::new();
    let current = home.path().join("current");
    for release in ["1", "2"] {
        fs::create_dir(home.path().join(release)).unwrap();
    }
    symlink("1", &current).unwrap();
    let in_current = |command: &mut Command| {
        command.current_dir(&current).env("PWD", &current);
        Outcome::run(command).succeeds();
    };
    in_current(&mut home.fullon(["start"]));
    assert_eq!(home.state().working_directory, current);
    fs::remove_file(&current).unwrap();
    symlink("2", &current).unwrap();
    fs::write(home.path().join("2/.env"), "LOG_LEVEL=DEBUG\n").unwrap();
    home.restart();
    assert_eq!(home.state().working_directory, current);
    let level = home.call_admin("GET", "/admin/log-level").json();
    assert_eq!(level["level"], "debug");
    // PWD of another directory is ignored.
    home.run(["stop"]).succeeds();
    let mut start = home.fullon(["start"]);
    start.env("PWD", Path::new("/"));
    Outcome::run(&mut start).succeeds();
    assert_eq!(home.state().working_directory, home.path());
}
