//! Groups of tests of which only a few may run at the same time, because each needs much of the
//! machine. All other tests mostly wait, so `make test` runs several of them per processor.

use std::sync::{Condvar, Mutex, PoisonError};

/// Tests of one kind.
pub struct Group {
    limit: usize,
    running: Mutex<usize>,
    ended: Condvar,
}

/// Tests with a real browser.
pub static BROWSER: Group = Group::with_limit(2);
/// Tests that boot systemd.
pub static SYSTEMD: Group = Group::with_limit(2);
/// Tests that use all the processor time there is: builds, crowds of clients, soak.
pub static HEAVY: Group = Group::with_limit(1);

/// The right to run. The next test of the group may run when it is dropped.
pub struct Permit(&'static Group);

impl Group {
    const fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            running: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    /// Waits until fewer tests of the group run than the limit.
    pub fn enter(&'static self) -> Permit {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |running: &mut usize| *running >= self.limit;
        let running = self.ended.wait_while(running, is_full);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Permit(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let running = self.0.running.lock();
        *running.unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_one();
    }
}
