//! Tests of the PID file.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::lock::lock_request;
use super::*;

#[test]
fn second_acquire_fails_and_drop_removes_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    assert!(matches!(
        inspect_pid_file(&path).unwrap(),
        PidFileStatus::Absent
    ));

    let mut held = PidFile::acquire(&path).unwrap();
    held.claim().unwrap();
    match inspect_pid_file(&path).unwrap() {
        PidFileStatus::Held(LockHolder::Known(process)) => {
            assert_eq!(process.pid(), std::process::id());
        }
        other => panic!("{other:?}"),
    }
    match PidFile::acquire(&path) {
        Err(PidFileError::AlreadyRunning(pid)) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(held);
    assert!(!path.exists());
}

#[test]
fn inherited_lock_outlives_first_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let first = PidFile::acquire(&path).unwrap();
    let mut second = PidFile::inherit(&path, &path, first.clone_lock().unwrap()).unwrap();
    second.claim().unwrap();
    first.disown();
    assert!(matches!(
        PidFile::acquire(&path),
        Err(PidFileError::AlreadyRunning(_))
    ));
    drop(second);
    assert!(!path.exists());
}

#[test]
fn failed_successor_leaves_file_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let mut first = PidFile::acquire(&path).unwrap();
    first.claim().unwrap();
    drop(PidFile::inherit(&path, &path, first.clone_lock().unwrap()).unwrap());
    assert_eq!(first.recorded_pid(), Some(std::process::id()));
    let elsewhere = directory.path().join("other");
    assert!(matches!(
        PidFile::inherit(&elsewhere, &path, first.clone_lock().unwrap()),
        Err(PidFileError::PathChanged { .. })
    ));
}

#[test]
fn holder_is_found_despite_wrong_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let held = PidFile::acquire(&path).unwrap();
    for text in [
        "1\n",
        "garbage",
        "",
        "99999999999999999999",
        "-5",
        "4194304",
    ] {
        fs::write(&path, text).unwrap();
        let PidFileStatus::Held(LockHolder::Known(process)) = inspect_pid_file(&path).unwrap()
        else {
            panic!("{text}");
        };
        assert_eq!(process.pid(), std::process::id(), "{text}");
    }
    // As after a crash.
    held.disown();
    // A program that another test starts has the lock until it begins.
    let is_stale = || {
        matches!(
            inspect_pid_file(&path).unwrap(),
            PidFileStatus::Stale(Some(4_194_304))
        )
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_stale() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn malformed_pid_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    for (text, pid) in [
        ("0012\n\n", Some(12)),
        (&" ".repeat(100), None),
        (&format!("{}1234", " ".repeat(62)), None),
        ("+5", None),
        ("0", None),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(read_recorded_pid(&path), pid, "{text:?}");
    }
}

#[test]
fn whole_file_lock_is_not_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let file = File::create(&path).unwrap();
    let whole_file = libc::flock {
        l_start: 0,
        l_len: 0,
        ..lock_request()
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file)).unwrap();
    fs::write(&path, std::process::id().to_string()).unwrap();
    assert!(matches!(
        inspect_pid_file(&path),
        Err(PidFileError::LockedByOtherProgram(_))
    ));
    assert!(matches!(
        PidFile::acquire(&path),
        Err(PidFileError::LockedByOtherProgram(_))
    ));
}
