//! What lies between the threads that log and the one that writes: `tracing-appender`'s queue, and what happens when it is full.
//!
//! A burst waits: whoever logs then is as slow as the disk. A disk or a pipe that takes nothing at all must not stop the
//! service: after a moment without any progress events are counted in place of waiting, and the log says how many are missing
//! where they are missing.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::condition::LogHealth;
use super::format::format_own_line;
use crate::config::LogFormat;

/// How many events may wait before the threads that log have to.
const CAPACITY: usize = 16 * 1024;
/// Room for what is no event.
const CONTROL_CAPACITY: usize = 1024;
/// How long nothing may be taken before nobody waits any more.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The end of the queue where events go in.
#[derive(Clone)]
pub(super) struct EventQueue {
    writer: NonBlocking,
    backlog: Arc<Backlog>,
    format: LogFormat,
    /// Told what went in, and that nothing is taken.
    health: Option<Arc<LogHealth>>,
}

#[derive(Default)]
struct Backlog {
    len: AtomicUsize,
    taken: AtomicU64,
    blocked_threads: AtomicUsize,
    progress_lock: Mutex<()>,
    progress: Condvar,
    is_stalled: AtomicBool,
    dropped_events: AtomicU64,
    /// A wake is on its way: one is enough, and more would take the room of events.
    wake_pending: AtomicBool,
}

/// The end where they are taken out.
struct DrainWriter<W> {
    inner: W,
    backlog: Arc<Backlog>,
}

impl EventQueue {
    /// A queue to `inner`, which is written to by a thread of its own.
    pub fn new(
        inner: impl Write + Send + 'static,
        thread: &str,
        format: LogFormat,
        health: Option<Arc<LogHealth>>,
    ) -> (Self, WorkerGuard) {
        let backlog = Arc::<Backlog>::default();
        let outlet = DrainWriter {
            inner,
            backlog: Arc::clone(&backlog),
        };
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(CAPACITY + CONTROL_CAPACITY)
            .thread_name(thread)
            .finish(outlet);
        let queue = Self {
            writer,
            backlog,
            format,
            health,
        };
        (queue, guard)
    }

    /// Makes the writer flush, and says what is missing if there is room for it by now.
    pub fn wake(&mut self) {
        if !self.backlog.wake_pending.swap(true, Ordering::AcqRel) {
            let _ = self.writer.write(b"");
        }
        if self.backlog.is_stalled.load(Ordering::Acquire) && self.backlog.try_acquire() {
            self.set_stalled(false);
            if !self.report_dropped() {
                self.backlog.release();
            }
        }
    }

    /// Sends a line for which there is room.
    fn send(&mut self, line: &[u8]) {
        if let Some(health) = &self.health {
            health.count_queued();
        }
        // It fails for a queue that is full, and there is room.
        let _ = self.writer.write(line);
    }

    /// Whether anything was, in a line that takes the room of one.
    fn report_dropped(&mut self) -> bool {
        let lost = self.backlog.dropped_events.swap(0, Ordering::AcqRel);
        if lost > 0 {
            let message = format!("{lost} events are missing here: the log took nothing");
            let line = format_own_line(self.format, module_path!(), &message);
            self.send(line.as_bytes());
        }
        lost > 0
    }

    fn set_stalled(&self, is_stalled: bool) {
        if self.backlog.is_stalled.load(Ordering::Acquire) == is_stalled {
            return;
        }
        let set = || self.backlog.is_stalled.store(is_stalled, Ordering::Release);
        match &self.health {
            // Together, or another thread's news would be overwritten.
            Some(health) => health.update_errors(|troubles| {
                set();
                let text = "the log takes nothing: events are counted, not logged";
                troubles.stalled = is_stalled.then(|| text.to_owned());
            }),
            None => set(),
        }
    }
}

impl Write for EventQueue {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if !self.backlog.acquire() {
            self.set_stalled(true);
            self.backlog.dropped_events.fetch_add(1, Ordering::AcqRel);
            if let Some(health) = &self.health {
                health.count_dropped(1);
            }
            return Ok(event.len());
        }
        self.set_stalled(false);
        if self.report_dropped() {
            self.backlog.len.fetch_add(1, Ordering::SeqCst);
        }
        self.send(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Backlog {
    /// Takes room for an event; waits for it as long as anything is taken out.
    fn acquire(&self) -> bool {
        loop {
            if self.try_acquire() {
                return true;
            }
            if self.is_stalled.load(Ordering::Acquire) || !self.wait_for_progress() {
                return false;
            }
        }
    }

    // One side writes `sleepers` and reads the others, the other side the reverse: only in one order of all do they not miss
    // each other.
    fn try_acquire(&self) -> bool {
        let more = |waiting| (waiting < CAPACITY).then_some(waiting + 1);
        let order = Ordering::SeqCst;
        self.len.fetch_update(order, order, more).is_ok()
    }

    fn release(&self) {
        self.len.fetch_sub(1, Ordering::SeqCst);
    }

    fn wait_for_progress(&self) -> bool {
        self.blocked_threads.fetch_add(1, Ordering::SeqCst);
        let before = self.taken.load(Ordering::SeqCst);
        let wake = self
            .progress_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_same = |(): &mut ()| {
            self.taken.load(Ordering::SeqCst) == before
                && self.len.load(Ordering::SeqCst) >= CAPACITY
        };
        let waited = self
            .progress
            .wait_timeout_while(wake, STALL_TIMEOUT, is_same);
        self.blocked_threads.fetch_sub(1, Ordering::SeqCst);
        let timed_out = waited.unwrap_or_else(PoisonError::into_inner).1;
        !timed_out.timed_out()
    }

    fn on_taken(&self) {
        self.release();
        self.taken.fetch_add(1, Ordering::SeqCst);
        if self.blocked_threads.load(Ordering::SeqCst) > 0 {
            drop(self.progress_lock.lock());
            self.progress.notify_all();
        }
    }
}

impl<W: Write> Write for DrainWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let written = self.inner.write_all(event);
        self.backlog.on_taken();
        written.map(|()| event.len())
    }

    /// Called after each batch. A wake is an empty event, which `write_all` never passes to `write`.
    fn flush(&mut self) -> io::Result<()> {
        self.backlog.wake_pending.store(false, Ordering::Release);
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
    use std::time::Instant;

    use super::*;

    /// Takes an event for each permit.
    struct Gate {
        permits: Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, event: &[u8]) -> io::Result<usize> {
            // Without a giver of permits everything is taken.
            let _ = self.permits.recv();
            let _ = self.taken.send(String::from_utf8_lossy(event).into_owned());
            Ok(event.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (EventQueue, WorkerGuard, SyncSender<()>, Receiver<String>) {
        let (permits, waiting) = sync_channel(0);
        let (taken, seen) = mpsc::channel();
        let gate = Gate {
            permits: waiting,
            taken,
        };
        let health = Some(Arc::default());
        let (queue, guard) = EventQueue::new(gate, "gate", LogFormat::Text, health);
        (queue, guard, permits, seen)
    }

    #[test]
    fn each_wake_flushes() {
        struct Flushes(mpsc::Sender<()>);

        impl Write for Flushes {
            fn write(&mut self, event: &[u8]) -> io::Result<usize> {
                Ok(event.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                let _ = self.0.send(());
                Ok(())
            }
        }

        let (flushed, flushes) = mpsc::channel();
        let (mut queue, _guard) =
            EventQueue::new(Flushes(flushed), "flushes", LogFormat::Text, None);
        for _ in 0..3 {
            queue.wake();
            let deadline = std::time::Duration::from_secs(30);
            flushes.recv_timeout(deadline).unwrap();
        }
    }

    #[test]
    fn stalled_writer_blocks_nobody_and_drops_are_reported() {
        let (mut queue, guard, permits, seen) = queue();
        let health = queue.health.clone().unwrap();
        for _ in 0..CAPACITY {
            queue.write_all(b"before\n").unwrap();
        }
        let begun = Instant::now();
        for _ in 0..1000 {
            queue.write_all(b"lost\n").unwrap();
        }
        let waited = begun.elapsed();
        assert!(
            (STALL_TIMEOUT..3 * STALL_TIMEOUT).contains(&waited),
            "once, not for each: {waited:?}"
        );
        permits.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), "before\n");
        while !queue.backlog.try_acquire() {
            std::thread::yield_now();
        }
        queue.backlog.release();
        assert!(health.failure().unwrap().contains("takes nothing"));
        // Nobody need log anything for it to be over.
        for _ in 0..2 * CONTROL_CAPACITY {
            queue.wake();
        }
        assert_eq!(health.failure(), None);
        drop(permits);
        for _ in 1..CAPACITY {
            assert_eq!(seen.recv().unwrap(), "before\n");
        }
        assert!(
            seen.recv()
                .unwrap()
                .contains("1000 events are missing here")
        );
        queue.write_all(b"after\n").unwrap();
        assert_eq!(seen.recv().unwrap(), "after\n");
        drop(guard);
        assert_eq!(queue.backlog.len.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn burst_waits_and_drops_nothing() {
        const EVENTS: usize = 3 * CAPACITY;
        let (mut queue, guard, permits, seen) = queue();
        let writer = std::thread::spawn(move || {
            for number in 0..EVENTS {
                queue.write_all(format!("{number}").as_bytes()).unwrap();
            }
            queue
        });
        let giver = std::thread::spawn(move || {
            for _ in 0..EVENTS {
                permits.send(()).unwrap();
            }
        });
        for number in 0..EVENTS {
            assert_eq!(seen.recv().unwrap(), number.to_string());
        }
        let queue = writer.join().unwrap();
        giver.join().unwrap();
        // What was taken last may not be counted yet.
        drop(guard);
        assert_eq!(queue.backlog.len.load(Ordering::SeqCst), 0);
    }
}
