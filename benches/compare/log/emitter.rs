//! The program whose log others keep: it prints events as the daemon logs requests.
//!
//! It is a mode of the benchmark's own program.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{event, pace};
use crate::contender::Contender;

/// The first argument that asks for this mode; the file that says how many events there shall be is the second.
pub const MODE: &str = "print-events";
/// Its name, in the contender's directory.
const ORDER: &str = "how-many-events";
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The command, for a contender in this directory.
pub fn command(order: OsString) -> Result<[OsString; 3]> {
    Ok([std::env::current_exe()?.into(), MODE.into(), order])
}

pub fn order_in(directory: &Path) -> PathBuf {
    directory.join(ORDER)
}

/// Lets it begin.
pub fn order(contender: &Contender, events: usize) -> Result<()> {
    let path = order_in(contender.directory());
    let draft = path.with_extension("draft");
    fs::write(&draft, events.to_string())?;
    // Never seen half written.
    Ok(fs::rename(draft, path)?)
}

/// What the program does. It prints a line at once, which tells followers that they are connected.
pub fn run(order: &str) -> Result<()> {
    say("waiting")?;
    let events = loop {
        match fs::read_to_string(order) {
            Ok(events) => break events.parse()?,
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    };
    pace::evenly(events, pace::PAUSE, |number| say(&event::line(number)))
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
