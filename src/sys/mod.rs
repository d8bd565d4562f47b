//! The system calls that several modules need, each in one place.

mod blocking;
mod denial;
mod disk;
mod fd;
mod fd_passing;
mod file;
mod limits;
mod listener;
mod memory;
mod port_owner;
mod process;
mod procfs;
mod program;
mod tcp_sockets;
mod text;

pub(crate) use blocking::blocking;
pub(crate) use denial::{denial, explain_denial};
pub(crate) use disk::DiskSpace;
pub(crate) use fd::{
    close_inherited_fds, fd_limit, inherited_file, memory_file, open_fd_count, raise_fd_limit,
    reopen,
};
pub(crate) use fd_passing::{receive_with_fds, send_with_fds};
pub(crate) use file::{
    Defect, FIRST_MARK, FileLock, OpenError, Renamed, adopt_owner, create_beside, exchange,
    has_foreign_lock, is_same_file, is_trusted_owner, lock_within, open_nofollow, open_owned,
    open_private, open_regular, rename_synced, rename_without_replacing, share_byte, unnamed_file,
};
pub(crate) use limits::{ORIGINAL_LIMITS, SoftLimits, disable_core_dumps, original_limits};
pub(crate) use listener::{
    BACKLOG, HeldPort, LoneListener, adopt_listener, bind, can_hold_port, fin_timeout, hold_port,
    is_ephemeral_port, is_local_address, listen_alone, listen_overlapping,
};
pub use listener::{SocketId, listen};
pub(crate) use memory::release_free_memory;
pub(crate) use port_owner::{
    find_listener, is_in_use_only_by, is_listening_below, is_visible_socket,
};
pub use process::Process;
pub(crate) use process::{is_root_of_machine, usage_below};
pub(crate) use procfs::Stat;
pub use program::ProgramError;
pub(crate) use program::{find_program, missing_interpreter};
pub(crate) use tcp_sockets::{
    Ending, TcpSocket, connected_socket, foreign_socket_at_port, foreign_socket_in_repeated_looks,
    other_socket_at_port, overlapping_socket, sockets_accepting,
};
pub(crate) use text::{hex, is_hidden, json_escape};
