//! The processes of a contender. Pidfds ensure that a signal cannot reach another process that got
//! the same PID later.

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

const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// A supervisor may start further processes while the first are killed.
const KILL_PASSES: u32 = 5;

/// A process that may have exited.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    fn open(pid: Pid) -> io::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd: handle })
    }

    /// A child that has not been waited for.
    pub fn from_child(child: &Child) -> io::Result<Self> {
        Self::open(Pid::from_child(child))
    }

    pub fn proc_directory(&self) -> PathBuf {
        proc(self.pid)
    }

    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

fn proc(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The processes of a contender: those whose working directory is within `directory`, or whose
/// environment contains it. One of both is true for each daemon, so no PID file has to be trusted.
pub fn find_in_directory(directory: &Path) -> io::Result<Vec<Process>> {
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
            // Checked again: the pidfd keeps the PID from being reused.
            Ok(process) if belongs(pid, directory) => found.push(process),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn belongs(pid: Pid, directory: &Path) -> bool {
    let has_working_directory =
        fs::read_link(proc(pid).join("cwd")).is_ok_and(|path| path.starts_with(directory));
    // An unreadable environment belongs to another user or to a process that has exited.
    has_working_directory
        || fs::read(proc(pid).join("environ")).is_ok_and(|environment| {
            memmem::find(&environment, directory.as_os_str().as_bytes()).is_some()
        })
}

/// Waits until all have exited. Returns whether they did so within `limit`.
pub fn wait_for_exit(processes: &[Process], limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let mut waiting: Vec<&Process> = processes.iter().collect();
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|process| PollFd::new(&process.pidfd, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let is_running: Vec<bool> = polled.iter().map(|fd| fd.revents().is_empty()).collect();
        let mut is_running = is_running.into_iter();
        waiting.retain(|_| is_running.next().unwrap_or(false));
    }
    Ok(true)
}

/// Kills all processes of a contender. Returns whether none is left.
pub fn kill_all_in_directory(directory: &Path) -> io::Result<bool> {
    for _ in 0..KILL_PASSES {
        let found = find_in_directory(directory)?;
        if found.is_empty() {
            return Ok(true);
        }
        found.iter().for_each(Process::kill);
        wait_for_exit(&found, KILL_TIMEOUT)?;
    }
    Ok(find_in_directory(directory)?.is_empty())
}

/// Reads the number after a label in a file of `/proc`.
pub fn read_number(path: &Path, label: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{} has no {label}", path.display()))
}

/// The columns `utime` and `stime` after the name in `/proc/PID/stat` (`proc_pid_stat(5)`).
const TIME_COLUMNS: [usize; 2] = [11, 12];
/// The unit of both columns, which is the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the process with this directory in `/proc`, in seconds.
pub fn cpu_seconds(proc: &Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(proc.join("stat"))?;
    let (_, columns) = text.rsplit_once(") ").context("no name in stat")?;
    let columns: Vec<&str> = columns.split(' ').collect();
    let mut ticks = 0;
    for column in TIME_COLUMNS {
        let text = columns.get(column).context("stat is short")?;
        ticks += text.parse::<u32>()?;
    }
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}
