//! Status and configuration.

use crate::support::Home;

#[test]
fn status_has_every_documented_field() {
    let home = Home::started();
    let status = home.call_admin("GET", "/admin/status").json();
    let names = [
        "service",
        "version",
        "phase",
        "pid",
        "instance",
        "generation",
        "started_at",
        "uptime_seconds",
        "server",
        "docs",
        "health",
        "admin",
        "pid_file",
        "log_file",
        "log_level",
        "process",
        "http",
        "checks",
    ];
    for name in names {
        assert!(!status[name].is_null(), "{name}");
    }
    let state = home.state();
    assert_eq!(
        (&status["phase"], &status["pid"]),
        (&"ready".into(), &state.pid.into())
    );
    assert_eq!(status["instance"], state.instance);
    for name in ["rss_bytes", "open_files", "threads"] {
        assert!(status["process"][name].as_u64().unwrap() > 0, "{name}");
    }
    assert_eq!(status["http"]["in_flight"], 1);
    assert_eq!(status["checks"][0]["name"], "log");
}

#[test]
fn config_masks_secrets_and_shows_sources() {
    let mut home = Home::new();
    home.set("DB_PASSWORD", "hunter2hunter2");
    std::fs::write(home.path().join(".env"), "LOG_KEEP=3\n").unwrap();
    home.run(["start", "--shutdown-timeout", "3s"]).succeeds();
    let answer = home.call_admin("GET", "/admin/config");
    assert!(!answer.body.contains("hunter2"));
    let settings = answer.json();
    let find = |name: &str| {
        let entry = settings
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name)
            .unwrap();
        (
            entry["value"].as_str().map(str::to_owned),
            entry["source"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        find("DB_PASSWORD"),
        (Some("******".into()), "environment".into())
    );
    assert_eq!(find("SHUTDOWN_TIMEOUT"), (Some("3s".into()), "flag".into()));
    assert_eq!(
        find("LOG_KEEP"),
        (
            Some("3".into()),
            home.path().join(".env").display().to_string()
        )
    );
    assert_eq!(find("LOG_FORMAT"), (Some("text".into()), "default".into()));
    assert_eq!(find("REDIS_HOST").0, None);
}
