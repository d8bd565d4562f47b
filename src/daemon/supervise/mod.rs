//! The parent of the daemon: systemd, or another process of this program.

pub mod init;
pub mod systemd;
