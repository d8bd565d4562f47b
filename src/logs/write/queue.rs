//! The queue between the threads that log and the thread that writes: `tracing-appender`'s queue,
//! with a policy for when it is full.
//!
//! During a burst, threads that log wait for the disk. But a disk or pipe that accepts nothing must
//! not stop the service: after [`STALL_TIMEOUT`] without progress, events are dropped and counted.
//! The log reports the number at the place where the events are missing.
//!
//! Events that this program only passes on, in any amount, get a part of the queue ([`in_bulk`]). So
//! other threads do not wait for them.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::format::format_own_line;
use super::health::LogHealth;
use crate::config::LogFormat;

/// How many events can be queued before threads that log have to wait.
const CAPACITY: usize = 16 * 1024;
/// Additional capacity for wake-ups, which are not events.
const CONTROL_CAPACITY: usize = 1024;
/// How many events there may be before a thread waits that logs in bulk.
const BULK_CAPACITY: usize = CAPACITY / 2;
/// How many bytes there may be before such a thread waits.
const BULK_BYTES: usize = 4 * 1024 * 1024;
/// How long threads wait without any progress of the writer before events are dropped.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    static IS_BULK: Cell<bool> = const { Cell::new(false) };
}

/// Logs what `log` logs in a part of the queue.
pub fn in_bulk(log: impl FnOnce()) {
    IS_BULK.set(true);
    log();
    IS_BULK.set(false);
}

/// The producers' end of the queue.
#[derive(Clone)]
pub(crate) struct EventQueue {
    writer: NonBlocking,
    backlog: Arc<Backlog>,
    format: LogFormat,
    /// Receives the number of queued events, and stalls.
    health: Option<Arc<LogHealth>>,
    /// Before a line of the queue itself.
    pub own_line_prefix: &'static str,
}

#[derive(Default)]
struct Backlog {
    len: AtomicUsize,
    bytes: AtomicUsize,
    taken: AtomicU64,
    blocked_threads: AtomicUsize,
    progress_lock: Mutex<()>,
    progress: Condvar,
    is_stalled: AtomicBool,
    dropped_events: AtomicU64,
    /// A wake-up is queued. A second one would only use capacity.
    wake_pending: AtomicBool,
}

/// The consumer's end of the queue: passes events to the inner writer and releases their slots.
struct DrainWriter<W> {
    inner: W,
    backlog: Arc<Backlog>,
}

impl EventQueue {
    /// Starts a thread that writes the events of the queue to `inner`.
    pub fn new(
        inner: impl Write + Send + 'static,
        thread: &str,
        format: LogFormat,
        health: Option<Arc<LogHealth>>,
    ) -> (Self, WorkerGuard) {
        let backlog = Arc::<Backlog>::default();
        let drain = DrainWriter {
            inner,
            backlog: Arc::clone(&backlog),
        };
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(CAPACITY + CONTROL_CAPACITY)
            .thread_name(thread)
            .finish(drain);
        let queue = Self {
            writer,
            backlog,
            format,
            health,
            own_line_prefix: "",
        };
        (queue, guard)
    }

    /// Makes the writer flush, and ends a stall if there is capacity again.
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

    /// Queues a line for which a slot was acquired.
    fn send(&mut self, line: &[u8]) {
        if let Some(health) = &self.health {
            health.count_queued();
        }
        self.backlog.bytes.fetch_add(line.len(), Ordering::SeqCst);
        // Fails only if the queue is full, and there is a slot.
        let _ = self.writer.write(line);
    }

    /// Queues a line with the number of dropped events, if there are any. The line needs a slot.
    /// Returns whether it was queued.
    fn report_dropped(&mut self) -> bool {
        let dropped = self.backlog.dropped_events.swap(0, Ordering::AcqRel);
        if dropped > 0 {
            let message = format!("{dropped} events are missing here: the log queue was full");
            let line = format_own_line(self.format, module_path!(), &message);
            self.send(format!("{}{line}", self.own_line_prefix).as_bytes());
        }
        dropped > 0
    }

    fn set_stalled(&self, is_stalled: bool) {
        if self.backlog.is_stalled.load(Ordering::Acquire) == is_stalled {
            return;
        }
        let set = || self.backlog.is_stalled.store(is_stalled, Ordering::Release);
        match &self.health {
            // Under one lock, so that the error agrees with the flag when threads race.
            Some(health) => health.update_errors(|errors| {
                set();
                let text = "the log queue is full; events are counted, not logged";
                errors.stalled = is_stalled.then(|| text.to_owned());
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
    /// Acquires a slot for an event. Waits as long as the writer makes progress.
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

    // A blocked thread writes `blocked_threads`, then reads `len` and `taken`. The writer does the
    // reverse. Only sequential consistency ensures that at least one of them sees the other.
    fn try_acquire(&self) -> bool {
        let more = |len| self.has_space(len).then_some(len + 1);
        let order = Ordering::SeqCst;
        self.len.fetch_update(order, order, more).is_ok()
    }

    /// Whether this thread may queue an event.
    fn has_space(&self, len: usize) -> bool {
        if IS_BULK.get() {
            len < BULK_CAPACITY && self.bytes.load(Ordering::SeqCst) < BULK_BYTES
        } else {
            len < CAPACITY
        }
    }

    fn release(&self) {
        self.len.fetch_sub(1, Ordering::SeqCst);
    }

    fn wait_for_progress(&self) -> bool {
        self.blocked_threads.fetch_add(1, Ordering::SeqCst);
        let before = self.taken.load(Ordering::SeqCst);
        let guard = self.progress_lock.lock();
        let guard = guard.unwrap_or_else(PoisonError::into_inner);
        let is_same = |(): &mut ()| {
            self.taken.load(Ordering::SeqCst) == before
                && !self.has_space(self.len.load(Ordering::SeqCst))
        };
        let waited = self
            .progress
            .wait_timeout_while(guard, STALL_TIMEOUT, is_same);
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
        self.backlog.bytes.fetch_sub(event.len(), Ordering::SeqCst);
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

    use super::*;

    /// Takes one event for each permit.
    struct Gate {
        permits: Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, event: &[u8]) -> io::Result<usize> {
            // After the sender of permits is dropped, everything is taken.
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
        // The first one waits, the others do not: without that, this would take 1000 timeouts.
        for _ in 0..1000 {
            queue.write_all(b"dropped\n").unwrap();
        }
        permits.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), "before\n");
        while !queue.backlog.try_acquire() {
            std::thread::yield_now();
        }
        queue.backlog.release();
        assert!(health.failure().unwrap().contains("queue is full"));
        // The stall ends without another event.
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
    fn bulk_leaves_space_for_others() {
        for event in ["bulk".to_owned(), "bulk".repeat(BULK_BYTES / 64)] {
            let (queue, guard, permits, seen) = queue();
            let mut bulk = queue.clone();
            let limit = BULK_CAPACITY.min(BULK_BYTES.div_ceil(event.len()));
            let count = limit + 10;
            let producer = std::thread::spawn(move || {
                for _ in 0..count {
                    in_bulk(|| bulk.write_all(event.as_bytes()).unwrap());
                }
            });
            while queue.backlog.blocked_threads.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert_eq!(queue.backlog.len.load(Ordering::SeqCst), limit);
            // This thread does not wait.
            queue.clone().write_all(b"other").unwrap();
            assert_eq!(queue.backlog.len.load(Ordering::SeqCst), limit + 1);
            drop(permits);
            producer.join().unwrap();
            drop((queue, guard));
            assert_eq!(seen.iter().filter(|it| it == "other").count(), 1);
        }
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
        // Joins the writer's thread, which may still have to release the last slot.
        drop(guard);
        assert_eq!(queue.backlog.len.load(Ordering::SeqCst), 0);
    }
}
