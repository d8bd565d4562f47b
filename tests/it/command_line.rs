//! Arguments, output for scripts, and commands that need no daemon.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Home, request, spawn};

#[test]
fn wrong_usage_exits_with_2() {
    let home = Home::new();
    for arguments in [
        &["jump"][..],
        &["start", "--nonsense"],
        &["logs", "--lines", "10001"],
        &["logs", "--level", "loud"],
        &["logs", "--since", "yesterday"],
        &["--admin-url", "https://127.0.0.1:1", "status"],
        &["token", "--scope", "all"],
        &["openapi"],
        &["start", "--port"],
    ] {
        home.run(arguments.iter().copied()).exits(2);
    }
    home.run(["--help"]).succeeds().stdout_contains(&[
        "start",
        "completions",
        "--env-file",
        "--pid-file",
        "fullon start --help",
        "Exit codes",
    ]);
    home.run(["--version"])
        .succeeds()
        .stdout_contains(&["fullon 1.0.0"]);
}

#[test]
fn wrong_usage_with_json_flag_prints_json() {
    let home = Home::new();
    for (arguments, word) in [
        (&["token", "--ttl", "400d"][..], "--ttl"),
        (&["logs", "-n", "20000"], "10000"),
        (&["stop", "--timeout", "soon"], "--timeout"),
        (&["jump"], "jump"),
        (&[], "subcommand"),
        (
            &["--admin-url", "http://127.0.0.1:1", "config"],
            "--admin-url",
        ),
    ] {
        let outcome = home
            .run(["--json"].iter().chain(arguments).copied())
            .exits(2);
        let error = outcome.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(word) && !error.contains("Usage"), "{error}");
        assert!(!outcome.stderr.is_empty());
        assert_eq!(home.run(arguments.iter().copied()).exits(2).stdout, "");
    }
    home.run(["--json", "--help"])
        .succeeds()
        .stdout_contains(&["Usage"]);
}

#[test]
fn duration_flags_use_settings_syntax() {
    let home = Home::started();
    for (ttl, seconds) in [("90", 90), ("1m 30s", 90), ("2h", 7200)] {
        let output = home
            .run(["--json", "token", "--ttl", ttl])
            .succeeds()
            .json();
        assert_eq!(output["expires_in_seconds"], seconds);
        // It can be revoked by its id.
        let (id, token) = (&output["token_id"], output["token"].as_str().unwrap());
        home.run(["token", "--revoke", id.as_str().unwrap()])
            .succeeds();
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = request(&home.admin_address(), "GET", "/admin/status", &headers, "");
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    for timeout in ["2h", "-1s", "10 parsecs"] {
        home.run(["stop", "--timeout", timeout]).exits(2);
        home.run(["restart", "--timeout", timeout]).exits(2);
    }
    home.run(["restart", "--timeout", "20s"]).succeeds();
    home.run(["restart", "--timeout", "20.5"]).succeeds();
    home.run(["stop", "--timeout", "1m 30s"]).succeeds();
    let logged_timeout = "timeout=90s";
    assert!(home.log().contains(logged_timeout), "{}", home.log());
    home.run(["logs", "--help"])
        .succeeds()
        .stdout_contains(&["0 to 10000"]);
}

#[test]
fn missing_log_is_reported_with_next_step() {
    let mut home = Home::new();
    let log = home.log_file().display().to_string();
    home.run(["logs", "--no-follow"])
        .exits(1)
        .stderr_contains(&[&log, "LOG_FILE", "`fullon start`"]);
    home.set("LOG_FILE", "-");
    home.run(["logs", "--no-follow"])
        .exits(1)
        .stderr_contains(&["there is no log file to read", "journalctl"]);
    let _daemon = spawn(
        home.fullon(["run"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    crate::support::eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    for logs in [&["logs"][..], &["logs", "--no-follow"]] {
        home.run(logs.iter().copied()).exits(1).stderr_contains(&[
            "LOG_FILE",
            "journalctl -u fullon_master_api",
            "kubectl logs",
            "docker logs",
        ]);
    }
}

#[test]
fn secrets_have_no_flags() {
    let help = Home::new().run(["start", "--help"]).succeeds().stdout;
    assert!(help.contains("--db-host "), "{help}");
    for flag in ["--jwt-secret-key", "--db-password", "--redis-password"] {
        assert!(!help.contains(&format!("{flag} ")), "{flag}");
    }
}

const WITHOUT_SETTINGS: [&[&str]; 12] = [
    &["stop"],
    &["reload"],
    &["status"],
    &["logs"],
    &["audit"],
    &["console"],
    &["sessions"],
    &["token"],
    &["doctor"],
    &["openapi", "admin"],
    &["completions", "bash"],
    &["man"],
];

#[test]
fn flags_without_effect_are_refused() {
    let home = Home::new();
    for command in WITHOUT_SETTINGS {
        let name = format!("no effect on `fullon {}`", command[0]);
        for flags in [
            &["--port", "9"][..],
            &["--db-name", "x"],
            &["--log-level=debug"],
        ] {
            let after = home.run(command.iter().chain(flags).copied()).exits(2);
            after.stderr_contains(&[&name, flags[0].split('=').next().unwrap(), "remove it"]);
            let before = home.run(flags.iter().chain(command).copied()).exits(2);
            before.stderr_contains(&[&name]);
        }
    }
    let flags = ["--log-keep=1", "status", "--port=9", "--json"];
    let error = home.run(flags).exits(2).json()["error"].to_string();
    assert!(
        error.contains("--port, --log-keep have no effect"),
        "{error}"
    );
    // A daemon of version 1.0.0 starts its successor with flags before the command.
    home.run(["--log-keep=9", "config"])
        .succeeds()
        .stdout_contains(&["LOG_KEEP", "flag"]);
}

#[test]
fn help_shows_the_options_that_have_an_effect() {
    let home = Home::new();
    let help = |command: &str| home.run([command, "--help"]).succeeds().stdout;
    for command in ["start", "run", "restart", "config"] {
        let help = help(command);
        for setting in &fullon_master_api::config::DEFINITIONS {
            let flag = format!("--{} ", setting.name.to_lowercase().replace('_', "-"));
            assert_eq!(help.contains(&flag), !setting.is_secret, "{command} {flag}");
        }
        assert_eq!(
            help.contains("--admin-url"),
            command == "restart",
            "{command}"
        );
    }
    for command in WITHOUT_SETTINGS {
        let help = help(command[0]);
        assert!(help.contains("--pid-file"), "{help}");
        assert!(
            !help.contains("--port") && !help.contains("--log-keep"),
            "{help}"
        );
        let is_offline = ["openapi", "completions", "man"].contains(&command[0]);
        assert_eq!(help.contains("--admin-url"), !is_offline, "{command:?}");
    }
}

/// The words that Bash offers after this line.
fn offered(home: &Home, line: &[&str]) -> Vec<String> {
    let script = r#"
        source <("$FULLON" completions bash)
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _fullon fullon "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = home.command("bash");
    bash.env("FULLON", env!("CARGO_BIN_EXE_fullon"));
    bash.args(["-c", script, "bash", "fullon"]).args(line);
    let outcome = crate::support::Outcome::run(bash.current_dir(home.path())).succeeds();
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn completions_offer_values_and_commands_first() {
    let home = Home::new();
    std::fs::write(home.path().join("unrelated-file"), "").unwrap();
    for (line, expected) in [
        (
            &["logs", "--level", ""][..],
            &["error", "warn", "info", "debug", "trace"][..],
        ),
        (
            &["token", "--scope", ""],
            &["admin:read", "admin:logs", "admin:control"],
        ),
        (
            &["console", "--scope", ""],
            &["admin:read", "admin:logs", "admin:control"],
        ),
        (&["start", "--log-format", ""], &["text", "json"]),
        (&["run", "--log-level", "D"], &["DEBUG"]),
        (&["config", "--redis-tls", ""], &["off", "on"]),
        (&["openapi", "p"], &["public"]),
        (&["completions", "z"], &["zsh"]),
        // No file names.
        (&["logs", "--since", ""], &[""]),
        (&["start", "--port", ""], &[""]),
        // File names.
        (&["start", "--log-file", "unr"], &["unrelated-file"]),
        (&["status", "--env-file", "unr"], &["unrelated-file"]),
    ] {
        assert_eq!(offered(&home, line), expected, "{line:?}");
    }
    let words = offered(&home, &[""]);
    let first_option = words.iter().position(|word| word.starts_with('-')).unwrap();
    assert_eq!(words[0], "start");
    assert_eq!(first_option, 16, "{words:?}");
    assert!(
        words[first_option..]
            .iter()
            .all(|word| word.starts_with('-')),
        "{words:?}"
    );
    for (line, word) in [
        (&[""][..], "--port"),
        (&["start", "--"], "--admin-url"),
        (&["run", "--"], "--kept"),
    ] {
        assert!(!offered(&home, line).contains(&word.to_owned()), "{line:?}");
    }
    assert!(offered(&home, &["start", "--po"]).contains(&"--port".to_owned()));
}

#[test]
fn json_output_is_one_value_for_every_command() {
    let home = Home::new();
    assert_eq!(
        home.run(["--json", "status"]).exits(3).json()["state"],
        "not_running"
    );
    assert_eq!(
        home.run(["--json", "stop"]).exits(1).json()["stopped"],
        false
    );
    let started = home.run(["--json", "start"]).succeeds().json();
    assert_eq!(started["pid"], home.state().pid);
    assert!(home.run(["--json", "start"]).exits(1).json()["error"].is_string());
    let status = home.run(["--json", "status"]).succeeds().json();
    assert_eq!(
        (&status["state"], &status["via"]),
        (&"running".into(), &"rest".into())
    );
    assert_eq!(status["status"]["phase"], "ready");
    let logs = home.run(["--json", "logs", "--no-follow"]).succeeds();
    for line in logs.stdout.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["cursor"].is_string() && entry["line"].is_string());
    }
    assert!(home.run(["--json", "config"]).succeeds().json().is_array());
    assert_eq!(
        home.run(["--json", "config", "--check"]).succeeds().json()["valid"],
        true
    );
    assert!(home.run(["--json", "token"]).succeeds().json()["token"].is_string());
    assert!(home.run(["--json", "openapi", "admin"]).succeeds().json()["paths"].is_object());
    assert_eq!(
        home.run(["--json", "restart"]).succeeds().json()["old_pid"],
        started["pid"]
    );
    assert_eq!(
        home.run(["--json", "stop"]).succeeds().json()["via"],
        "rest"
    );
}

#[test]
fn logs_follow_ends_with_daemon_and_works_in_pipe() {
    let home = Home::started();
    let mut follow = spawn(
        home.fullon(["logs", "--lines", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut lines = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains(" ready version="));
    home.run(["status"]).succeeds();
    home.run(["stop"]).succeeds();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(
        rest.iter().any(|line| line.contains("/admin/status")),
        "{rest:#?}"
    );
    assert!(
        rest.iter().any(|line| line.contains(" stopping by=")),
        "{rest:#?}"
    );
    assert_eq!(follow.0.wait().unwrap().code(), Some(0));

    let mut command = home.command("sh");
    let script = format!(
        "{} logs --no-follow | head -n 1",
        env!("CARGO_BIN_EXE_fullon")
    );
    let outcome = crate::support::Outcome::run(command.args(["-c", &script])).succeeds();
    assert_eq!(outcome.stdout.lines().count(), 1);
    assert!(
        !outcome.stderr.contains("panicked") && !outcome.stderr.contains("Broken pipe"),
        "{outcome:#?}"
    );
}

#[test]
fn completions_and_manual_page_list_every_command() {
    let home = Home::new();
    let commands = [
        "start", "stop", "restart", "status", "logs", "run", "token", "config", "openapi",
    ];
    for shell in ["bash", "zsh", "fish"] {
        home.run(["completions", shell])
            .succeeds()
            .stdout_contains(&commands);
    }
    let page = home
        .run(["man"])
        .succeeds()
        .stdout_contains(&commands)
        .stdout;
    for text in [
        "Address of the public port",
        "Number of last lines to print",
        "EXIT STATUS",
        ".SH FILES",
    ] {
        assert!(page.contains(text), "no `{text}` in {page}");
    }
    for setting in &fullon_master_api::config::DEFINITIONS {
        assert!(page.contains(setting.name), "no {} in {page}", setting.name);
    }
    assert!(
        page.contains(".TH fullon 1") && !page.contains("--background"),
        "{page}"
    );
}

#[test]
fn token_made_before_first_start_is_valid() {
    let home = Home::new();
    let token = home.token("admin:read");
    home.run(["start"]).succeeds();
    let headers = [("Authorization", &*format!("Bearer {token}"))];
    assert_eq!(
        crate::support::request(&home.admin_address(), "GET", "/admin/status", &headers, "").status,
        200
    );
    home.run(["token", "--ttl", "2y"]).exits(2);
}

#[test]
fn exit_code_is_the_same_when_stdout_is_closed() {
    let home = Home::new();
    for (name, code) in [("status", 3), ("stop", 1)] {
        let mut command = home.fullon([name]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = command
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{name}");
    }
}

#[test]
fn invalid_env_file_makes_no_token_and_no_key() {
    let home = Home::new();
    std::fs::write(home.path().join(".env"), "JWT_SECRET_KEY, oops\n").unwrap();
    home.run(["token"])
        .exits(2)
        .stderr_contains(&[".env: line 1"]);
    home.run(["--env-file", "missing", "token"])
        .exits(2)
        .stderr_contains(&["missing"]);
    assert!(!home.path().join(".fullon_master_api.key").exists());
}
