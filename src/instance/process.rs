//! A process that cannot be confused with another: every signal and every wait goes through a pidfd.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, held by its pidfd, so that its number cannot come to mean another one.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process with this number; `None` when there is none.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        Some(Self { pid, pidfd: handle })
    }

    /// The process with this number, whose pidfd somebody else opened.
    pub(super) fn from_pidfd(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The same process.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_pidfd(self.pid, self.pidfd.try_clone()?))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name and number, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid));
        let name = name.as_deref().map_or("a process", str::trim_end);
        format!("{name} (PID {})", self.pid)
    }

    /// Whether it is gone. A zombie is gone, even where its parent never collects it.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.wait_for_exit(Duration::ZERO)
    }

    /// Whether it was suspended (SIGSTOP, Ctrl-Z).
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        !self.has_exited() && status.lines().any(|line| line.starts_with("State:\tT"))
    }

    /// Waits until it is gone, at most `timeout`; whether it is.
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

    /// Asks it to stop (SIGTERM), also when it is suspended.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn terminate(&self) -> io::Result<()> {
        pidfd_send_signal(&self.pidfd, Signal::TERM)?;
        pidfd_send_signal(&self.pidfd, Signal::CONT)?;
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(Signal::KILL)
    }

    /// Whether it holds a lock of the kind `is_ours` on the file; `None` when the system does not let us look
    /// because the process belongs to somebody else.
    #[must_use]
    pub fn holds_lock(&self, file: &fs::Metadata, is_ours: impl Fn(&str) -> bool) -> Option<bool> {
        let root = Path::new("/proc").join(self.pid.to_string());
        let descriptors = match fs::read_dir(root.join("fd")) {
            Ok(descriptors) => descriptors,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(_) => return Some(false),
        };
        let found = descriptors.flatten().any(|descriptor| {
            let same_file = fs::metadata(descriptor.path())
                .is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
            same_file
                && fs::read_to_string(root.join("fdinfo").join(descriptor.file_name()))
                    .is_ok_and(|info| info.lines().any(&is_ours))
        });
        // The number meant this process all the while only if it still lives.
        Some(found && !self.has_exited())
    }

    /// The process that started it, or the one that adopted it since (`proc_pid_stat(5)`, field 4).
    #[must_use]
    pub fn parent_pid(&self) -> Option<u32> {
        self.stat_field(4)
    }

    /// When it was started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub(super) fn start_ticks(&self) -> Option<u64> {
        self.stat_field(22)
    }

    /// A field of `proc_pid_stat(5)` behind the third.
    fn stat_field<T: FromStr>(&self, field: usize) -> Option<T> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name before it, which is the second, may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(field - 3)?.parse().ok()
    }

    /// The user it belongs to.
    #[must_use]
    pub fn owner_uid(&self) -> Option<u32> {
        let metadata = fs::metadata(format!("/proc/{}", self.pid)).ok()?;
        (!self.has_exited()).then_some(metadata.uid())
    }

    /// Whether it belongs to the user of this process.
    #[must_use]
    pub fn belongs_to_this_user(&self) -> bool {
        self.owner_uid() == Some(nix::unistd::geteuid().as_raw())
    }

    /// The environment it was started with; empty when the system does not let us look.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, OsString> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
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

    /// Returns once it is gone. Must be awaited within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub async fn exited(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; a borrow cannot"
        )]
        let handle = AsyncFd::with_interest(self.pidfd.as_fd(), Interest::READABLE)?;
        handle.readable().await.map(drop)
    }

    /// Every process of the machine.
    pub fn all() -> impl Iterator<Item = Self> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::open)
    }
}
