//! The daemon whose log is measured.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::http::Connection;
use crate::contender::Contender;
use crate::ports::Ports;
use crate::rivals;

/// A log of any size here is below it.
const NEVER_ROTATED: &str = "100GiB";

/// A daemon with a log file of its own, which is not rotated.
pub fn contender(ports: &mut Ports, log: &Path) -> Result<Contender> {
    rivals::fullon_with(
        ports,
        [
            ("LOG_FILE", log.into()),
            ("LOG_MAX_SIZE", NEVER_ROTATED.into()),
        ],
    )
}

/// The same, with the log in its own directory.
pub fn contender_of_its_own(ports: &mut Ports) -> Result<Contender> {
    rivals::fullon_with(ports, [("LOG_MAX_SIZE", NEVER_ROTATED.into())])
}

/// Where its log is when it has no other.
pub fn log_file(contender: &Contender) -> PathBuf {
    contender.directory().join("daemon.log")
}

/// A token for the admin API, made as an operator makes one.
pub fn token(contender: &Contender) -> Result<String> {
    let program = contender.start.first().context("an empty command")?;
    let command: [OsString; 2] = [program.clone(), "token".into()];
    let output = contender
        .command(&command)?
        .stdout(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), contender.said());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A kept connection to its admin API.
pub fn admin(contender: &Contender) -> Result<Connection> {
    Connection::open(contender.admin_port, Some(token(contender)?))
}
