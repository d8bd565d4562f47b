//! Storage of secrets, permissions on it, and leaks.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use crate::support::{
    Home, OtherServer, Outcome, TestSession, file_mode, request, running_as_root,
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const SECRET: &str = "an-obviously-made-up-secret-of-the-tests";

#[test]
fn world_readable_env_file_with_secret_is_a_warning() {
    let home = Home::new();
    let env = home.path().join(".env");
    home.write_env(&format!("JWT_SECRET_KEY={SECRET}\n"));
    set_mode(&env, 0o644);
    let warning = ["contains JWT_SECRET_KEY", "mode 644", "chmod 600"];
    let warnings = |home: &Home| {
        let status = home.call_admin("GET", "/admin/status").json();
        let mut warnings = status["warnings"].as_array().unwrap().clone();
        // Root may run the tests.
        warnings.retain(|warning| !warning.as_str().unwrap().contains("runs as root"));
        warnings
    };
    // Nobody else can reach the file.
    set_mode(home.path(), 0o700);
    let outcome = home.run(["start"]).succeeds();
    assert!(!outcome.stderr.contains(".env"), "{outcome:?}");
    assert_eq!(warnings(&home), [""; 0]);
    home.run(["stop"]).succeeds();

    set_mode(home.path(), 0o755);
    home.run(["config", "--check"])
        .succeeds()
        .stderr_contains(&warning);
    home.run(["start"]).succeeds().stderr_contains(&warning);
    let [in_log, in_status] = [home.log(), warnings(&home)[0].to_string()];
    for expected in warning {
        assert!(in_log.contains(expected), "{in_log}");
        assert!(in_status.contains(expected), "{in_status}");
    }
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Warning: ", "chmod 600"]);
    home.run(["doctor"]).succeeds().stdout_contains(&[
        "contains JWT_SECRET_KEY",
        "mode 644",
        "chmod 600",
    ]);
    for command in ["reload", "restart"] {
        home.run([command]).succeeds();
    }
    let audit = home.run(["audit"]).succeeds().stdout;
    let exposed = audit.lines().filter(|line| {
        line.contains(" exposed_secret accepted reason=")
            && line.contains(".env: contains JWT_SECRET_KEY and is readable by all users")
    });
    // At the first start, the reload, and the start of the new process.
    assert_eq!(exposed.count(), 3, "{audit}");
    // Group access is allowed: the group may be that of the service.
    set_mode(&env, 0o640);
    assert_eq!(warnings(&home), [""; 0]);
    home.run(["stop"]).succeeds();
    home.write_env("LOG_LEVEL=info\n");
    set_mode(&env, 0o644);
    let outcome = home.run(["start"]).succeeds();
    assert!(!outcome.stderr.contains(".env"), "{outcome:?}");
}

#[test]
fn env_file_that_others_can_replace_is_refused() {
    let home = Home::new();
    let directory = home.path().join("parent/directory");
    fs::create_dir_all(&directory).unwrap();
    let env = directory.join(".env");
    fs::write(&env, "LOG_KEEP=7\n").unwrap();
    set_mode(&env, 0o600);
    let parent = directory.parent().unwrap();
    set_mode(parent, 0o777);
    let refused = |directory: &Path, arguments: &[&str]| {
        let expected = ["parent, which all users can write to", "chmod o-w"];
        run_in_directory(&home, directory, arguments)
            .exits(2)
            .stderr_contains(&expected);
    };
    refused(&directory, &["start"]);
    refused(&directory, &["config"]);
    refused(
        home.path(),
        &["--env-file", env.to_str().unwrap(), "config"],
    );
    // The directory of a link counts, and that of its target.
    let link = home.path().join("link");
    symlink(&directory, &link).unwrap();
    refused(home.path(), &["--env-file", "link/.env", "config"]);
    run_in_directory(&home, &directory, &["status"])
        .exits(3)
        .stderr_contains(&["is ignored"]);
    // In a sticky directory, others can replace only their own files.
    set_mode(parent, 0o1777);
    run_in_directory(&home, &directory, &["config"])
        .succeeds()
        .stdout_contains(&["LOG_KEEP                  7"]);
    set_mode(parent, 0o755);
    set_mode(&env, 0o666);
    run_in_directory(&home, &directory, &["start"])
        .exits(2)
        .stderr_contains(&["writable by all users (mode 666)", "in the environment"]);
}

#[test]
fn key_file_readable_by_others_is_refused() {
    let home = Home::started();
    let key = home.path().join(".fullon_master_api.key");
    assert_eq!(file_mode(&key), 0o600);
    home.run(["stop"]).succeeds();
    for exposed in [0o640, 0o604, 0o660] {
        set_mode(&key, exposed);
        home.run(["start"])
            .exits(1)
            .stderr_contains(&["is readable by other users", "chmod 600"]);
        home.run(["token"]).exits(1).stderr_contains(&["chmod 600"]);
    }
    set_mode(&key, 0o600);
    home.run(["start"]).succeeds();
}

#[test]
fn guessable_key_is_refused() {
    let mut home = Home::new();
    for weak in [
        "a".repeat(32),
        "changeme".repeat(4),
        "super-secret-jwt-token-with-at-least-32-characters-long".into(),
        "your-256-bit-secret-your-256-bit-secret".into(),
        "my-super-secret-jwt-key-for-fullon-api".into(),
    ] {
        home.set("JWT_SECRET_KEY", &weak);
        for command in [&["start"][..], &["config", "--check"]] {
            let outcome = home.run(command.iter().copied()).exits(2);
            assert!(!outcome.stderr.contains(&weak), "{outcome:?}");
            outcome.stderr_contains(&["JWT_SECRET_KEY", "can be guessed", "openssl rand"]);
        }
        home.unset("JWT_SECRET_KEY");
        let key = home.path().join(".fullon_master_api.key");
        fs::write(&key, &weak).unwrap();
        set_mode(&key, 0o600);
        for command in ["start", "token"] {
            let outcome = home.run([command]).exits(1);
            assert!(!outcome.stderr.contains(&weak), "{outcome:?}");
            outcome.stderr_contains(&["can be guessed", "remove the file"]);
        }
        fs::remove_file(key).unwrap();
    }
    home.run(["start"]).succeeds();
    home.write_env(&format!("JWT_SECRET_KEY={}\n", "z".repeat(40)));
    home.run(["reload"])
        .exits(2)
        .stderr_contains(&["JWT_SECRET_KEY", "can be guessed"]);
}

#[test]
fn state_file_readable_by_others_is_ignored() {
    let home = Home::started();
    let state = home.path().join(".fullon_master_api.pid.state");
    assert_eq!(file_mode(&state), 0o600);
    set_mode(&state, 0o644);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["readable by other users", "restart"]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["by SIGTERM"]);
}

#[test]
fn planted_links_in_shared_directory_are_not_followed() {
    let mut home = Home::new();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o1777);
    let precious = home.path().join("precious");
    fs::write(&precious, "as it was").unwrap();
    let pid_file = shared.join("it.pid");
    let log = shared.join("it.log");
    home.set("PID_FILE", pid_file.to_str().unwrap());
    home.set("LOG_FILE", log.to_str().unwrap());
    for (planted, is_replaced) in [
        ("it.pid", false),
        ("it.log", false),
        ("it.pid.state", true),
        ("it.pid.state.new", true),
        ("it.log.1", true),
    ] {
        let planted = shared.join(planted);
        symlink(&precious, &planted).unwrap();
        let outcome = home.run(["start"]);
        if is_replaced {
            outcome.succeeds();
            home.run(["restart", "--pid-file", pid_file.to_str().unwrap()])
                .succeeds();
            home.run(["stop"]).succeeds();
        } else {
            outcome.exits(1);
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
        let _ = fs::remove_file(planted);
    }
    home.run(["start"]).succeeds();
    for file in [&pid_file, &log, &shared.join("it.pid.state")] {
        assert_eq!(file_mode(file), 0o600, "{}", file.display());
    }
    home.run(["stop"]).succeeds();
}

#[test]
fn files_of_another_user_are_left_unchanged() {
    if !running_as_root("files of another user") {
        return;
    }
    let mut home = Home::new();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o1777);
    for (setting, name) in [("PID_FILE", "it.pid"), ("LOG_FILE", "it.log")] {
        let file = shared.join(name);
        fs::write(&file, "1234567890").unwrap();
        chown(&file, Some(65534), Some(65534)).unwrap();
        home.set(setting, file.to_str().unwrap());
        // The kernel may refuse it before we do (`fs.protected_regular`).
        home.run(["start"]).exits(1).stderr_contains(&[name]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "1234567890");
        home.unset(setting);
    }
}

/// Runs a command in this directory, so that its `.env` is found there.
fn run_in_directory(home: &Home, directory: &Path, arguments: &[&str]) -> Outcome {
    let mut command = home.fullon(arguments.iter().copied());
    command.current_dir(directory).env_remove("ADMIN_PORT");
    Outcome::run(&mut command)
}

#[test]
fn env_file_of_another_user_is_ignored() {
    if !running_as_root("a file of another user") {
        return;
    }
    let nobody = Some(65534);
    let home = Home::started();
    let other_server = OtherServer::start();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let (env, link) = (shared.join(".env"), shared.join("linked"));
    let settings = format!(
        "ADMIN_PORT={}\nPID_FILE=/there/is/none\n",
        other_server.port()
    );
    fs::write(&env, &settings).unwrap();
    let shown = env.display().to_string();
    let pid = home.daemon().unwrap().pid().to_string();
    let is_passed_over = |expected: &[&str]| {
        run_in_directory(&home, &shared, &["status"])
            .succeeds()
            .stdout_contains(&["Running", &pid])
            .stderr_contains(expected);
        for command in ["start", "config", "token"] {
            run_in_directory(&home, &shared, &[command])
                .exits(2)
                .stderr_contains(expected);
        }
        run_in_directory(&home, &shared, &["doctor"])
            .exits(2)
            .stdout_contains(&["chmod go-w"]);
        assert!(other_server.requests.try_recv().is_err());
    };
    chown(&env, nobody, nobody).unwrap();
    is_passed_over(&[&shown, "belongs to nobody (mode 644)", "--env-file"]);
    chown(&env, Some(0), Some(0)).unwrap();
    set_mode(&env, 0o646);
    is_passed_over(&[&shown, "all users (mode 646)", "chmod go-w"]);
    // A link of another user to a file of ours.
    set_mode(&env, 0o600);
    fs::rename(&env, &link).unwrap();
    symlink(&link, &env).unwrap();
    lchown(&env, nobody, nobody).unwrap();
    is_passed_over(&[&shown, "belongs to nobody", "--env-file"]);

    // An explicit `--env-file` is accepted.
    fs::remove_file(&env).unwrap();
    chown(&link, nobody, nobody).unwrap();
    run_in_directory(&home, &shared, &["--env-file", "linked", "config"])
        .succeeds()
        .stdout_contains(&["/there/is/none"]);
    // A file of root is accepted.
    fs::rename(&link, &env).unwrap();
    chown(&env, Some(0), nobody).unwrap();
    set_mode(&env, 0o640);
    run_in_directory(&home, &shared, &["config"])
        .succeeds()
        .stdout_contains(&["/there/is/none"]);
}

#[test]
fn fifo_in_place_of_env_file_blocks_nothing() {
    let home = Home::started();
    let env = home.path().join(".env");
    nix::unistd::mkfifo(&env, nix::sys::stat::Mode::S_IRWXU).unwrap();
    home.run(["config"])
        .exits(2)
        .stderr_contains(&[".env", "not a regular file"]);
    home.run(["status"])
        .succeeds()
        .stderr_contains(&["not a regular file"]);
}

#[test]
fn file_with_second_hard_link_is_refused() {
    let home = Home::new();
    let precious = home.path().join("precious");
    // Valid as a key, and as a PID.
    let text = &"1".repeat(50);
    fs::write(&precious, text).unwrap();
    set_mode(&precious, 0o600);
    for planted in [
        ".fullon_master_api.key",
        ".fullon_master_api.pid",
        "fullon.log",
    ] {
        let planted = home.path().join(planted);
        fs::hard_link(&precious, &planted).unwrap();
        let shown = planted.display().to_string();
        home.run(["start"])
            .exits(1)
            .stderr_contains(&[&shown, "more than one hard link"]);
        assert_eq!(&fs::read_to_string(&precious).unwrap(), text);
        fs::remove_file(planted).unwrap();
    }
    home.run(["start"]).succeeds();
    let state = home.path().join(".fullon_master_api.pid.state");
    fs::hard_link(state, home.path().join("another")).unwrap();
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["more than one hard link", "restart"]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["by SIGTERM"]);
}

#[test]
fn file_that_writing_would_refuse_is_not_read_as_log() {
    let home = Home::new();
    let precious = home.path().join("precious");
    fs::write(&precious, format!("{SECRET}\n")).unwrap();
    set_mode(&precious, 0o600);
    home.run(["start"]).succeeds();
    // A neighbour can make a hard link in a shared directory.
    for planted in ["fullon.log.1", "fullon.log.2", "fullon.log-20260101"] {
        fs::hard_link(&precious, home.path().join(planted)).unwrap();
    }
    let page = home.call_admin("GET", "/admin/logs?lines=1000");
    assert!(page.body.contains("ready") && !page.body.contains(SECRET));
    let is_hidden = || {
        let logs = ["logs", "--no-follow", "--lines", "1000"];
        let outcome = home.run(logs).succeeds();
        assert!(!outcome.stdout.contains(SECRET), "{outcome:?}");
        assert!(outcome.stdout.contains(" ready "), "{outcome:?}");
    };
    is_hidden();
    home.run(["stop"]).succeeds();
    is_hidden();
    let log = home.path().join("fullon.log");
    fs::remove_file(&log).unwrap();
    fs::hard_link(&precious, &log).unwrap();
    home.run(["logs", "--no-follow"])
        .exits(1)
        .stderr_contains(&["more than one hard link"]);
}

#[test]
fn secrets_appear_nowhere() {
    let mut home = Home::new();
    let password = "an-obviously-made-up-password";
    home.set("DB_PASSWORD", password);
    home.set("LOG_LEVEL", "trace");
    home.write_env(&format!(
        "JWT_SECRET_KEY={SECRET}\nREDIS_PASSWORD={password}\n"
    ));
    home.run(["start"]).succeeds();
    let token = home.token("admin:read admin:logs admin:control");
    let mut seen = String::new();
    for path in [
        "/admin/status",
        "/admin/config",
        "/admin/metrics",
        "/admin/logs?lines=1000",
        "/admin/nothing",
    ] {
        seen += &home.call_admin_as(&token, "GET", path).body;
    }
    let signed_in = home.call_admin_as(&token, "POST", "/admin/session");
    let session = TestSession::from(&signed_in);
    let cookie = session.cookie.split_once('=').unwrap().1;
    let followed = format!("/admin/logs/stream?ticket={}", session.ticket);
    let headers = [("Cookie", session.cookie.as_str())];
    request(&home.admin_address(), "HEAD", &followed, &headers, "");
    // Refused, but neither logged nor repeated.
    for path in ["/admin/status", "/admin/logs/stream"] {
        let path = format!("{path}?ticket={}&x=1", session.ticket);
        seen += &home.call_admin_as(&token, "GET", &path).body;
    }
    // A refused token must not be logged either.
    let broken = format!("{token}x");
    seen += &home.call_admin_as(&broken, "POST", "/admin/stop").body;
    for arguments in [
        &["status"][..],
        &["config"],
        &["--json", "config"],
        &["doctor"],
        &["reload"],
        &["restart"],
        &["logs", "--no-follow", "--lines", "1000"],
    ] {
        let outcome = home.run(arguments.iter().copied()).succeeds();
        seen += &outcome.stdout;
        seen += &outcome.stderr;
    }
    let daemon = home.daemon().unwrap().pid();
    seen += &fs::read_to_string(format!("/proc/{daemon}/cmdline")).unwrap();
    let limits = fs::read_to_string(format!("/proc/{daemon}/limits")).unwrap();
    assert!(limits.contains("Max core file size        1 "), "{limits}");
    home.write_env(&format!(
        "JWT_SECRET_KEY=short\nREDIS_PASSWORD={password}\nBROKEN {password}\n"
    ));
    let refused = home.run(["reload"]).exits(2);
    seen += &refused.stdout;
    seen += &refused.stderr;
    home.run(["stop"]).succeeds();
    seen += &home.log();
    seen += &fs::read_to_string(home.path().join(".fullon_master_api.pid.state")).unwrap();
    for secret in [
        SECRET,
        password,
        &token,
        cookie,
        &session.session,
        &session.ticket,
    ] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    // Nor does the signature alone.
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!seen.contains(signature));
}
