//! Clients that ask for `/health` all the time.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::health;

/// Of each kind.
const CLIENTS: usize = 8;
/// How long one step of a request may take.
const STEP: Duration = Duration::from_secs(5);
/// After a failure. Without it, the count of failures would tell how fast a port can refuse.
const PAUSE: Duration = Duration::from_millis(10);

/// What they saw since the last look.
pub struct Seen {
    pub answered: u64,
    pub failed: f64,
    pub longest_gap: Duration,
}

/// At work until they are dropped.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    begun: Instant,
    is_over: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Nanoseconds from the beginning.
    last_answer: AtomicU64,
    longest_gap: AtomicU64,
}

impl Clients {
    pub fn begin(port: u16) -> Self {
        let shared = Arc::new(Shared {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            begun: Instant::now(),
            is_over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
        });
        let threads = (0..2 * CLIENTS)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.work(number < CLIENTS))
            })
            .collect();
        Self { shared, threads }
    }

    pub fn seen(&self) -> Seen {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let failed = take(&self.shared.failed) as f64;
        Seen {
            answered: take(&self.shared.answered),
            failed,
            longest_gap: Duration::from_nanos(take(&self.shared.longest_gap)),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, is_kept: bool) {
        let mut kept = None;
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok(connection) = self.ask(kept.take(), is_kept) {
                kept = connection;
                self.note_answer();
            } else {
                self.failed.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        }
    }

    /// Asks once; returns the connection if it can be kept.
    fn ask(&self, kept: Option<TcpStream>, is_kept: bool) -> io::Result<Option<TcpStream>> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let close = if is_kept { "" } else { "Connection: close\r\n" };
        let address = self.address;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\n{close}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::with_capacity(1024);
        while !answer.ends_with(health::BODY) {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend(&buffer[..read]);
        }
        answer.make_ascii_lowercase();
        if !answer.starts_with(b"http/1.1 200 ") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let is_last = memmem::find(&answer, b"connection: close\r\n").is_some();
        Ok((is_kept && !is_last).then_some(stream))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, STEP)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        Ok(stream)
    }

    fn note_answer(&self) {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.answered.fetch_add(1, Ordering::Relaxed);
        let before = self.last_answer.fetch_max(now, Ordering::Relaxed);
        self.longest_gap
            .fetch_max(now.saturating_sub(before), Ordering::Relaxed);
    }
}
