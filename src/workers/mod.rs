//! Runs the workers of the application: processes that serve the requests behind the public port.
//!
//! ```text
//! daemon ── Workers ── Slot ── GuardedWorker
//!                                │ channel: orders and reports
//!                              guard (`fullon guard`)          a process of its own
//!                                │ parent of
//!                              worker (`fullon worker`, then the program)
//!                                └ its descendants
//! ```
//!
//! **A slot** (`slot`) is the place of one worker. It starts a worker, waits until that answers HTTP
//! (`ready`), and adds it to the balancer of `proxy`. When the worker dies it leaves the balancer, and
//! another one is started after a delay (`policy`). Each worker has an address of its own
//! (`address`), below `PID_FILE.d` (`directory`), so nothing waits in a queue for a client that has
//! left.
//!
//! **A guard** (`guard`) is between the daemon and each worker, so that nothing is left over. It has
//! one thread, and adopts orphaned descendants (`PR_SET_CHILD_SUBREAPER`). When the worker exits or
//! the channel to the daemon closes, it kills everything below it (`descendants`), and exits.
//!
//! - The daemon is killed: the kernel closes the channels, and the guards end the workers.
//! - A guard is killed: the kernel kills the worker (`PR_SET_PDEATHSIG`). The daemon notices the end
//!   of the channel, and kills the descendants, which it knows by a mark in their environment and by
//!   their session (`mark`, `remains`).
//! - Both are killed: the next start finds the mark, under the lock of the PID file. It also waits for
//!   guards that still clean up. So there are never two sets of workers.
//!
//! **The worker stage** (`stage`) is the worker's process before it becomes the program. It sets up
//! what only the process itself can: the parent's death signal, the socket as descriptor 3,
//! `LISTEN_PID`, limits, directory. It is a program of its own, because code between `fork` and
//! `exec` would have to be `unsafe`. If the program cannot be run, the stage sends the reason to the
//! guard. Otherwise `exec` closes that channel.
//!
//! **Output** (`output`) is read by a thread for each worker: each line is an event of the log. When
//! the log waits for the disk, only this worker waits with it.
//!
//! In a zero-downtime restart each process has its own workers and guards.

mod address;
mod descendants;
mod directory;
mod guard;
mod mark;
mod order;
mod output;
mod policy;
mod ready;
mod remains;
mod report;
mod set;
mod slot;
mod spawn;
mod stage;

pub use directory::WorkersDirectory;
pub use guard::run_guard;
pub use report::{WorkerReport, WorkerState};
pub use set::{Workers, WorkersFailed};
pub use stage::run_worker;
