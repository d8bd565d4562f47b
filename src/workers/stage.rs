//! The worker stage: the process of a worker, before it becomes the program. It sets up what only
//! the process itself can set up.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::order::Order;
use crate::sys::close_inherited_fds;

/// The number of the inherited socket (`SD_LISTEN_FDS_START`).
pub const SOCKET_FD: i32 = 3;
/// Sent to the guard before this process becomes the program. The reason follows if it cannot.
pub const IS_PREPARED: &[u8] = b"\0";
/// The channel must not take the number of the socket.
const CHANNEL_FD: i32 = 10;
/// How much more likely than the daemon the kernel kills a worker when memory runs out.
const OOM_SCORE_ADJUSTMENT: i32 = 200;

/// Becomes the program that the order on stdin names. Returns only if it cannot, after it has told
/// the guard why.
///
/// # Errors
///
/// There is no guard.
pub fn run_worker() -> io::Result<Infallible> {
    // Nothing else ends this process if the guard is killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_inherited_fds();
    let channel = UnixStream::from(fcntl_dupfd_cloexec(io::stdin(), CHANNEL_FD)?);
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    let (order, sockets) = Order::receive(&channel)?;
    if has_ended(&channel) {
        return Err(io::Error::other("the guard has ended"));
    }
    let mut channel = &channel;
    let reason = match prepare(&order, sockets) {
        Ok(mut command) => {
            channel.write_all(IS_PREPARED)?;
            describe(&order, &command.exec())
        }
        Err(reason) => reason,
    };
    channel.write_all(reason.as_bytes())?;
    Err(io::Error::other(reason))
}

/// The guard may have been killed before this process asked to be killed with it.
fn has_ended(channel: &UnixStream) -> bool {
    let mut polled = [PollFd::new(channel, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok()
        && polled[0].revents().contains(PollFlags::HUP)
}

/// Sets up this process, and the command to become.
fn prepare(order: &Order, sockets: Vec<OwnedFd>) -> Result<Command, String> {
    let has_socket = !sockets.is_empty();
    for socket in sockets {
        pass_socket(socket)
            .map_err(|error| format!("the socket cannot be passed as descriptor 3: {error}"))?;
    }
    order.limits.apply();
    raise_oom_score();
    std::env::set_current_dir(&order.directory).map_err(|error| {
        let directory = Path::new(&order.directory).display();
        format!("APP_DIRECTORY: cannot change to {directory}: {error}")
    })?;
    let [program, arguments @ ..] = &*order.words else {
        return Err("APP_COMMAND: is empty".into());
    };
    // Those that the guard blocks would stay blocked in the program.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| format!("the signals cannot be unblocked: {errno}"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    let variables = order.environment.iter();
    command.envs(variables.map(|(name, value)| (name, value)));
    if has_socket && order.announces_socket {
        command.env("LISTEN_FDS", "1");
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    Ok(command)
}

/// Keeps the socket open in the program, as descriptor 3.
fn pass_socket(socket: OwnedFd) -> io::Result<()> {
    let passed = if socket.as_raw_fd() == SOCKET_FD {
        socket
    } else {
        fcntl_dupfd_cloexec(socket.as_fd(), SOCKET_FD)?
    };
    if passed.as_raw_fd() != SOCKET_FD {
        return Err(io::Error::other("it is in use"));
    }
    fcntl_setfd(&passed, FdFlags::empty())?;
    // It is the program's now.
    std::mem::forget(passed);
    Ok(())
}

fn raise_oom_score() {
    let path = "/proc/self/oom_score_adj";
    let inherited = fs::read_to_string(path).ok();
    let inherited: i32 = inherited
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default();
    let raised = (inherited + OOM_SCORE_ADJUSTMENT).min(1000);
    // Without it, the kernel chooses by memory alone.
    let _ = fs::write(path, raised.to_string());
}

fn describe(order: &Order, error: &io::Error) -> String {
    let program = order.words.first().map_or(OsStr::new(""), |it| it);
    let name = program.display();
    let is_searched = !program.as_encoded_bytes().contains(&b'/');
    match error.kind() {
        io::ErrorKind::NotFound if is_searched => {
            format!("APP_COMMAND: {name} is in no directory of PATH")
        }
        _ => format!("APP_COMMAND: cannot run {name}: {error}"),
    }
}
