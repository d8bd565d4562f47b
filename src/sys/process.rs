//! Processes. Every signal and every wait goes through a pidfd, so it cannot reach a later process
//! that got the same PID.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::file::is_same_file;
use super::procfs::Stat;
use super::text::is_hidden;

/// Whether the process has the rights of root, and root is not another user outside of this user
/// namespace (`user_namespaces(7)`).
pub(crate) fn is_root_of_machine(pid: u32) -> bool {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    // The users as this process sees them.
    let status = read(format!("/proc/{pid}/status"));
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved and file system user.
    let is_root = users.and_then(|users| users.split_whitespace().nth(1)) == Some("0");
    // First user in the namespace, first user outside, number of users.
    let map = read("/proc/self/uid_map".into());
    let mut ranges = map.lines().map(|line| line.split_whitespace());
    let of_root = ranges.find_map(|mut range| (range.next() == Some("0")).then(|| range.next()));
    is_root && of_root.flatten().is_none_or(|outside| outside == "0")
}

/// Resident memory in bytes, and processor time, of all descendants of a process.
pub(crate) fn usage_below(ancestor: &Process) -> (u64, Duration) {
    Process::all()
        .filter(|process| process.descends_from(ancestor))
        .filter_map(|process| Stat::read(process.pid()))
        .fold((0, Duration::ZERO), |(memory, cpu), stat| {
            (memory + stat.memory(), cpu + stat.cpu())
        })
}

/// A process, identified by its pidfd.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process with this PID; `None` when there is none.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        Some(Self { pid, pidfd })
    }

    /// The process with this PID, whose pidfd another process opened.
    pub(crate) fn from_pidfd(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// All processes of the machine.
    pub fn all() -> impl Iterator<Item = Self> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::open)
    }

    /// Duplicates the pidfd.
    ///
    /// # Errors
    ///
    /// No descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_pidfd(self.pid, self.pidfd.try_clone()?))
    }

    /// The PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Name and PID, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = fs::read(self.proc_path("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        // A process names itself.
        let name = name.trim().replace(is_hidden, "\u{fffd}");
        let name = if name.is_empty() { "a process" } else { &name };
        format!("{name} (PID {})", self.pid)
    }

    /// Whether it has exited. A zombie has, even if its parent never collects it.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.wait_for_exit(Duration::ZERO)
    }

    /// Returns once it has exited. Must be awaited within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The pidfd cannot be polled.
    pub async fn exited(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; a borrow cannot"
        )]
        let pidfd = AsyncFd::with_interest(self.pidfd.as_fd(), Interest::READABLE)?;
        pidfd.readable().await.map(drop)
    }

    /// Blocks until it has exited, for at most `timeout`. Returns whether it has.
    #[must_use]
    pub fn wait_for_exit(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            });
            match poll(
                &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
                Some(&timeout),
            ) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Requests it to stop (SIGTERM), and wakes it if it is suspended, so that it can.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(Signal::TERM)?;
        self.send_signal(Signal::CONT)
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(Signal::KILL)
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Whether it is suspended (SIGSTOP, Ctrl-Z).
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        let status = fs::read_to_string(self.proc_path("status")).unwrap_or_default();
        !self.has_exited() && status.lines().any(|line| line.starts_with("State:\tT"))
    }

    /// Whether it has the file open with a lock whose line in `proc_pid_fdinfo(5)` fulfils
    /// `is_lock`. Not if the system hides it, because it belongs to another user.
    #[must_use]
    pub fn holds_lock(&self, file: &fs::Metadata, is_lock: impl Fn(&str) -> bool) -> bool {
        let is_file = |descriptor: &Path| {
            fs::metadata(descriptor).is_ok_and(|open| is_same_file(&open, file))
        };
        self.find_lock(is_file, is_lock).is_some()
    }

    /// The path of the file that it has open with such a lock, as in `proc_pid_fd(5)`: that of a
    /// removed file ends with ` (deleted)`.
    #[must_use]
    pub fn locked_file(&self, is_lock: impl Fn(&str) -> bool) -> Option<PathBuf> {
        fs::read_link(self.find_lock(|_| true, is_lock)?).ok()
    }

    /// The descriptor, as a path in `/proc`, of a file with such a lock.
    fn find_lock(
        &self,
        is_file: impl Fn(&Path) -> bool,
        is_lock: impl Fn(&str) -> bool,
    ) -> Option<PathBuf> {
        let infos = self.proc_path("fdinfo");
        let descriptors = fs::read_dir(self.proc_path("fd")).ok()?;
        let found = descriptors.flatten().find(|descriptor| {
            is_file(&descriptor.path())
                && fs::read_to_string(infos.join(descriptor.file_name()))
                    .is_ok_and(|info| info.lines().any(&is_lock))
        })?;
        // The PID stood for this process all the time only if it still lives.
        (!self.has_exited()).then(|| found.path())
    }

    /// Its parent, or the process that adopted it since (`proc_pid_stat(5)`, field 4).
    #[must_use]
    pub fn parent_pid(&self) -> Option<u32> {
        Stat::read(self.pid)?.field(4)
    }

    /// The session that it belongs to, named by the PID of the process that created it
    /// (`proc_pid_stat(5)`, field 6).
    #[must_use]
    pub fn session(&self) -> Option<u32> {
        Stat::read(self.pid)?.field(6)
    }

    /// Whether it is a child of `ancestor`, or a child's child.
    #[must_use]
    pub fn descends_from(&self, ancestor: &Self) -> bool {
        let mut parent = self.parent_pid().unwrap_or_default();
        while parent > 1 && parent != ancestor.pid {
            let process = Self::open(parent);
            parent = process.and_then(|it| it.parent_pid()).unwrap_or_default();
        }
        // The PID stood for this process all the time only if it still lives.
        parent == ancestor.pid && !ancestor.has_exited()
    }

    /// Its start time in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub(super) fn start_ticks(&self) -> Option<u64> {
        Stat::read(self.pid)?.field(22)
    }

    /// The user that it belongs to.
    #[must_use]
    pub fn owner_uid(&self) -> Option<u32> {
        let metadata = fs::metadata(self.proc_path("")).ok()?;
        (!self.has_exited()).then_some(metadata.uid())
    }

    /// Whether it belongs to the user of this process.
    #[must_use]
    pub fn belongs_to_this_user(&self) -> bool {
        self.owner_uid() == Some(nix::unistd::geteuid().as_raw())
    }

    /// The environment it was started with; empty when the system hides it.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, OsString> {
        let bytes = fs::read(self.proc_path("environ")).unwrap_or_default();
        if self.has_exited() {
            return BTreeMap::new();
        }
        bytes
            .split(|byte| *byte == 0)
            .filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                let name = String::from_utf8(pair[..at].to_vec()).ok()?;
                Some((name, OsString::from_vec(pair[at + 1..].to_vec())))
            })
            .collect()
    }

    /// Whether both processes run the same file; `None` for a process of another user.
    #[must_use]
    pub fn runs_program_of(&self, other: &Self) -> Option<bool> {
        let program = |process: &Self| fs::metadata(process.proc_path("exe")).ok();
        Some(is_same_file(&program(self)?, &program(other)?))
    }

    /// The program that the process runs; `None` for a process of another user.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        fs::read_link(self.proc_path("exe")).ok()
    }

    fn proc_path(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn name_that_a_process_gave_itself_is_one_line() {
        let mut child = Command::new("sh")
            .args(["-c", "printf 'E\\nX\\033' > /proc/$$/comm; echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        let pid = child.id();
        let name = Process::open(pid).unwrap().describe();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(name, format!("E\u{fffd}X\u{fffd} (PID {pid})"));
    }
}
