//! The program whose log the rivals keep. It prints events as the daemon logs requests.
//!
//! A mode of the benchmark's program.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::output::print_line;
use super::{event, pace};
use crate::contender::Contender;

/// The first argument of this mode. The second is the file that will contain the number of events.
pub const MODE: &str = "print-events";
/// The name of that file in the contender's directory.
const REQUEST_FILE: &str = "how-many-events";
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The command line of the emitter.
pub fn command_line(request: OsString) -> Result<[OsString; 3]> {
    Ok([std::env::current_exe()?.into(), MODE.into(), request])
}

pub fn request_file(directory: &Path) -> PathBuf {
    directory.join(REQUEST_FILE)
}

/// Makes the emitter print events.
pub fn request_events(contender: &Contender, events: usize) -> Result<()> {
    let path = request_file(contender.directory());
    let draft = path.with_extension("draft");
    fs::write(&draft, events.to_string())?;
    // The emitter never sees a partial file.
    Ok(fs::rename(draft, path)?)
}

/// Runs this mode. The first line shows followers that they are connected.
pub fn run(request: &str) -> Result<()> {
    print_line("waiting")?;
    let events = loop {
        match fs::read_to_string(request) {
            Ok(events) => break events.parse()?,
            Err(_) => thread::sleep(POLL_INTERVAL),
        }
    };
    pace::run_evenly(events, pace::EVENT_INTERVAL, |number| {
        print_line(&event::access_line(number))
    })
}
