//! Ctrl-C and SIGTERM end the run by an error, so that every guard is dropped and no daemon stays behind.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static ASKED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// From now on, signals are noticed by [`rest`] and [`check`].
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
        *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = true;
        CHANGED.notify_all();
    });
    Ok(())
}

/// Lets time pass that is part of a measurement.
pub fn rest(duration: Duration) -> Result<()> {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, _) = CHANGED
        .wait_timeout_while(asked, duration, |asked| !*asked)
        .unwrap_or_else(PoisonError::into_inner);
    if *asked {
        bail!("interrupted");
    }
    Ok(())
}

/// Fails once a signal came.
pub fn check() -> Result<()> {
    rest(Duration::ZERO)
}
