//! Whether the daemon runs in the background, and who supervises it.

use super::supervise::systemd;
use crate::logs::StdoutOptions;

/// Whether the daemon runs in the background.
#[derive(Debug, Clone, Copy)]
pub enum RunMode {
    /// Started by `fullon start`. stdout and stderr are redirected to the log.
    Background,
    /// Started by `fullon run`.
    Foreground {
        /// Set when stdout shows the log.
        stdout: Option<StdoutOptions>,
        /// Whether a parent supervises this process and its successors.
        is_supervised: bool,
    },
}

impl RunMode {
    pub(super) fn is_background(self) -> bool {
        matches!(self, Self::Background)
    }

    /// Whether this process stays to supervise its successor: its parent waits for it, and cannot
    /// learn of another process.
    pub(super) fn must_supervise(self) -> bool {
        matches!(
            self,
            Self::Foreground {
                is_supervised: false,
                ..
            }
        ) && !systemd::has_notify_socket()
    }

    /// Hidden flags of `fullon run` for the successor. Other versions pass and accept them, too.
    pub(super) fn successor_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Background => &["--background", "--successor"],
            Self::Foreground {
                is_supervised: false,
                ..
            } if systemd::has_notify_socket() => &["--go-between"],
            Self::Foreground { .. } => &["--kept", "--successor"],
        }
    }
}
