//! Precedence of settings, and reports about invalid ones.

use std::fs;

use crate::support::{Home, Outcome};

fn setting(home: &Home, arguments: &[&str], name: &str) -> (String, String) {
    let arguments = arguments.iter().copied().chain(["--json", "config"]);
    let entries = home.run(arguments).succeeds().json();
    let entry = entries
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == name)
        .unwrap()
        .clone();
    (
        entry["value"].as_str().unwrap().into(),
        entry["source"].as_str().unwrap().into(),
    )
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let mut home = Home::new();
    let env = home.path().join(".env");
    let shutdown_timeout =
        |home: &Home, arguments: &[&str]| setting(home, arguments, "SHUTDOWN_TIMEOUT");
    assert_eq!(
        shutdown_timeout(&home, &[]),
        ("10s".into(), "default".into())
    );
    fs::write(&env, "SHUTDOWN_TIMEOUT=11s").unwrap();
    assert_eq!(
        shutdown_timeout(&home, &[]),
        ("11s".into(), env.display().to_string())
    );
    home.set("SHUTDOWN_TIMEOUT", "12s");
    assert_eq!(
        shutdown_timeout(&home, &[]),
        ("12s".into(), "environment".into())
    );
    assert_eq!(
        shutdown_timeout(&home, &["--shutdown-timeout", "13s"]),
        ("13s".into(), "flag".into())
    );
    home.unset("SHUTDOWN_TIMEOUT");
    let differing = home.path().join("other.env");
    fs::write(&differing, "SHUTDOWN_TIMEOUT=14s").unwrap();
    let from_other_file = shutdown_timeout(&home, &["--env-file", "other.env"]);
    assert_eq!(
        from_other_file,
        ("14s".into(), differing.display().to_string())
    );
    home.set("SHUTDOWN_TIMEOUT", "");
    assert_eq!(
        shutdown_timeout(&home, &[]).0,
        "11s",
        "an empty value means not set"
    );
}

#[test]
fn every_setting_is_shown_and_in_example_file() {
    let home = Home::new();
    let text = home.run(["config"]).succeeds().stdout;
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example")).unwrap();
    for setting in &fullon_master_api::config::DEFINITIONS {
        assert!(
            text.contains(setting.name),
            "{} missing in config",
            setting.name
        );
        let line = format!(
            "#{}={}\n",
            setting.name,
            setting.default_text().unwrap_or_default()
        );
        assert!(
            example.contains(&line),
            "`{}` missing in .env.example",
            line.trim()
        );
    }
}

#[test]
fn example_file_changes_nothing() {
    let home = Home::new();
    let before = home.run(["--json", "config"]).succeeds().json();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example"),
        home.path().join(".env"),
    )
    .unwrap();
    assert_eq!(home.run(["--json", "config"]).succeeds().json(), before);
}

#[test]
fn conflicting_settings_are_reported() {
    let mut home = Home::new();
    home.set("PORT", "8123");
    home.set("ADMIN_PORT", "8123");
    home.set("PID_FILE", home.log_file().to_str().unwrap());
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "ADMIN_PORT: `8123` is also the value of PORT: use two different ports (environment)",
        "PID_FILE: is the same file as LOG_FILE: use two different files (environment)",
    ]);
}

#[test]
fn conflict_of_ports_names_the_port_that_was_set() {
    let home = Home::new();
    let check = |arguments: &[&str]| {
        let mut command = home.fullon([]);
        command.env_remove("PORT").env_remove("ADMIN_PORT");
        let arguments = arguments.iter().chain(&["config", "--check"]);
        Outcome::run(command.args(arguments)).exits(2)
    };
    check(&["--port", "8001"])
        .stderr_contains(&["  PORT: `8001` is also the value of ADMIN_PORT", "(flag)"]);
    check(&["--admin-port", "8000"])
        .stderr_contains(&["  ADMIN_PORT: `8000` is also the value of PORT", "(flag)"]);
    fs::write(home.path().join(".env"), "ADMIN_PORT=8000\n").unwrap();
    check(&[]).stderr_contains(&["  ADMIN_PORT: `8000` is also the value of PORT", "/.env)"]);
}

#[test]
fn placeholder_secret_is_refused() {
    let home = Home::new();
    fs::write(
        home.path().join(".env"),
        "JWT_SECRET_KEY=your-secret-key\nDB_PORT=0\nREDIS_PORT=x\nLOG_FORMAT=xml\n",
    )
    .unwrap();
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "JWT_SECRET_KEY: is the placeholder",
        "DB_PORT: `0`",
        "REDIS_PORT: `x`",
        "LOG_FORMAT: `xml`",
    ]);
    home.run(["token"])
        .exits(2)
        .stderr_contains(&["JWT_SECRET_KEY"]);
}

#[test]
fn misspelled_setting_is_reported() {
    let home = Home::new();
    home.write_env("LOGLEVEL=debug\nDB_PASSWORT=hunter2\nLOG_KEPP=3\nLOG_KEEP=4\nHOSTNAME=it\n");
    let outcome = home.run(["config", "--check"]).succeeds();
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{outcome:#?}");
    assert!(lines[0].contains("DB_PASSWORT") && lines[0].contains("did you mean DB_PASSWORD?"));
    assert!(lines[1].contains("LOGLEVEL") && lines[1].contains("did you mean LOG_LEVEL?"));
    assert!(!outcome.stderr.contains("hunter2"));
    home.run(["doctor"]).succeeds().stdout_contains(&[
        "is not a setting -> if you mean LOG_LEVEL",
        "is not a setting -> if you mean DB_PASSWORD",
        "2 warnings",
    ]);
}

#[test]
fn config_reports_settings_that_differ_from_daemon() {
    let home = Home::started();
    let same = home.run(["config"]).succeeds();
    assert_eq!(same.stderr, "");
    let differing = home.run(["config", "--log-keep", "9"]).succeeds();
    let words = ["the running daemon has other settings", "GET /admin/config"];
    assert!(!differing.stderr_contains(&words).stdout.contains(words[0]));
}
