//! The daemon whose log is measured.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::http::Connection;
use crate::contender::Contender;
use crate::ports::Ports;
use crate::rivals;

const NEVER_ROTATED: &str = "100GiB";

/// A daemon with this log file, which is not rotated.
pub fn contender(ports: &mut Ports, log: &Path) -> Result<Contender> {
    rivals::fullon_with(
        ports,
        [
            ("LOG_FILE", log.into()),
            ("LOG_MAX_SIZE", NEVER_ROTATED.into()),
        ],
    )
}

/// The same with the log in the contender's directory.
pub fn contender_with_own_log(ports: &mut Ports) -> Result<Contender> {
    rivals::fullon_with(ports, [("LOG_MAX_SIZE", NEVER_ROTATED.into())])
}

/// The log of [`contender_with_own_log`].
pub fn log_file(contender: &Contender) -> PathBuf {
    contender.directory().join("daemon.log")
}

/// A token for the admin API, from `fullon token`.
pub fn token(contender: &Contender) -> Result<String> {
    let program = contender.start.first().context("an empty command")?;
    let command: [OsString; 2] = [program.clone(), "token".into()];
    let output = contender
        .command(&command)?
        .stdout(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), contender.output_tail());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A kept connection to the admin API.
pub fn admin(contender: &Contender) -> Result<Connection> {
    Connection::open(contender.admin_port, Some(token(contender)?))
}
