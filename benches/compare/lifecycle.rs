//! Times start, status and stop of a contender from the spawn of the command.

use std::ffi::OsString;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::contender::{Contender, Measurements};
use crate::processes::{self, Process};
use crate::{health, interrupt};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Polling, because no event reports that a port is listened on.
const POLL_INTERVAL: Duration = Duration::from_micros(100);
/// After `start` has returned, a response that takes longer counts as too late.
const IMMEDIATE_LIMIT: Duration = Duration::from_millis(100);

pub struct StartTiming {
    /// From the spawn of the command to the first 200.
    pub time_to_healthy: Duration,
    /// A request after the return of the command received no immediate response.
    pub returned_early: bool,
}

/// A contender that runs. Its processes are killed on drop.
pub struct Running<'a> {
    contender: &'a Contender,
    start: Child,
}

impl<'a> Running<'a> {
    /// Starts a contender and requests `/health` until it is healthy.
    pub fn start(contender: &'a Contender) -> Result<(Self, StartTiming)> {
        ensure!(
            !health::is_healthy(contender.port),
            "somebody else answers on its port {}",
            contender.port
        );
        let mut command = contender.command(&contender.start)?;
        let started_at = Instant::now();
        let start = command
            .spawn()
            .with_context(|| format!("{}", contender.start[0].display()))?;
        let mut running = Self { contender, start };
        let timing = running
            .wait_until_healthy(started_at)
            .with_context(|| contender.output_tail())?;
        Ok((running, timing))
    }

    /// Starts a contender that does not serve `/health`. Waits until the start command succeeds.
    pub fn start_without_probe(contender: &'a Contender) -> Result<Self> {
        let start = contender.command(&contender.start)?.spawn()?;
        let mut running = Self { contender, start };
        let status = wait_for_command(&mut running.start)?;
        ensure_success("the start command", status).with_context(|| contender.output_tail())?;
        Ok(running)
    }

    fn wait_until_healthy(&mut self, started_at: Instant) -> Result<StartTiming> {
        let port = self.contender.port;
        let mut returned_early = false;
        let until_served = loop {
            let has_returned = self.start.try_wait()?;
            if let Some(status) = has_returned {
                ensure_success("the start command", status)?;
            }
            let requested_at = Instant::now();
            let is_served = health::is_healthy(port);
            returned_early |=
                has_returned.is_some() && !(is_served && requested_at.elapsed() <= IMMEDIATE_LIMIT);
            if is_served {
                break started_at.elapsed();
            }
            ensure!(
                started_at.elapsed() < COMMAND_TIMEOUT,
                "/health does not answer"
            );
            interrupt::check()?;
            thread::sleep(POLL_INTERVAL);
        };
        if self.contender.measurements != Measurements::Load {
            let status = wait_for_command(&mut self.start)?;
            ensure_success("the start command", status)?;
            let requested_at = Instant::now();
            returned_early |=
                !(health::is_healthy(port) && requested_at.elapsed() <= IMMEDIATE_LIMIT);
        }
        Ok(StartTiming {
            time_to_healthy: until_served,
            returned_early,
        })
    }

    /// Duration of the status command, for contenders that have one.
    pub fn status(&self) -> Result<Option<Duration>> {
        let Some(arguments) = &self.contender.status else {
            return Ok(None);
        };
        let started_at = Instant::now();
        let mut child = self.spawn(arguments)?;
        let status = wait_for_command(&mut child)?;
        let took = started_at.elapsed();
        ensure_success("the status command", status)
            .with_context(|| self.contender.output_tail())?;
        Ok(Some(took))
    }

    /// Duration from the spawn of the stop command until all processes have exited.
    pub fn stop(self) -> Result<Duration> {
        let Some(arguments) = &self.contender.stop else {
            bail!("it has no stop command");
        };
        let processes = processes::find_in_directory(self.contender.directory())?;
        ensure!(!processes.is_empty(), "none of its processes was found");
        let started_at = Instant::now();
        let mut child = self.spawn(arguments)?;
        let has_exited = processes::wait_for_exit(&processes, COMMAND_TIMEOUT)?;
        let took = started_at.elapsed();
        let status = wait_for_command(&mut child)?;
        ensure_success("the stop command", status).with_context(|| self.contender.output_tail())?;
        ensure!(has_exited, "it did not stop");
        Ok(took)
    }

    fn spawn(&self, arguments: &[OsString]) -> Result<Child> {
        Ok(self.contender.command(arguments)?.spawn()?)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let directory = self.contender.directory();
        match processes::kill_all_in_directory(directory) {
            Ok(true) => {}
            Ok(false) => eprintln!("\n*** LEFT RUNNING: processes in {}\n", directory.display()),
            Err(error) => eprintln!("\n*** {} was not ended: {error}\n", self.contender.name),
        }
        // The child has exited by now. This reaps it.
        let _ = self.start.try_wait();
    }
}

/// Waits until a command exits. Kills it after [`COMMAND_TIMEOUT`].
pub fn wait_for_command(child: &mut Child) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let process = [Process::from_child(child)?];
    let is_in_time = processes::wait_for_exit(&process, COMMAND_TIMEOUT)?;
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
