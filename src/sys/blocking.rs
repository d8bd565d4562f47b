//! Waits for the disk inside a task.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs a function that waits for the disk, without holding up other tasks.
pub(crate) fn blocking<T>(function: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(function)
        }
        _ => function(),
    }
}
