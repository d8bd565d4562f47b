//! Settings, `.env`, secrets, and the environment of the process.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use super::{
    assert_doctor_finds, assert_findings, program_for_all, random_key, set_mode, subjects,
};
use crate::support::{Home, Outcome, running_as_root};

#[test]
fn invalid_env_file_is_reported_and_all_else_is_checked() {
    let home = Home::new();
    let env = home.path().join(".env");
    fs::write(
        &env,
        "GOOD=1\nLOG_KEEP with hunter2\nPORT=99999\nLOG_LEVEL=loud\n",
    )
    .unwrap();
    let mut home = home;
    home.unset("PORT");
    let edit = format!("edit {}", env.display());
    let outcome = home.run(["doctor", "--json"]);
    assert_findings(
        &outcome,
        2,
        &[
            (
                ".env",
                "error",
                &["line 2: expected NAME=value", "fix the file"],
            ),
            ("settings", "error", &["PORT: `99999`", &edit]),
            ("settings", "error", &["LOG_LEVEL: `loud`", &edit]),
        ],
    );
    assert!(!outcome.stdout.contains("hunter2"), "{outcome:#?}");
    assert_eq!(outcome.json()["configuration_is_valid"], false);
    let subjects = subjects(&outcome);
    assert!(subjects.contains(&"disk".to_owned()));
    let env_findings = subjects.iter().filter(|subject| *subject == ".env");
    assert_eq!(env_findings.count(), 1, ".env is also reported as ok");

    fs::remove_file(&env).unwrap();
    home.set("PORT", "0");
    assert_findings(
        &home.run(["--env-file", "missing", "doctor", "--json"]),
        2,
        &[(
            ".env",
            "error",
            &[
                "missing: cannot be read",
                "pass an existing file to --env-file",
            ],
        )],
    );
    home.set("SHUTDOWN_TIMEOUT", "2h");
    let words = [
        "SHUTDOWN_TIMEOUT: `2h`",
        "change SHUTDOWN_TIMEOUT in the environment",
    ];
    assert_doctor_finds(&home, 2, &[("settings", "error", &words)]);
}

#[test]
fn exposed_or_weak_secret_is_reported() {
    let mut home = Home::new();
    let env = home.path().join(".env");
    fs::write(&env, format!("DB_PASSWORD={}\n", random_key())).unwrap();
    set_mode(&env, 0o604);
    set_mode(home.path(), 0o755);
    let words = ["contains DB_PASSWORD", "mode 604", "chmod 600"];
    assert_doctor_finds(&home, 0, &[(".env", "warning", &words)]);
    fs::write(&env, "DB_PASSWORD=\nDB_NAME=it\n").unwrap();
    assert_doctor_finds(&home, 0, &[]);
    fs::remove_file(env).unwrap();

    home.set("JWT_SECRET_KEY", "your-secret-key");
    assert_doctor_finds(
        &home,
        2,
        &[(
            "signing key",
            "error",
            &["placeholder", "in the environment"],
        )],
    );
    home.set("JWT_SECRET_KEY", "short");
    assert_doctor_finds(
        &home,
        2,
        &[("signing key", "error", &["JWT_SECRET_KEY: has 5 bytes"])],
    );
    home.set("JWT_SECRET_KEY", &"secret".repeat(6));
    let outcome = home.run(["doctor", "--json"]);
    let words = [
        "JWT_SECRET_KEY: repeats a sequence of 6 bytes",
        "openssl rand",
        "in the environment",
    ];
    assert_findings(&outcome, 2, &[("signing key", "error", &words)]);
    assert!(!outcome.stdout.contains("secretsecret"), "{outcome:#?}");

    home.unset("JWT_SECRET_KEY");
    let key = home.path().join(".fullon_master_api.key");
    fs::write(&key, random_key()).unwrap();
    set_mode(&key, 0o640);
    let words = ["is readable by other users (mode 640)", "chmod 600"];
    assert_doctor_finds(&home, 1, &[("signing key", "error", &words)]);
    set_mode(&key, 0o600);
    assert_doctor_finds(&home, 0, &[]);
    fs::write(&key, "1".repeat(64)).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[("signing key", "error", &["is one repeated byte"])],
    );
    fs::write(&key, "short").unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[(
            "signing key",
            "error",
            &["fewer than 32 bytes", "remove the file"],
        )],
    );
    fs::remove_file(&key).unwrap();
    symlink("elsewhere", &key).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[(
            "signing key",
            "error",
            &["cannot be read", "set JWT_SECRET_KEY"],
        )],
    );
}

#[test]
fn origin_without_encryption_is_a_warning() {
    let mut home = Home::new();
    let origins = "https://a.example http://b.example http://127.0.0.1:8080";
    home.set("ADMIN_ORIGINS", origins);
    assert_doctor_finds(
        &home,
        0,
        &[(
            "settings",
            "warning",
            &["ADMIN_ORIGINS: http://b.example sends", "use https"],
        )],
    );
}

#[test]
fn trust_in_everybody_is_a_warning() {
    let mut home = Home::new();
    home.set("TRUSTED_PROXIES", "10.0.0.0/8 0.0.0.0/0");
    assert_doctor_finds(
        &home,
        0,
        &[(
            "settings",
            "warning",
            &["TRUSTED_PROXIES: 0.0.0.0/0 is everybody", "proxies only"],
        )],
    );
}

#[test]
fn works_without_home_directory_or_open_stdout() {
    let home = Home::new();
    let removed = home.path().join("gone");
    fs::create_dir(&removed).unwrap();
    let script = "rmdir ../gone && exec \"$0\" doctor --json";
    let mut command = home.command("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_fullon")])
        .current_dir(&removed);
    assert_findings(
        &Outcome::run(&mut command),
        0,
        &[(
            ".env",
            "warning",
            &["working directory was removed", "cd to"],
        )],
    );

    // A user unknown to the system has no home except HOME.
    if running_as_root("works_without_home_directory_or_open_stdout") {
        set_mode(home.path(), 0o755);
        let mut command = home.command("setpriv");
        command
            .args(["--reuid", "54321", "--clear-groups"])
            .arg(program_for_all(&home))
            .args(["doctor", "--json"])
            .env_remove("HOME")
            .env("LOG_FILE", "-")
            .current_dir("/");
        assert_findings(
            &Outcome::run(&mut command),
            2,
            &[(
                "settings",
                "error",
                &["PID_FILE", "HOME is not set", "set PID_FILE"],
            )],
        );
    }

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.fullon(["doctor"]);
    command.env("PORT", "x");
    let status = command
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
