//! Clients that request `/health` all the time.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::health;

/// Number of clients of each kind.
const CLIENTS_PER_KIND: usize = 8;
/// Timeout of each step of a request.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a delay, the number of failures would depend on how fast a port refuses connections.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// The observations of the clients since the previous call.
pub struct Observations {
    pub responses: u64,
    pub failures: f64,
    pub longest_gap: Duration,
}

/// Clients that run until they are dropped.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    started_at: Instant,
    is_stopped: AtomicBool,
    responses: AtomicU64,
    failures: AtomicU64,
    /// Nanoseconds since `started_at`.
    last_response: AtomicU64,
    longest_gap: AtomicU64,
}

impl Clients {
    pub fn start(port: u16) -> Self {
        let shared = Arc::new(Shared {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            started_at: Instant::now(),
            is_stopped: AtomicBool::new(false),
            responses: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_response: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
        });
        let threads = (0..2 * CLIENTS_PER_KIND)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.run(number < CLIENTS_PER_KIND))
            })
            .collect();
        Self { shared, threads }
    }

    pub fn take_observations(&self) -> Observations {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let failed = take(&self.shared.failures) as f64;
        Observations {
            responses: take(&self.shared.responses),
            failures: failed,
            longest_gap: Duration::from_nanos(take(&self.shared.longest_gap)),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic was already printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, is_kept: bool) {
        let mut kept = None;
        while !self.is_stopped.load(Ordering::Relaxed) {
            if let Ok(connection) = self.request(kept.take(), is_kept) {
                kept = connection;
                self.record_response();
            } else {
                self.failures.fetch_add(1, Ordering::Relaxed);
                thread::sleep(RETRY_DELAY);
            }
        }
    }

    /// Sends one request. Returns the connection if it can be kept.
    fn request(&self, kept: Option<TcpStream>, is_kept: bool) -> io::Result<Option<TcpStream>> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let close = if is_kept { "" } else { "Connection: close\r\n" };
        let address = self.address;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\n{close}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut response = Vec::with_capacity(1024);
        while !response.ends_with(health::BODY) {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            response.extend(&buffer[..read]);
        }
        response.make_ascii_lowercase();
        if !response.starts_with(b"http/1.1 200 ") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let is_last = memmem::find(&response, b"connection: close\r\n").is_some();
        Ok((is_kept && !is_last).then_some(stream))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, IO_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        Ok(stream)
    }

    fn record_response(&self) {
        let now = u64::try_from(self.started_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.responses.fetch_add(1, Ordering::Relaxed);
        let before = self.last_response.fetch_max(now, Ordering::Relaxed);
        self.longest_gap
            .fetch_max(now.saturating_sub(before), Ordering::Relaxed);
    }
}
