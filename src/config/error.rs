//! Problems with settings.

use std::fmt;

use thiserror::Error;

use crate::sys::{is_ephemeral_port, is_root_of_machine};

/// One problem with a setting or with a file of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// Name of a setting, or path of an `.env` file.
    pub setting: String,
    /// The mistake and how to fix it. Never contains the value of a secret.
    pub message: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

/// A weakness of the settings that keeps nothing from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingWarning {
    pub kind: SettingWarningKind,
    /// Path of a file, or names of variables.
    pub subject: String,
    /// The problem. Never contains the value of a secret.
    pub message: String,
    /// How to fix it.
    pub next_step: String,
}

impl fmt::Display for SettingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.message, self.next_step)
    }
}

/// The kind of a [`SettingWarning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingWarningKind {
    /// All users can read a file that contains a secret.
    ExposedSecret,
    /// A line of `.env` that is not valid and does not name a setting.
    InvalidLine,
    /// Variables that Kubernetes or Docker set for a service with the name of a dependency.
    ServiceLinks,
    /// A name that looks like a setting and is none.
    UnknownName,
    /// The daemon is root.
    Root,
    /// The system may give the port to a client.
    EphemeralPort,
}

/// The warning of a daemon, the process with this PID, that has all rights on the machine.
#[must_use]
pub fn root_warning(daemon: u32) -> Option<SettingWarning> {
    is_root_of_machine(daemon).then(|| SettingWarning {
        kind: SettingWarningKind::Root,
        subject: "daemon".into(),
        message: "runs as root, so a fault in it or in an application that it serves has all rights on this machine".into(),
        next_step: "run it as a user of its own (docs/systemd.md); a port below 1024 needs only CAP_NET_BIND_SERVICE".into(),
    })
}

/// The warning of a port that the system may give to a connection of any program. 0 is no such port.
#[must_use]
pub fn ephemeral_port_warning(setting: &str, port: u16) -> Option<SettingWarning> {
    is_ephemeral_port(port).then(|| SettingWarning {
        kind: SettingWarningKind::EphemeralPort,
        subject: setting.into(),
        message: format!("while no daemon runs, the system may give port {port} to a connection of any program, and then no daemon starts"),
        next_step: format!("set {setting} to a port outside of net.ipv4.ip_local_port_range, or add {port} to net.ipv4.ip_local_reserved_ports with sysctl"),
    })
}

/// All problems of a configuration.
#[derive(Debug, Error)]
pub struct InvalidSettings(pub Vec<SettingProblem>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
