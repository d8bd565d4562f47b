//! Turns Ctrl-C and SIGTERM into an error, so that every guard is dropped and no daemon is left.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// Starts to handle the signals. [`sleep`] and [`check`] fail after one has arrived.
pub fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        *INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner) = true;
        CHANGED.notify_all();
    });
    Ok(())
}

/// Sleeps, or fails as soon as a signal arrives.
pub fn sleep(duration: Duration) -> Result<()> {
    let interrupted = INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner);
    let (interrupted, _) = CHANGED
        .wait_timeout_while(interrupted, duration, |interrupted| !*interrupted)
        .unwrap_or_else(PoisonError::into_inner);
    if *interrupted {
        bail!("interrupted");
    }
    Ok(())
}

/// Fails if a signal has arrived.
pub fn check() -> Result<()> {
    sleep(Duration::ZERO)
}
