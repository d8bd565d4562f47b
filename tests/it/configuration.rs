//! Precedence of settings, and reports about invalid ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Home, Outcome, running_as_root};

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
    assert_eq!(lines.len(), 3, "{outcome:#?}");
    assert!(lines[0].contains("DB_PASSWORT: is not a setting"));
    assert!(lines[0].ends_with("if you mean DB_PASSWORD, correct the name"));
    assert!(lines[1].contains("LOGLEVEL: is not a setting"));
    assert!(lines[1].ends_with("if you mean LOG_LEVEL, correct the name"));
    assert!(lines[2].contains("LOG_KEPP: is not a setting and has no effect"));
    assert!(!outcome.stderr.contains("hunter2"));
    home.run(["doctor"]).succeeds().stdout_contains(&[
        "-> if you mean LOG_LEVEL",
        "-> if you mean DB_PASSWORD",
        "3 warnings",
    ]);
}

/// In the environment, names of our families are reported, and no others.
#[test]
fn unknown_setting_of_environment_is_reported() {
    let mut home = Home::new();
    home.set("REDIS_POOL", "hunter2");
    home.set("JWT_ISSUER", "hunter2");
    home.set("LOGNAME", "me");
    let words = ["JWT_ISSUER, REDIS_POOL: are not settings and have no effect (environment)"];
    let outputs = [
        home.run(["config", "--check"])
            .succeeds()
            .stderr_contains(&words),
        home.run(["start"]).succeeds().stderr_contains(&words),
        home.run(["status"]).succeeds().stdout_contains(&words),
        home.run(["doctor"]).succeeds().stdout_contains(&words),
    ];
    for outcome in outputs {
        assert!(!format!("{outcome:?}").contains("hunter2"), "{outcome:#?}");
    }
    assert!(home.log().contains(words[0]));
}

#[test]
fn service_links_of_platform_are_ignored() {
    let mut home = Home::new();
    for (name, value) in [
        ("REDIS_PORT", "tcp://10.96.0.5:6379"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.96.0.5"),
        ("REDIS_SERVICE_HOST", "10.96.0.5"),
        ("DB_PORT", "tcp://10.96.0.6:5432"),
        ("DB_NAME", "/web/db"),
        ("ADMIN_MAX_CONNECTIONS_PORT", "udp://10.96.0.8:53"),
    ] {
        home.set(name, value);
    }
    let words = [
        "DB_NAME, DB_PORT, REDIS_PORT: are set by Kubernetes or Docker",
        "ignored with 3 other variables",
        "enableServiceLinks: false",
    ];
    home.run(["config", "--check"])
        .succeeds()
        .stderr_contains(&words);
    home.run(["start"]).succeeds().stderr_contains(&words);
    home.run(["doctor"]).succeeds().stdout_contains(&words);
    home.run(["restart"]).succeeds();
    home.run(["stop"]).succeeds();
    assert_eq!(
        setting(&home, &[], "REDIS_PORT"),
        ("6379".into(), "default".into())
    );
    home.write_env("REDIS_PORT=6380\n");
    assert_eq!(setting(&home, &[], "REDIS_PORT").0, "6380");

    // A value that a person wrote.
    home.write_env("PORT=tcp://10.96.0.5:80\n");
    home.unset("PORT");
    home.run(["config", "--check"])
        .exits(2)
        .stderr_contains(&["PORT: the value, which may hold a password, is a URL"]);
    // The ports of a service `admin`.
    home.write_env("");
    home.unset("ADMIN_PORT");
    home.set("ADMIN_PORT", "tcp://10.96.0.7:80");
    home.set("PORT", "tcp://10.96.0.7:80");
    home.run(["config", "--check"])
        .succeeds()
        .stderr_contains(&["ADMIN_PORT, DB_NAME, DB_PORT, PORT, REDIS_PORT: are set"]);
}

#[test]
fn url_or_port_in_wrong_setting_is_refused_without_password() {
    let mut home = Home::new();
    let url = "postgres://me:hunter2@db.example/app";
    let names = [
        "DB_USER",
        "DB_NAME",
        "DB_HOST",
        "DB_SSLROOTCERT",
        "REDIS_HOST",
        "REDIS_CACERT",
        "LOG_FILE",
        "AUDIT_FILE",
        "PID_FILE",
        "PORT",
    ];
    for name in names {
        home.set(name, url);
    }
    home.set("DB_SSLMODE", "verify-full");
    for name in names {
        let wanted = format!("{name}: the value, which may hold a password, is a URL");
        home.run(["config", "--check"])
            .exits(2)
            .stderr_contains(&[&wanted]);
    }
    for command in ["config", "doctor", "start", "status"] {
        let outcome = home.run([command]).exits(2);
        let text = format!("{outcome:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let mut home = Home::new();
    home.write_env("DB_NAME=app\nDB_HOST=db:5433\nREDIS_HOST=[::1]:6380\n");
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DB_HOST: `db:5433` is a host and a port: set DB_HOST=db and DB_PORT=5433",
        "REDIS_HOST: `[::1]:6380` is a host and a port: set REDIS_HOST=[::1] and REDIS_PORT=6380",
    ]);
    home.set("LOG_FILE", "me:hunter2@host/x.log");
    assert!(
        !home
            .run(["config", "--check"])
            .exits(2)
            .stderr
            .contains("hunter2")
    );
}

#[test]
fn database_user_is_needed_where_system_user_has_no_name() {
    if !running_as_root("database_user_is_needed") {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let check = |user: &str| {
        let mut command = home.command("setpriv");
        command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_fullon"));
        command.args([
            "config",
            "--check",
            "--db-name",
            "app",
            "--env-file",
            "/dev/null",
        ]);
        Outcome::run(command.args(["--db-user", user]))
    };
    check("").exits(2).stderr_contains(&[
        "DB_USER: is not set, and this user (4242) has no name on this machine: set it",
    ]);
    check("fullon").succeeds();
}

/// Docker and Kubernetes mount secrets as files.
#[test]
fn secret_is_read_from_file_that_setting_names() {
    const SECRET: &str = "an-obviously-made-up-secret-of-the-tests";
    let mut home = Home::new();
    let secret = home.path().join("jwt");
    let shown = secret.display().to_string();
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    home.write_env("JWT_SECRET_KEY_FILE=./jwt\nREDIS_PASSWORD=x\n");
    assert_eq!(
        setting(&home, &[], "JWT_SECRET_KEY"),
        (
            "******".into(),
            home.path().join("./jwt").display().to_string()
        )
    );
    home.set("JWT_SECRET_KEY_FILE", &shown);
    home.run(["start"]).succeeds();
    assert!(!home.path().join(".fullon_master_api.key").exists());
    home.run(["status"]).succeeds();
    fs::write(&secret, format!("another-{SECRET}\r\n")).unwrap();
    home.run(["reload"])
        .succeeds()
        .stdout_contains(&["JWT_SECRET_KEY: ****** -> ******"]);
    home.run(["restart"]).succeeds();
    home.run(["stop"]).succeeds();

    // The environment is above the file.
    home.set("JWT_SECRET_KEY_FILE", "");
    home.set("JWT_SECRET_KEY", SECRET);
    assert_eq!(setting(&home, &[], "JWT_SECRET_KEY").1, "environment");
    let refused = |home: &Home, words: &str| {
        let words = format!("JWT_SECRET_KEY_FILE: {words}");
        let outcome = home.run(["config", "--check"]).exits(2);
        let outcome = outcome.stderr_contains(&[&words, "(environment)"]);
        assert!(!outcome.stderr.contains("hunter2"), "{outcome:?}");
        home.run(["doctor"])
            .exits(2)
            .stdout_contains(&["-> correct the file or JWT_SECRET_KEY_FILE"]);
    };
    home.set("JWT_SECRET_KEY_FILE", &shown);
    refused(&home, "JWT_SECRET_KEY is set, too: remove one of them");
    home.unset("JWT_SECRET_KEY");
    home.set("JWT_SECRET_KEY_FILE", "hunter2");
    refused(
        &home,
        "the file, which is not shown because the value may be a secret, cannot be read",
    );
    home.set("JWT_SECRET_KEY_FILE", "https://me:hunter2@host/");
    refused(&home, "is a URL, but a path is needed");
    home.set("JWT_SECRET_KEY_FILE", "/nowhere/jwt");
    refused(&home, "/nowhere/jwt cannot be read: No such file");
    let directory = home.path().display().to_string();
    home.set("JWT_SECRET_KEY_FILE", &directory);
    refused(
        &home,
        &format!("{directory} cannot be read: not a regular file"),
    );
    home.set("JWT_SECRET_KEY_FILE", &shown);
    fs::write(&secret, "\n").unwrap();
    refused(&home, &format!("{shown} is empty"));
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&home, &format!("{shown} is writable by all users"));

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home.run(["config", "--check"])
        .succeeds()
        .stderr_contains(&[
            &format!("{shown}: contains a secret and is readable by all users (mode 644)"),
            "chmod 600",
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
