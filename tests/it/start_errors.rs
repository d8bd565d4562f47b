//! A failing start reports the reason and leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use fullon_master_api::instance::StateFile;

use crate::support::{Home, Outcome, file_mode, running_as_root};

/// The start fails with these words and leaves neither daemon nor state file.
#[track_caller]
fn assert_start_fails(home: &Home, code: i32, words: &[&str]) {
    let outcome = home.run(["start"]).exits(code).stderr_contains(words);
    assert!(outcome.stdout.is_empty(), "{outcome:#?}");
    assert!(!StateFile::path(&home.pid_file()).exists());
    assert!(home.daemon().is_none());
    let json = home.run(["start", "--json"]).exits(code).json();
    assert!(json["error"].is_string(), "{json}");
}

#[test]
fn taken_port_is_named_with_its_owner() {
    for setting in ["PORT", "ADMIN_PORT"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut home = Home::new();
        home.set(setting, &port);
        let owner = format!("(PID {})", std::process::id());
        assert_start_fails(&home, 1, &[setting, &port, "in use", &owner]);
        assert!(!home.pid_file().exists() && !home.log_file().exists());
    }
}

#[test]
fn unwritable_log_is_named() {
    let mut home = Home::new();
    home.set("LOG_FILE", "/proc/nowhere/fullon.log");
    assert_start_fails(&home, 1, &["log file /proc/nowhere/fullon.log", "LOG_FILE"]);
    let stdout = "or to - for stdout";
    home.run(["run"]).exits(1).stderr_contains(&[stdout]);
    let refused = home.run(["start"]).exits(1);
    assert!(!refused.stderr.contains(stdout), "{refused:#?}");
    let directory = home.path().display().to_string();
    home.set("LOG_FILE", &directory);
    assert_start_fails(&home, 2, &["LOG_FILE", "is a directory"]);
    home.set("LOG_FILE", "-");
    assert_start_fails(&home, 2, &["LOG_FILE: `-` is stdout", "fullon run"]);
    assert!(!home.pid_file().exists());
}

#[test]
fn unwritable_pid_file_is_named() {
    let mut home = Home::new();
    let missing = home.path().join("missing");
    let in_missing = missing.join("fullon.pid").display().to_string();
    let refused = home.run(["start", "--pid-file", &in_missing]).exits(1);
    let refused = refused.stderr_contains(&[
        &format!("the PID file {in_missing}"),
        &format!("`mkdir -p {}`", missing.display()),
    ]);
    assert!(!refused.stderr.contains("owner"), "{refused:#?}");
    let link = home.path().join("link.pid");
    symlink(home.path().join("target"), &link).unwrap();
    home.set("PID_FILE", link.to_str().unwrap());
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["symbolic link"]);
    assert!(!home.path().join("target").exists());
}

#[test]
fn symlinked_log_is_refused_and_target_unchanged() {
    let home = Home::new();
    let target = home.path().join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, home.log_file()).unwrap();
    assert_start_fails(&home, 1, &["symbolic link"]);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(!home.pid_file().exists());
}

#[test]
fn log_readable_by_others_becomes_private() {
    let home = Home::new();
    fs::write(home.log_file(), "from the launcher before\n").unwrap();
    home.run(["start"]).succeeds();
    assert_eq!(file_mode(&home.log_file()), 0o600);
    assert!(home.log().starts_with("from the launcher before\n"));
}

#[test]
fn all_invalid_settings_are_reported_without_secrets() {
    let mut home = Home::new();
    home.set("PORT", "99999");
    home.set("ADMIN_HOST", "0.0.0.0");
    home.set("LOG_LEVEL", "verbose");
    home.set("JWT_SECRET_KEY", "hunter2");
    assert_start_fails(
        &home,
        2,
        &[
            "PORT: `99999`",
            "ADMIN_HOST: `0.0.0.0`",
            "LOG_LEVEL: `verbose`",
            "JWT_SECRET_KEY: has 7 bytes",
        ],
    );
    let outcome = home.run(["start", "--json"]);
    assert!(!format!("{outcome:?}").contains("hunter2"));
    assert_eq!(outcome.json()["problems"].as_array().unwrap().len(), 4);
    assert!(!home.log_file().exists() && !home.pid_file().exists());
}

#[test]
fn value_that_may_hold_a_password_is_not_shown() {
    let mut home = Home::new();
    for url in ["postgres://user:hunter2@db/app", "user:hunter2@db"] {
        for setting in ["DB_HOST", "REDIS_HOST", "PORT", "HOST", "LOG_MAX_SIZE"] {
            home.set("DB_NAME", "app");
            home.set(setting, url);
            for command in [
                &["start"][..],
                &["config"],
                &["--json", "start"],
                &["doctor"],
            ] {
                let outcome = home.run(command.iter().copied()).exits(2);
                let shown = format!("{outcome:?}");
                assert!(!shown.contains("hunter2"), "{shown}");
                assert!(shown.contains("may hold a password"), "{shown}");
            }
            home.unset(setting);
        }
    }
}

#[test]
fn exposed_key_file_is_refused() {
    let home = Home::new();
    let key = home.path().join(".fullon_master_api.key");
    fs::write(&key, "k".repeat(64)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_start_fails(&home, 1, &["is readable by other users", "chmod 600"]);
}

#[test]
fn invalid_env_file_is_named() {
    let home = Home::new();
    let env = home.path().join(".env");
    fs::write(&env, "GOOD=1\nLOG_KEEP is hunter2\n").unwrap();
    assert_start_fails(&home, 2, &[".env: line 2: expected NAME=value"]);
    let outcome = home.run(["start", "--env-file", "missing"]).exits(2);
    outcome.stderr_contains(&["missing: cannot be read"]);
}

/// As python-dotenv does. Other programs may use the same file.
#[test]
fn invalid_line_without_a_setting_is_a_warning() {
    let home = Home::new();
    let env = home.path().join(".env");
    fs::write(&env, "bad line with hunter2\nLOG_KEEP=3\nX='hunter2\n").unwrap();
    let words = [
        "warning: ",
        ".env: line 1: expected NAME=value: the line is ignored",
        ".env: line 3: the value has no closing quote: the line is ignored",
    ];
    for arguments in [&["config", "--check"][..], &["start"]] {
        let outcome = home.run(arguments.iter().copied()).succeeds();
        let outcome = outcome.stderr_contains(&words);
        assert!(!outcome.stderr.contains("hunter2"), "{outcome:#?}");
    }
    let doctor = home.run(["doctor"]).succeeds();
    doctor.stdout_contains(&["warning", "line 1: expected NAME=value"]);
    home.run(["reload"]).succeeds();
    // The name of a setting in the text that was skipped.
    fs::write(&env, "X='a\nJWT_SECRET_KEY=b\nY='c\n").unwrap();
    home.run(["reload"])
        .exits(2)
        .stderr_contains(&[".env: line 1"]);
}

/// As in a container: nobody is advised to remove a device.
#[test]
fn devices_are_no_log_files() {
    let mut home = Home::new();
    for device in ["/dev/null", "/dev/full", "/dev/stderr", "/proc/self/fd/2"] {
        home.set("LOG_FILE", device);
        let refused = home.run(["start"]).exits(2);
        let refused = refused.stderr_contains(&["LOG_FILE", "use `-`", "LOG_LEVEL=off"]);
        assert!(!refused.stderr.contains("remove"), "{refused:#?}");
        home.run(["config", "--check"]).exits(2);
    }
    home.set(
        "LOG_FILE",
        home.path()
            .join("fullon.log")
            .display()
            .to_string()
            .as_str(),
    );
    home.set("AUDIT_FILE", "/dev/null");
    home.run(["start"])
        .exits(2)
        .stderr_contains(&["AUDIT_FILE", "is not a file"]);
    home.unset("AUDIT_FILE");
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        home.set("LOG_FILE", name);
        let refused = home.run(["start"]).exits(2);
        refused.stderr_contains(&["fullon run"]);
    }
}

#[test]
fn advice_fits_the_kind_of_file() {
    let home = Home::new();
    nix::unistd::mkfifo(&home.log_file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = home.run(["start"]).exits(1);
    let refused = refused.stderr_contains(&["is not a regular file; choose another LOG_FILE"]);
    assert!(!refused.stderr.contains("remove"), "{refused:#?}");
    fs::remove_file(home.log_file()).unwrap();
    let original = home.path().join("original");
    fs::write(&original, "").unwrap();
    fs::hard_link(&original, home.log_file()).unwrap();
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["remove its other name, or choose another LOG_FILE"]);
}

/// Starts the daemon with the default log file, in a `/tmp` of its own.
fn start_with_private_tmp(home: &Home, setup: &str) -> Outcome {
    let script = format!(
        r#"
        mount --bind "$HOME" /mnt && mount --bind /mnt "$HOME" && mount -t tmpfs -o mode=1777 none /tmp
        export HOME=/mnt && cd /mnt || exit 9
        {setup}
        fullon() {{ $AS "$0" --pid-file "${{PID:-/mnt/it.pid}}" "$@"; }}
        first=$(fullon start 2>&1) || {{ printf '%s\n' "$first" >&2; exit 1; }}
        fullon stop >stopped && second=$(fullon start 2>&1) && fullon stop >stopped
        printf '%s\n---\n%s\n' "$first" "$second"
        "#
    );
    let mut command = home.command("unshare");
    command.env_remove("LOG_FILE").env_remove("XDG_STATE_HOME");
    command.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_fullon")]);
    Outcome::run(&mut command)
}

#[test]
fn first_start_with_default_log_names_a_better_place() {
    if !running_as_root("first_start_with_default_log_names_a_better_place") {
        return;
    }
    let outcome = start_with_private_tmp(&Home::new(), "").succeeds();
    let (first, second) = outcome.stdout.split_once("---").unwrap();
    assert!(
        first.contains("Log file: /tmp/fullon_master_api.log"),
        "{first}"
    );
    assert!(
        first.contains("better than /tmp: LOG_FILE=/var/log/fullon_master_api.log"),
        "{first}"
    );
    assert!(!second.contains("better"), "{second}");
    let own = "export LOG_FILE=/tmp/own.log";
    let chosen = start_with_private_tmp(&Home::new(), own).succeeds();
    assert!(!chosen.stdout.contains("better"), "{chosen:#?}");
}

#[test]
fn taken_name_of_state_file_in_tmp_is_named_as_such() {
    if !running_as_root("taken_name_of_state_file_in_tmp_is_named_as_such") {
        return;
    }
    let state = "/tmp/fullon.pid.state";
    for create in ["touch", "mkdir", "mkfifo", "ln -s /nowhere"] {
        // root without the right to write to files of others.
        let script = format!(
            "{create} {state}; chown -h 4242 {state}; chown 4243 /tmp; PID=/tmp/fullon.pid; \
             AS='setpriv --bounding-set -all --inh-caps -all'"
        );
        start_with_private_tmp(&Home::new(), &script)
            .exits(1)
            .stderr_contains(&[state, "belongs to uid 4242", "set PID_FILE to"]);
    }
}

#[test]
fn taken_name_of_log_in_tmp_is_named_as_such() {
    if !running_as_root("taken_name_of_log_in_tmp_is_named_as_such") {
        return;
    }
    for file in ["fullon_master_api.log", "fullon_master_api.log.audit"] {
        let taken = format!("(umask 077; touch /tmp/{file}); chown 4242 /tmp/{file}");
        start_with_private_tmp(&Home::new(), &taken)
            .exits(1)
            .stderr_contains(&[&format!("/tmp/{file} belongs to another user"), "_FILE"]);
        // Without a permission that root always has.
        let mut home = Home::new();
        let shared = home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(shared.join(file), "").unwrap();
        fs::set_permissions(shared.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        home.set(
            "LOG_FILE",
            shared.join("fullon_master_api.log").to_str().unwrap(),
        );
        let mut start = home.command("setpriv");
        start.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]);
        start.args([env!("CARGO_BIN_EXE_fullon"), "start"]);
        Outcome::run(&mut start)
            .exits(1)
            .stderr_contains(&[&format!("{file} belongs to another user")]);
    }
}
