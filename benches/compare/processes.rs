//! The processes of a contender, held by pidfds: a signal cannot meet a stranger who got the same number later.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use memchr::memmem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take to be gone, and how often it is tried with those that a supervisor started
/// meanwhile.
const KILL_LIMIT: Duration = Duration::from_secs(2);
const KILL_PASSES: u32 = 5;

/// One process, which may have ended since.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    handle: OwnedFd,
}

impl Process {
    fn open(pid: Pid) -> io::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, handle })
    }

    /// A child that was not waited for yet.
    pub fn of_child(child: &Child) -> io::Result<Self> {
        Self::open(Pid::from_child(child))
    }

    /// Its directory in `/proc`.
    pub fn proc(&self) -> PathBuf {
        proc(self.pid)
    }

    /// Ends it, if it did not end by itself.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

fn proc(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The processes that belong to a contender: they work in its directory, or were started with it in their environment.
/// One of both holds for every daemon, and no PID file has to be trusted.
pub fn within(directory: &Path) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if !belongs(pid, directory) {
            continue;
        }
        match Process::open(pid) {
            // Looked at again, now that the number cannot change hands.
            Ok(process) if belongs(pid, directory) => found.push(process),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn belongs(pid: Pid, directory: &Path) -> bool {
    let works_there =
        fs::read_link(proc(pid).join("cwd")).is_ok_and(|path| path.starts_with(directory));
    // What cannot be read is a stranger's, or gone.
    works_there
        || fs::read(proc(pid).join("environ")).is_ok_and(|environment| {
            memmem::find(&environment, directory.as_os_str().as_bytes()).is_some()
        })
}

/// Waits until all have ended. Returns whether they did so in time.
pub fn wait_until_gone(processes: &[Process], limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let mut waiting: Vec<&Process> = processes.iter().collect();
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|process| PollFd::new(&process.handle, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let is_there: Vec<bool> = polled.iter().map(|fd| fd.revents().is_empty()).collect();
        let mut is_there = is_there.into_iter();
        waiting.retain(|_| is_there.next().unwrap_or(false));
    }
    Ok(true)
}

/// Kills whatever belongs to a contender. Returns whether nothing is left.
pub fn end_all_within(directory: &Path) -> io::Result<bool> {
    for _ in 0..KILL_PASSES {
        let found = within(directory)?;
        if found.is_empty() {
            return Ok(true);
        }
        found.iter().for_each(Process::kill);
        wait_until_gone(&found, KILL_LIMIT)?;
    }
    Ok(within(directory)?.is_empty())
}

/// The number behind a label in a file of `/proc`.
pub fn field(path: &Path, label: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{} has no {label}", path.display()))
}

/// Places of the time in the program and in the system, behind the name in `/proc/PID/stat` (`proc_pid_stat(5)`).
const TIME_COLUMNS: [usize; 2] = [11, 12];
/// The unit of both; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// How many seconds a process has run, by its directory in `/proc`.
pub fn processor_seconds(proc: &Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(proc.join("stat"))?;
    let (_, behind) = text.rsplit_once(") ").context("no name in stat")?;
    let columns: Vec<&str> = behind.split(' ').collect();
    let mut ticks = 0;
    for column in TIME_COLUMNS {
        let text = columns.get(column).context("stat is short")?;
        ticks += text.parse::<u32>()?;
    }
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}
