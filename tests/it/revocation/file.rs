//! The file of revoked tokens: full, unreadable, or on a full disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};

use fullon_master_api::config::Secret;
use serde_json::json;

use super::{ALL, assert_accepted, assert_revoked, call, file, revoke, revoke_token};
use crate::doctor::{as_nobody, home_of_nobody, set_mode};
use crate::support::{Home, Outcome, jwt, running_as_root};

#[test]
fn full_list_asks_for_revoke_all() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", jwt::SECRET);
    let key = fullon_master_api::auth::key_id(&home.key());
    let entry = |number: usize| {
        let exp = "2500-01-01T00:00:00Z";
        if number < 9_000 {
            return json!({ "jti": number.to_string(), "exp": exp });
        }
        // Any digest will do.
        let digest = fullon_master_api::auth::key_id(&Secret::new(number.to_string()));
        json!({ "digest": digest, "exp": exp, "key": key })
    };
    let tokens: Vec<_> = (0..10_000).map(entry).collect();
    let list = json!({ "tokens": tokens }).to_string();
    fs::write(file(&home), &list).unwrap();
    fs::set_permissions(file(&home), Permissions::from_mode(0o600)).unwrap();
    home.run(["start"]).succeeds();
    let token = home.token(ALL);
    revoke(&home, &json!({ "token": token })).assert_problem(409, "--revoke-all");
    home.run(["token", "--revoke", &token])
        .exits(1)
        .stderr_contains(&["10000 tokens are revoked already", "--revoke-all"]);
    assert_accepted(&home, &token);
    assert_eq!(fs::read_to_string(file(&home)).unwrap(), list);
    // One that is listed already needs no room.
    assert_eq!(revoke(&home, &json!({ "jti": "7" })).status, 200);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", "another"])
        .exits(1)
        .stderr_contains(&["--revoke-all"]);
    home.run(["start"]).succeeds();
    home.run(["token", "--revoke-all"]).succeeds();
    assert_revoked(&home, &token);
    // The ids are kept, because they could be those of tokens from a clock that is ahead.
    revoke(&home, &json!({ "jti": "another" })).assert_problem(409, "9000 ids");
    let token = home.token(ALL);
    revoke_token(&home, &token);
    assert_revoked(&home, &token);
}

/// Another user could have removed it.
#[test]
fn file_that_was_removed_refuses_tokens() {
    let home = Home::started();
    let [revoked, other] = [(); 2].map(|()| home.token(ALL));
    revoke_token(&home, &revoked);
    fs::remove_file(file(&home)).unwrap();
    for token in [&revoked, &other] {
        call(&home, token).assert_problem(401, "file of revoked tokens cannot be read");
    }
    home.run(["status"]).succeeds().stdout_contains(&[
        "Warning:",
        "it was removed",
        "--revoke-all",
    ]);
    home.run(["token", "--revoke", &other])
        .exits(1)
        .stderr_contains(&["nothing was revoked", "it was removed"]);
    assert!(!file(&home).exists());
    home.run(["token", "--revoke-all"]).succeeds();
    assert_eq!(call(&home, &revoked).status, 401);
    assert_accepted(&home, &home.token(ALL));
}

/// It remembers that there was one.
#[test]
fn file_that_was_removed_refuses_tokens_in_the_next_process() {
    let home = Home::started();
    let [revoked, other] = [(); 2].map(|()| home.token(ALL));
    revoke_token(&home, &revoked);
    fs::remove_file(file(&home)).unwrap();
    let assert_refused = || {
        for token in [&revoked, &other] {
            call(&home, token).assert_problem(401, "file of revoked tokens cannot be read");
        }
        let texts = ["it was removed", "--revoke-all"];
        home.run(["status"]).succeeds().stdout_contains(&texts);
        home.run(["doctor"]).exits(1).stdout_contains(&texts);
    };
    home.restart();
    assert_refused();
    home.run(["restart", "--hard"]).succeeds();
    assert_refused();
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(crate::support::DEADLINE));
    let start = home.run(["start"]).succeeds();
    start.stderr_contains(&["file of revoked tokens", "it was removed"]);
    assert_refused();
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", &other])
        .exits(1)
        .stderr_contains(&["nothing was revoked", "it was removed"]);
    home.run(["token", "--revoke-all"]).succeeds();
    home.run(["start"]).succeeds();
    assert_eq!(call(&home, &revoked).status, 401);
    assert_accepted(&home, &home.token(ALL));
    home.run(["doctor"]).succeeds();
}

#[test]
fn directory_that_a_group_can_write_is_reported() {
    if !running_as_root("a directory of another group") {
        return;
    }
    let home = Home::new();
    chown(home.path(), None, Some(12345)).unwrap();
    set_mode(home.path(), 0o775);
    let texts = ["the group 12345 can write", "chmod g-w"];
    home.run(["start"]).succeeds().stderr_contains(&texts);
    home.run(["status"]).succeeds().stdout_contains(&texts);
    home.run(["doctor"]).stdout_contains(&texts);
    assert!(home.log().contains(texts[0]));
    // The group of this user alone.
    chown(home.path(), None, Some(0)).unwrap();
    set_mode(home.path(), 0o775);
    let quiet = home.run(["status"]).succeeds();
    assert!(!quiet.stdout.contains("can write"), "{quiet:#?}");
}

#[test]
fn directory_that_all_users_can_write_is_reported() {
    let home = Home::new();
    set_mode(home.path(), 0o777);
    let texts = [
        "other users can remove the signing key and the file of revoked tokens",
        "chmod o-w",
    ];
    home.run(["start"]).succeeds().stderr_contains(&texts);
    home.run(["status"]).succeeds().stdout_contains(&texts);
    home.run(["doctor"]).stdout_contains(&texts);
    assert!(home.log().contains(texts[0]));
    set_mode(home.path(), 0o755);
    let quiet = home.run(["status"]).succeeds();
    assert!(!quiet.stdout.contains(texts[0]), "{quiet:#?}");
}

#[test]
fn unreadable_file_refuses_tokens_of_configured_key() {
    let home = Home::started();
    let [revoked, other] = [(); 2].map(|()| home.token(ALL));
    revoke_token(&home, &revoked);
    let good = fs::read(file(&home)).unwrap();
    let assert_refused = |reason: &str| {
        call(&home, &other).assert_problem(401, "file of revoked tokens cannot be read");
        // Local commands sign with another key.
        home.run(["status"]).succeeds().stdout_contains(&[
            "Warning:",
            "file of revoked tokens",
            reason,
        ]);
        home.run(["doctor"])
            .exits(1)
            .stdout_contains(&["revoked tokens", reason]);
        home.run(["token", "--revoke", &other])
            .exits(1)
            .stderr_contains(&["nothing was revoked", reason, "--revoke-all"]);
    };
    fs::write(file(&home), "{").unwrap();
    assert_refused("EOF");
    home.restart();
    assert_refused("EOF");
    fs::write(file(&home), &good).unwrap();
    assert_accepted(&home, &other);
    assert_revoked(&home, &revoked);
    fs::set_permissions(file(&home), Permissions::from_mode(0o666)).unwrap();
    assert_refused("other users can write it");
    fs::set_permissions(file(&home), Permissions::from_mode(0o600)).unwrap();
    assert_accepted(&home, &other);
    fs::remove_file(file(&home)).unwrap();
    fs::create_dir(file(&home)).unwrap();
    assert_refused("not a regular file");
    fs::remove_dir(file(&home)).unwrap();
    if running_as_root("a file of another user") {
        fs::write(file(&home), &good).unwrap();
        chown(file(&home), Some(12345), None).unwrap();
        assert_refused("another user");
        chown(file(&home), Some(0), None).unwrap();
    }
    home.run(["doctor"]).succeeds();
}

/// Nobody can fill or damage the file so that the last resort fails.
#[test]
fn unreadable_file_is_replaced_when_all_tokens_are_revoked() {
    for with_daemon in [true, false] {
        let mut home = Home::new();
        home.set("JWT_SECRET_KEY", jwt::SECRET);
        home.run(["start"]).succeeds();
        let revoked = home.token(ALL);
        revoke_token(&home, &revoked);
        fs::write(file(&home), " ".repeat(17 * 1024 * 1024)).unwrap();
        call(&home, &revoked).assert_problem(401, "file of revoked tokens cannot be read");
        if !with_daemon {
            home.run(["stop"]).succeeds();
        }
        home.run(["token", "--revoke-all"]).succeeds();
        if !with_daemon {
            home.run(["start"]).succeeds();
        }
        assert_revoked(&home, &revoked);
        assert_accepted(&home, &home.token(ALL));
    }
}

/// An obstacle to writing the file stands for any error of the disk.
#[test]
fn failed_write_changes_nothing() {
    if !running_as_root("failed_write_changes_nothing") {
        return;
    }
    // A daemon of root could write to any directory.
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let token = home.token(ALL);
    let key_file = home.path().join(".fullon_master_api.key");
    let key = fs::read_to_string(&key_file).unwrap();
    let nothing_changes = || {
        for request in [json!({ "all": true }), json!({ "token": token })] {
            revoke(&home, &request).assert_problem(500, "nothing was revoked");
        }
        assert_accepted(&home, &token);
    };
    let lock = home.path().join(".fullon_master_api.revoked.lock");
    fs::create_dir(&lock).unwrap();
    nothing_changes();
    fs::remove_dir(lock).unwrap();
    set_mode(home.path(), 0o555);
    nothing_changes();
    set_mode(home.path(), 0o755);
    assert_eq!(fs::read_to_string(&key_file).unwrap(), key);
    assert!(
        home.log()
            .contains("action=\"revoke_tokens\" outcome=\"failed\"")
    );
    home.run(["token", "--revoke", &token]).succeeds();
    assert_revoked(&home, &token);
}

#[test]
fn full_disk_changes_nothing() {
    if !running_as_root("a full disk") {
        return;
    }
    let home = Home::new();
    // Without a daemon: the disk is that of the home directory, in a namespace of the command.
    let script = r#"
mount -t tmpfs -o size=64k tmpfs "$HOME"
cd "$HOME"
export LOG_FILE=- AUDIT_FILE=
"$0" token > token
cp .fullon_master_api.key key
"$0" token --revoke some-id
cp .fullon_master_api.revoked revoked
dd if=/dev/zero of=filler bs=1k 2>/dev/null || true
dd if=/dev/zero of=filler-2 bs=1 2>/dev/null || true
for arguments in "--revoke -" --revoke-all; do
    if "$0" token $arguments < token; then echo "it succeeded"; exit 3; fi
done
cmp key .fullon_master_api.key
cmp revoked .fullon_master_api.revoked
ls -A
"#;
    let mut command = home.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .arg(env!("CARGO_BIN_EXE_fullon"));
    let outcome = Outcome::run(&mut command)
        .succeeds()
        .stderr_contains(&["nothing was revoked", "No space left"]);
    assert_eq!(outcome.stderr.matches("nothing was revoked").count(), 2);
    assert!(!outcome.stdout.contains(".new"), "{outcome:#?}");
}
