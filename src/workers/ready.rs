//! Waits until a worker answers HTTP.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::address::Address;
use crate::proxy::probe;
use crate::sys::{Process, blocking};

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the first attempt may take. The next ones may take twice as long each: a program may
/// lose a request while it starts, or be slow.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

/// The attempts at one worker.
#[derive(Debug, Default)]
pub struct ReadyProbe {
    last_error: Mutex<Option<String>>,
}

impl ReadyProbe {
    /// Returns once the worker is ready.
    pub async fn wait(&self, address: &Address, path: Option<&str>, guard: &Process) {
        let mut timeout = FIRST_TIMEOUT;
        loop {
            let attempt = tokio::time::timeout(timeout, probe(&address.upstream, path)).await;
            let error = match attempt {
                Ok(Ok(())) if blocking(|| address.is_held_below(guard)) => return,
                Ok(Ok(())) => {
                    let at = address.tcp().map(|it| it.to_string()).unwrap_or_default();
                    format!("another program listens at {at}")
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => {
                    timeout *= 2;
                    "no response".into()
                }
            };
            *self.lock() = Some(error);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Why the last attempt failed.
    pub fn last_error(&self) -> String {
        let error = self.lock().clone();
        error.unwrap_or_else(|| "no response".into())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
