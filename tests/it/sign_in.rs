//! One-time tokens, and the console address that contains one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use serde_json::json;

use crate::support::jwt::made_up_secret;
use crate::support::{Home, OtherServer, Outcome, Response, TestSession, eventually, request};

fn one_time_token(home: &Home) -> String {
    let response = home.call_admin("POST", "/admin/session/token");
    assert_eq!(response.status, 201, "{response:#?}");
    let response = response.json();
    assert_eq!(response["expires_in_seconds"], 60);
    response["token"].as_str().unwrap().to_owned()
}

fn sign_in(home: &Home, token: &str) -> Response {
    home.call_admin_as(token, "POST", "/admin/session")
}

/// The token in the console address.
fn token_in_address(address: &str) -> &str {
    let (_, token) = address.trim().split_once("/console#token=").unwrap();
    token
}

#[test]
fn one_time_token_signs_in_exactly_once() {
    let home = Home::started();
    let token = one_time_token(&home);
    let answers: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| sign_in(&home, &token).status))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1);
    assert!(answers.iter().all(|status| [201, 401].contains(status)));
    sign_in(&home, &token).assert_problem(401, "run `fullon token`");
    eventually("both sign-ins are audited", || {
        let log = home.log();
        log.contains("action=\"sign_in_token\" outcome=\"accepted\"")
            && log.contains("action=\"sign_in\" outcome=\"accepted\"")
            && log.contains("action=\"sign_in\" outcome=\"refused\"")
    });
}

#[test]
fn one_time_token_only_signs_in_and_is_never_written() {
    let mut home = Home::new();
    home.set("LOG_LEVEL", "TRACE");
    home.run(["start"]).succeeds();
    let token = one_time_token(&home);
    for (method, path) in [
        ("GET", "/admin/status"),
        ("GET", "/admin/session"),
        ("POST", "/admin/session/token"),
        ("POST", "/admin/stop"),
    ] {
        assert_eq!(
            home.call_admin_as(&token, method, path).status,
            401,
            "{path}"
        );
    }
    // None of these requests has used it up.
    let signed_in = sign_in(&home, &token);
    assert_eq!(signed_in.status, 201);
    let session = TestSession::from(&signed_in);
    let call = |method, path| session.request(&home.admin_address(), method, path);
    let own = call("GET", "/admin/session");
    assert_eq!(own.status, 200);
    assert_eq!(
        own.json()["scopes"],
        json!(["admin:read", "admin:logs", "admin:control"])
    );
    // Otherwise a session could renew itself forever.
    let renewal = call("POST", "/admin/session/token");
    assert_eq!(renewal.status, 401);
    let sign_out = call("DELETE", "/admin/session");
    assert_eq!(sign_out.status, 204);
    call("GET", "/admin/session").assert_problem(401, "sign in again");

    home.run(["stop"]).succeeds();
    for entry in fs::read_dir(home.path()).unwrap().flatten() {
        if let Ok(bytes) = fs::read(entry.path()) {
            let is_there = bytes
                .windows(token.len())
                .any(|part| part == token.as_bytes());
            assert!(!is_there, "{}", entry.path().display());
        }
    }
}

#[test]
fn restart_invalidates_one_time_token() {
    let home = Home::started();
    let token = one_time_token(&home);
    home.run(["restart"]).succeeds();
    assert_eq!(sign_in(&home, &token).status, 401);
}

#[test]
fn key_change_and_shorter_grace_invalidate_one_time_token() {
    let [old, new] = ["old", "new"].map(made_up_secret);
    for grace in ["0", "10m"] {
        let home = Home::new();
        let key = |key: &str, grace: &str| {
            home.write_env(&format!(
                "JWT_SECRET_KEY={key}\nJWT_SECRET_KEY_GRACE={grace}\n"
            ));
        };
        key(&old, grace);
        home.run(["start"]).succeeds();
        let before = one_time_token(&home);
        // A reload without these changes keeps it.
        home.run(["reload"]).succeeds();
        assert_eq!(sign_in(&home, &before).status, 201);
        let (before, old_token) = (one_time_token(&home), home.token("admin:control"));
        key(&new, grace);
        home.run(["reload"]).succeeds();
        let shown = home.call_admin_as(&before, "GET", "/admin/session/token");
        assert_eq!(shown.status, 401);
        assert_eq!(sign_in(&home, &before).status, 401);
        let response = home.call_admin_as(&old_token, "POST", "/admin/session/token");
        if grace == "0" {
            assert_eq!(response.status, 401);
            continue;
        }
        let response = response.json()["token"].as_str().unwrap().to_owned();
        key(&new, "0");
        home.run(["reload"]).succeeds();
        assert_eq!(sign_in(&home, &response).status, 401);
    }
}

#[test]
fn too_many_one_time_tokens_drop_only_own_ones() {
    let home = Home::started();
    let outcome = home.run(["token", "--subject", "other"]).succeeds();
    let other = home.call_admin_as(outcome.stdout.trim(), "POST", "/admin/session/token");
    let token = home.token("admin:control");
    for _ in 0..70 {
        let response = home.call_admin_as(&token, "POST", "/admin/session/token");
        assert_eq!(response.status, 201);
    }
    let signed_in = sign_in(&home, other.json()["token"].as_str().unwrap());
    assert_eq!(signed_in.json()["subject"], "other");
}

#[test]
fn console_command_prints_address_with_chosen_scopes() {
    let home = Home::started();
    let outcome = home.run(["console", "--scope", "admin:logs"]).succeeds();
    let session = sign_in(&home, token_in_address(&outcome.stdout));
    assert_eq!(session.json()["scopes"], json!(["admin:logs"]));
    let outcome = home.run(["--json", "console"]).succeeds();
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let address = value["address"].as_str().unwrap();
    assert!(address.starts_with(&format!("http://{}/console#", home.admin_address())));
    assert_eq!(sign_in(&home, token_in_address(address)).status, 201);

    // Through a tunnel, the address of the daemon itself would be useless or belong to another
    // program.
    let relay = OtherServer::start();
    relay.relay_to(&home.admin_address());
    let tunnel = format!("http://127.0.0.1:{}", relay.port());
    // A browser may find another program at `localhost`.
    let named = tunnel.replace("127.0.0.1", "localhost");
    let outcome = home.run(["--admin-url", &named, "console"]).succeeds();
    let expected = format!("{tunnel}/console#token=");
    assert!(outcome.stdout.starts_with(&expected), "{}", outcome.stdout);

    home.run(["stop"]).succeeds();
    home.run(["console"])
        .exits(1)
        .stderr_contains(&["not running", "fullon start"]);
}

#[test]
fn browser_opens_private_file_with_token() {
    let home = Home::started();
    let browser = home.path().join("browser");
    let seen = home.path().join("seen");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{0}.arguments\nstat -c %a \"$1\" >{0}.mode\ncp \"$1\" {0}.page\n: >{0}\n",
        seen.display()
    );
    fs::write(&browser, script).unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    let open = |program: &str| {
        let mut command = home.fullon(["console", "--open"]);
        command
            .env("BROWSER", program)
            .env("XDG_RUNTIME_DIR", home.path());
        Outcome::run(&mut command).succeeds()
    };
    let outcome = open(browser.to_str().unwrap());
    let address = outcome.stdout.trim();
    eventually("the browser was started", || seen.exists());
    let read = |what: &str| fs::read_to_string(seen.with_extension(what)).unwrap();
    assert_eq!(read("mode").trim(), "600");
    let page = read("page");
    let (_, rest) = page.split_once("#token=").unwrap();
    let token = &rest[..64];
    assert!(!read("arguments").contains(token));
    assert_eq!(token, token_in_address(address));
    assert_eq!(sign_in(&home, token).status, 201);

    // Without a browser, the printed address still works.
    let outcome = open("/there/is/no/browser");
    assert!(outcome.stderr.contains("/there/is/no/browser"));
    assert_eq!(
        sign_in(&home, token_in_address(&outcome.stdout)).status,
        201
    );
    let html_files = fs::read_dir(home.path()).unwrap().flatten();
    let html_files =
        html_files.filter(|entry| entry.file_name().to_string_lossy().ends_with(".html"));
    assert_eq!(html_files.count(), 1);
}

#[test]
fn console_files_are_public_and_have_strict_headers() {
    let home = Home::started();
    let get = |path: &str| request(&home.admin_address(), "GET", path, &[], "");
    for short in ["/", "/admin"] {
        let answer = get(short);
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some("console"))
        );
    }
    let page = get("/console");
    assert_eq!(page.status, 200);
    let parts: Vec<_> = page
        .body
        .split('"')
        .filter(|text| text.starts_with("console/"))
        .collect();
    assert!(parts.len() >= 3, "{parts:?}");
    for path in parts.into_iter().chain(["console", "console/log.js"]) {
        let answer = get(&format!("/{path}"));
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
        assert!(policy.ends_with("; require-trusted-types-for 'script'; trusted-types 'none'"));
        assert_eq!(answer.header("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(answer.header("cache-control").unwrap(), "no-store");
    }
    let posted = request(&home.admin_address(), "POST", "/console", &[], "");
    posted.assert_problem(405, "/console");
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
}
