//! Fuzz targets of the PID file, the state file and the handoff.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::pid_file::{format_pid, parse_pid};
use super::{HandoffPayload, StartupReport, StateFile, StoredSecret};
use crate::config::Secret;

/// The content of a PID file.
pub fn pid_file(bytes: &[u8]) {
    if let Some(pid) = parse_pid(bytes) {
        let text = std::str::from_utf8(bytes).unwrap().trim();
        assert!(pid > 0);
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(text.trim_start_matches('0'), pid.to_string());
    }
    if let Some(number) = bytes.first_chunk() {
        let number = u32::from_le_bytes(*number);
        let text = format_pid(number);
        assert_eq!(parse_pid(text.as_bytes()), (number > 0).then_some(number));
    }
}

/// The content of a state file.
pub fn state_file(bytes: &[u8]) {
    const KEY: &str = "key of a fuzzed daemon";
    let Ok(state) = StateFile::parse(bytes) else {
        return;
    };
    let json = serde_json::to_vec(&state).unwrap();
    let again = StateFile::parse(&*json).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), json);
    let state = StateFile {
        owner_uid: 0,
        instance_key: StoredSecret::new(Secret::new(KEY.to_owned())),
        ..state
    };
    assert!(!format!("{state:?}").contains(KEY));
}

/// The messages of two daemons during a handoff.
pub fn handoff(bytes: &[u8]) {
    /// The limit for quoted text, with escapes.
    const MAX_SHOWN: usize = 2_000;
    let line = String::from_utf8_lossy(bytes);
    if let Err(reason) = HandoffPayload::check_hello(&line) {
        assert!(reason.len() <= MAX_SHOWN);
    }
    if let Ok(announcement) = StartupReport::parse(&line) {
        let json = serde_json::to_string(&announcement).unwrap();
        assert_eq!(StartupReport::parse(&json).unwrap(), announcement);
    }
    // The capacity of the socket.
    let sent = &bytes[..bytes.len().min(100_000)];
    let (mut parent, child) = UnixStream::pair().unwrap();
    parent.write_all(sent).unwrap();
    parent.shutdown(Shutdown::Write).unwrap();
    assert!(
        HandoffPayload::receive(&child).is_err(),
        "there is no descriptor"
    );
}
