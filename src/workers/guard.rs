//! The guard: a process between the daemon and one worker, so that nothing of the worker is left
//! over, however daemon and worker end.
//!
//! It has one thread, its own session, and adopts orphaned descendants. It ends everything below it
//! when the worker exits, or when the daemon says so or closes the channel.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::descendants::kill_descendants;
use super::mark::WORKER;
use super::order::{Command, Order, Report, WorkerExit};
use super::stage::IS_PREPARED;
use crate::identity::identity;
use crate::sys::close_inherited_fds;

/// The hidden command that runs [`run_worker`](super::run_worker).
pub const WORKER_COMMAND: &str = "worker";
/// The program of this process, even if its file was replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Runs the guard, with the channel to the daemon on stdin. Returns once nothing is left below it.
///
/// # Errors
///
/// There is no channel, or the system refused.
pub fn run_guard() -> io::Result<()> {
    close_inherited_fds();
    let channel: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let channel = UnixStream::from(channel);
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    // Signals for everything, such as those of a terminal or of systemd, must not end it before the
    // daemon has ended the worker.
    SigSet::all().thread_block()?;
    // Fails only if it leads a process group already.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true)?;
    // Otherwise `ps` shows the name of the link to this program.
    if let Ok(name) = CString::new(format!("{}-guard", identity().command)) {
        nix::sys::prctl::set_name(&name)?;
    }
    let signals = child_signals()?;
    let (order, descriptors) = Order::receive(&channel)?;
    if is_closed(&channel) {
        return Ok(());
    }
    let mut reports = &channel;
    match Guard::start(&order, descriptors, &channel, &signals) {
        Ok(guard) => guard.run(),
        Err(error) => report(
            &mut reports,
            &Report::Failed {
                reason: format!("the worker's process cannot be started: {error}"),
            },
        ),
    }
    kill_descendants(&signals);
    if let Some(socket) = order.socket {
        // The worker or the daemon may have removed it.
        let _ = fs::remove_file(socket);
    }
    Ok(())
}

/// A descriptor that is readable when a child has exited.
fn child_signals() -> io::Result<SignalFd> {
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&child, flags)?)
}

/// Whether nobody is at the other end.
fn is_closed(channel: &UnixStream) -> bool {
    let mut polled = [PollFd::new(channel, PollFlags::empty())];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Sends a report. Without the daemon, nobody wants it.
fn report(channel: &mut impl io::Write, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = channel.write_all(&line);
    }
}

/// A guard whose worker was started.
struct Guard<'a> {
    /// The channel to the daemon.
    daemon: &'a UnixStream,
    signals: &'a SignalFd,
    child: Child,
    worker: Pid,
    /// The worker stage holds the other end until it becomes the program.
    stage: Option<UnixStream>,
    /// The bytes that the worker stage sent.
    sent: Vec<u8>,
    /// The worker could not become the program.
    has_failed: bool,
    /// An unfinished line of the daemon.
    line: Vec<u8>,
    kill_at: Option<Instant>,
}

impl<'a> Guard<'a> {
    fn start(
        order: &Order,
        descriptors: Vec<OwnedFd>,
        daemon: &'a UnixStream,
        signals: &'a SignalFd,
    ) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let output = descriptors.next();
        let output = output.ok_or_else(|| io::Error::other("the order came without a pipe"))?;
        let (stage, theirs) = UnixStream::pair()?;
        let mut command = std::process::Command::new(THIS_PROGRAM);
        command
            .arg0(identity().command)
            .arg(WORKER_COMMAND)
            .env_clear()
            .env(WORKER, &order.mark)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .process_group(0);
        let child = command.spawn()?;
        // Its copies of the descriptors: at the end of the output, or of the listening socket, nobody
        // else may hold them.
        drop(command);
        let sockets: Vec<OwnedFd> = descriptors.collect();
        let sockets: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
        let worker = Pid::from_raw(child.id().cast_signed());
        // A stage that has died is noticed as an exit.
        let _ = order.send(&stage, &sockets);
        Ok(Self {
            daemon,
            signals,
            child,
            worker,
            stage: Some(stage),
            sent: Vec::new(),
            has_failed: false,
            line: Vec::new(),
            kill_at: None,
        })
    }

    /// Returns once the worker has ended, by itself or killed.
    fn run(mut self) {
        loop {
            let is_ready = self.wait();
            if is_ready.stage {
                self.read_from_stage();
            }
            if is_ready.signals && self.worker_has_exited() {
                break;
            }
            if is_ready.daemon && !self.obey() {
                break;
            }
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                break;
            }
        }
        // The worker is not reaped yet, so the number is still that of its group. The kernel kills
        // the members of a group at once: none of them can start another one meanwhile.
        let _ = killpg(self.worker, Signal::SIGKILL);
        let exit = match waitpid(self.worker, None) {
            Ok(WaitStatus::Exited(_, code)) => WorkerExit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => WorkerExit::Signal(signal as i32),
            // Others do not end it.
            _ => WorkerExit::Signal(Signal::SIGKILL as i32),
        };
        // Its end may be noticed before the last bytes that it sent.
        while self.stage.is_some() {
            self.read_from_stage();
        }
        if !self.has_failed {
            report(&mut self.daemon, &Report::Exited(exit));
        }
    }

    /// Waits for the next event.
    fn wait(&self) -> Ready {
        let mut polled = vec![
            PollFd::new(self.daemon, PollFlags::IN),
            PollFd::new(self.signals, PollFlags::IN),
        ];
        polled.extend(self.stage.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        let left = self.kill_at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or_default()
        });
        // A failed call is tried again.
        let _ = poll(&mut polled, left.as_ref());
        let mut ready = polled.iter().map(|it| !it.revents().is_empty());
        let mut next = || ready.next().unwrap_or_default();
        Ready {
            daemon: next(),
            signals: next(),
            stage: next(),
        }
    }

    /// Why the worker stage could not become the program.
    fn start_failure(&self) -> Option<String> {
        match self.sent.strip_prefix(IS_PREPARED) {
            Some([]) => None,
            None if self.sent.is_empty() => {
                Some("its process ended before it ran the program".into())
            }
            reason => {
                let reason = reason.unwrap_or(&self.sent);
                Some(String::from_utf8_lossy(reason).into_owned())
            }
        }
    }

    /// Reads what the worker stage sends. At its end, reports whether the program runs.
    fn read_from_stage(&mut self) {
        let Some(stage) = &mut self.stage else {
            return;
        };
        let mut piece = [0; 4096];
        match stage.read(&mut piece) {
            Ok(read @ 1..) => return self.sent.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            _ => self.stage = None,
        }
        let failure = self.start_failure();
        self.has_failed = failure.is_some();
        let outcome = match failure {
            Some(reason) => Report::Failed { reason },
            None => Report::Started {
                pid: self.child.id(),
            },
        };
        report(&mut self.daemon, &outcome);
    }

    /// Reaps adopted children. The worker itself stays a zombie.
    fn worker_has_exited(&self) -> bool {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if !matches!(
            waitid(Id::Pid(self.worker), flags),
            Ok(WaitStatus::StillAlive)
        ) {
            return true;
        }
        while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) =
            waitid(Id::All, flags)
        {
            if pid == self.worker {
                return true;
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        false
    }

    /// Does what the daemon says. Returns whether the worker continues.
    fn obey(&mut self) -> bool {
        let mut piece = [0; 1024];
        match self.daemon.read(&mut piece) {
            Ok(read @ 1..) => self.line.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Command::Terminate { timeout }) => self.terminate(timeout),
                Ok(Command::Kill) | Err(_) => return false,
            }
        }
        true
    }

    fn terminate(&mut self, timeout: Duration) {
        let kill_at = Instant::now() + timeout;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        // It may have exited just now. A suspended process cannot stop.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            let _ = killpg(self.worker, signal);
        }
    }
}

/// The descriptors with an event.
#[derive(Clone, Copy)]
struct Ready {
    daemon: bool,
    signals: bool,
    stage: bool,
}
