//! The next step when an address cannot be bound.

use std::fmt;
use std::io;

/// Explains why an address cannot be bound, and what to do: the error, the name and PID of the process
/// that listens there, if known, and the setting of the port.
pub struct BindAdvice<'a>(pub &'a io::Error, pub Option<&'a str>, pub &'a str);

impl fmt::Display for BindAdvice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error, owner, setting) = self;
        match (error.kind(), owner) {
            (io::ErrorKind::AddrInUse, Some(owner)) => {
                write!(
                    f,
                    ": {owner} already listens there; stop that process or choose another {setting}"
                )
            }
            (io::ErrorKind::AddrInUse, None) => write!(
                f,
                "; `sudo ss -ltnp` shows the process that listens there; stop that process or choose another {setting}"
            ),
            (io::ErrorKind::PermissionDenied, _) => write!(
                f,
                "; ports below 1024 need CAP_NET_BIND_SERVICE: choose another {setting}"
            ),
            _ => {
                let host = setting.replace("PORT", "HOST");
                write!(f, "; set {host} to an address of this machine")
            }
        }
    }
}
