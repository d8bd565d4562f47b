//! Files of another user are not part of the trail.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::stat::Mode;

use super::{audit_file, fill_up, is_intact, last_seq, records_in, rotated_file, write_records};
use crate::doctor::{as_nobody, home_of_nobody};
use crate::listener_proof::OTHER_USER;
use crate::support::{Home, Outcome, running_as_root};

/// In `/tmp`, anybody can take the name of a rotated file.
#[test]
fn files_of_others_with_rotated_names_are_skipped() {
    if !running_as_root("files_of_others_with_rotated_names_are_skipped") {
        return;
    }
    let home = home_of_nobody();
    let name = |number: u32| PathBuf::from(format!("{}.{number}", audit_file(&home).display()));
    let take_names = || {
        fs::write(name(1), "").unwrap();
        fs::set_permissions(name(1), Permissions::from_mode(0o000)).unwrap();
        symlink("/etc/shadow", name(2)).unwrap();
        drop(UnixListener::bind(name(3)).unwrap());
        nix::unistd::mkfifo(&name(7), Mode::empty()).unwrap();
    };
    let run = |arguments: &[&str]| Outcome::run(&mut as_nobody(&home, arguments));
    let notice = format!(
        "{} is not part of the audit trail: it belongs to another user",
        name(1).display()
    );
    // Before the first record there is nothing else to continue.
    take_names();
    run(&["doctor"]).stdout_contains(&[&notice]);
    run(&["start"]).succeeds();
    run(&["reload"]).succeeds();
    assert_eq!(records_in(&audit_file(&home)).len(), 1);
    run(&["status"])
        .succeeds()
        .stdout_contains(&["Warning:", &notice]);
    run(&["doctor"]).succeeds().stdout_contains(&[&notice]);
    run(&["audit"])
        .succeeds()
        .stdout_contains(&["1 ", "reload"]);
    let report = run(&["audit", "--verify", "--json"]).succeeds().json();
    assert_eq!(report["ignored"].as_array().unwrap().len(), 4, "{report:#}");
    run(&["audit", "--verify"])
        .succeeds()
        .stdout_contains(&[&notice, "Intact: 1 record, 1 to 1"]);
    let page = home.call_admin("GET", "/admin/audit");
    assert_eq!(page.status, 200, "{page:#?}");
    // An empty current file is continued from a rotated one.
    fill_up(&audit_file(&home), 10 * 1024 * 1024);
    run(&["reload"]).succeeds();
    assert_eq!(records_in(&audit_file(&home)).len(), 1);
    assert_eq!(records_in(&name(4)).len() as u64, last_seq(&home) - 1);
    run(&["stop"]).succeeds();
    run(&["audit", "--verify"])
        .succeeds()
        .stdout_contains(&["Intact"]);
}

/// With all names but one, another user would have all older records removed.
#[test]
fn names_taken_by_others_remove_no_records() {
    if !running_as_root("names_taken_by_others_remove_no_records") {
        return;
    }
    let home = Home::started();
    let path = audit_file(&home);
    home.run(["reload"]).succeeds();
    for number in (1..=1000).filter(|number| *number != 500) {
        let name = rotated_file(&home, number);
        fs::write(&name, "").unwrap();
        chown(&name, Some(OTHER_USER), None).unwrap();
    }
    for _ in 0..2 {
        fill_up(&path, 10 * 1024 * 1024);
        home.run(["reload"]).succeeds();
    }
    assert_eq!(records_in(&rotated_file(&home, 500))[0]["seq"], 1);
    let status = home.run(["status"]).succeeds();
    status.stdout_contains(&["cannot rotate the audit file, which keeps growing"]);
    assert!(home.log().contains("cannot rotate the audit file"));
    assert_eq!(is_intact(&home)["first_seq"], 1);
    fs::remove_file(rotated_file(&home, 1)).unwrap();
    home.run(["reload"]).succeeds();
    assert_eq!(records_in(&path).len(), 1);
    assert_eq!(is_intact(&home)["first_seq"], 1);
    let status = home.run(["status"]).succeeds();
    assert!(!status.stdout.contains("cannot rotate"), "{status:#?}");
}

/// A file that the daemon would refuse to write to is not shown as its trail.
#[test]
fn forged_trail_of_another_user_is_not_read() {
    if !running_as_root("forged_trail_of_another_user_is_not_read") {
        return;
    }
    let home = Home::new();
    let path = audit_file(&home);
    let rotated = PathBuf::from(format!("{}.1", path.display()));
    write_records(&path, 3);
    chown(&path, Some(OTHER_USER), None).unwrap();
    let all: [&[&str]; 2] = [&["audit"], &["audit", "--verify"]];
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["belongs to another user", "AUDIT_FILE"]);
    }
    fs::rename(&path, &rotated).unwrap();
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["does not exist"]);
    }
    // Beside a trail of this user, it adds nothing.
    write_records(&path, 1);
    let report = is_intact(&home);
    assert_eq!(report["records"], 1, "{report:#}");
    assert_eq!(report["ignored"][0]["path"], rotated.to_str().unwrap());
    fs::remove_file(&rotated).unwrap();
    fs::hard_link(&path, &rotated).unwrap();
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["has more than one hard link"]);
    }
    fs::remove_file(&rotated).unwrap();
    // root reads the trail of a service in its directory.
    chown(&path, Some(OTHER_USER), None).unwrap();
    chown(home.path(), Some(OTHER_USER), None).unwrap();
    assert_eq!(is_intact(&home)["records"], 1);
}

/// The user of a daemon may name any file in its state file, such as one of another program.
#[test]
fn audit_file_that_a_state_file_of_another_user_names_is_not_read() {
    if !running_as_root("audit_file_that_a_state_file_of_another_user_names_is_not_read") {
        return;
    }
    let mut home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    home.run(["reload"]).succeeds();
    let own = audit_file(&home);
    let elsewhere = home.path().join("elsewhere");
    home.set("AUDIT_FILE", elsewhere.to_str().unwrap());
    // The daemon reads its file, and root does not.
    home.run(["audit"])
        .succeeds()
        .stdout_contains(&["1 ", "reload", "token_id="]);
    home.run(["audit", "--verify"])
        .exits(1)
        .stderr_contains(&["state file of nobody", "sudo -u nobody -H fullon audit"]);
    home.set("AUDIT_FILE", own.to_str().unwrap());
    home.run(["audit", "--verify"])
        .succeeds()
        .stdout_contains(&["Intact: 1 record, 1 to 1"]);
    Outcome::run(&mut as_nobody(&home, &["stop"])).succeeds();
}
