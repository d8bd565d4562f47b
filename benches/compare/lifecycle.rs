//! Start, status and stop of one contender, timed from the spawn of the command.

use std::ffi::OsString;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::contender::{Contender, Measured};
use crate::processes::{self, Process};
use crate::{health, interrupt};

/// Whoever takes longer has failed.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a port on which nobody listens yet: there is no event to wait for.
const POLL_PAUSE: Duration = Duration::from_micros(100);
/// An answer that takes longer than this once `start` has returned was not there "at once".
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a start showed.
pub struct Started {
    /// From the spawn of the command to the first 200.
    pub until_served: Duration,
    /// The command had returned, and a request after that was not answered at once.
    pub returned_early: bool,
}

/// A contender that runs. Dropped, all its processes are ended.
pub struct Running<'a> {
    contender: &'a Contender,
    /// The start command.
    start: Child,
}

impl<'a> Running<'a> {
    /// Starts it, and asks for `/health` until there is an answer.
    pub fn start(contender: &'a Contender) -> Result<(Self, Started)> {
        ensure!(
            !health::is_served(contender.port),
            "somebody else answers on its port {}",
            contender.port
        );
        let mut command = contender.command(&contender.start)?;
        let begun = Instant::now();
        let start = command
            .spawn()
            .with_context(|| format!("{}", contender.start[0].display()))?;
        let mut running = Self { contender, start };
        let started = running.watch_start(begun);
        started
            .with_context(|| contender.said())
            .map(|started| (running, started))
    }

    /// Starts one that does not answer `/health`: waits until the start command has succeeded.
    pub fn launch(contender: &'a Contender) -> Result<Self> {
        let start = contender.command(&contender.start)?.spawn()?;
        let mut running = Self { contender, start };
        let status = end_of(&mut running.start)?;
        ensure_success("the start command", status).with_context(|| contender.said())?;
        Ok(running)
    }

    fn watch_start(&mut self, begun: Instant) -> Result<Started> {
        let port = self.contender.port;
        let mut returned_early = false;
        let until_served = loop {
            let has_returned = self.start.try_wait()?;
            if let Some(status) = has_returned {
                ensure_success("the start command", status)?;
            }
            let asked = Instant::now();
            let is_served = health::is_served(port);
            returned_early |= has_returned.is_some() && !(is_served && asked.elapsed() <= AT_ONCE);
            if is_served {
                break begun.elapsed();
            }
            ensure!(begun.elapsed() < COMMAND_LIMIT, "/health does not answer");
            interrupt::check()?;
            thread::sleep(POLL_PAUSE);
        };
        if self.contender.measured != Measured::Load {
            let status = end_of(&mut self.start)?;
            ensure_success("the start command", status)?;
            let asked = Instant::now();
            returned_early |= !(health::is_served(port) && asked.elapsed() <= AT_ONCE);
        }
        Ok(Started {
            until_served,
            returned_early,
        })
    }

    /// How long the status command takes, for contenders that have one.
    pub fn status(&self) -> Result<Option<Duration>> {
        let Some(arguments) = &self.contender.status else {
            return Ok(None);
        };
        let begun = Instant::now();
        let mut child = self.spawn(arguments)?;
        let status = end_of(&mut child)?;
        let took = begun.elapsed();
        ensure_success("the status command", status).with_context(|| self.contender.said())?;
        Ok(Some(took))
    }

    /// How long it takes from the spawn of the stop command until no process is left.
    pub fn stop(self) -> Result<Duration> {
        let Some(arguments) = &self.contender.stop else {
            bail!("it has no stop command");
        };
        let processes = processes::within(self.contender.directory())?;
        ensure!(!processes.is_empty(), "none of its processes was found");
        let begun = Instant::now();
        let mut child = self.spawn(arguments)?;
        let is_gone = processes::wait_until_gone(&processes, COMMAND_LIMIT)?;
        let took = begun.elapsed();
        let status = end_of(&mut child)?;
        ensure_success("the stop command", status).with_context(|| self.contender.said())?;
        ensure!(is_gone, "it did not stop");
        Ok(took)
    }

    fn spawn(&self, arguments: &[OsString]) -> Result<Child> {
        Ok(self.contender.command(arguments)?.spawn()?)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let directory = self.contender.directory();
        match processes::end_all_within(directory) {
            Ok(true) => {}
            Ok(false) => eprintln!("\n*** LEFT RUNNING: processes in {}\n", directory.display()),
            Err(error) => eprintln!("\n*** {} was not ended: {error}\n", self.contender.name),
        }
        // It has ended by now, and is only taken off the system's list.
        let _ = self.start.try_wait();
    }
}

/// Waits for a command to end; kills it when it takes too long.
pub fn end_of(child: &mut Child) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let process = [Process::of_child(child)?];
    let is_in_time = processes::wait_until_gone(&process, COMMAND_LIMIT)?;
    if !is_in_time {
        process[0].kill();
    }
    let status = child.wait()?;
    ensure!(is_in_time, "a command does not end");
    Ok(status)
}

fn ensure_success(what: &str, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "{what} failed ({status})");
    Ok(())
}
