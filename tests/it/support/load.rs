//! Clients that send requests all the time and record every failure.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The load ends after this time even if the test hangs, unless the test sets another limit.
const MAX_DURATION: Duration = Duration::from_mins(3);
/// Timeout of connecting, sending and receiving.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two requests of an idle client.
const IDLE_INTERVAL: Duration = Duration::from_millis(1500);
/// Time between two requests of the other clients. Without a pause, sixteen clients would use all
/// processor time, and leave none to other tests.
const PACE: Duration = Duration::from_millis(5);
/// Pause after a failure, so that a server that refuses does not flood the list of failures.
const RETRY_DELAY: Duration = Duration::from_millis(2);
/// Recorded failures per client.
const MAX_FAILURES: usize = 20;

/// Paths, and the start of the body that each answers.
pub type Requests = [(&'static str, &'static str)];

const PATHS: &Requests = &[
    ("/health", r#"{"status":"healthy","version":""#),
    ("/", r#"{"service":"fullon_master_api","version":""#),
];

/// Number of clients of each kind.
pub struct LoadProfile {
    /// Clients that open a connection for each request.
    pub per_request: usize,
    /// Clients that keep their connection until a response says `Connection: close`.
    pub persistent: usize,
    /// Clients that keep their connection and send a request now and then.
    pub idle: usize,
}

impl Default for LoadProfile {
    fn default() -> Self {
        Self {
            per_request: 8,
            persistent: 8,
            idle: 4,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientKind {
    PerRequest,
    Persistent,
    Idle,
}

/// A request without the expected response.
#[derive(Debug)]
pub struct RequestFailure {
    /// Time since the start of the load.
    pub at: Duration,
    /// Which client failed, and why.
    pub description: String,
}

/// Result of a load.
#[derive(Debug)]
pub struct LoadReport {
    /// Requests with the expected response.
    pub answered: u64,
    /// The first failures of each client.
    pub failures: Vec<RequestFailure>,
    /// Persistent connections closed without `Connection: close`.
    pub dropped_connections: u64,
    /// The longest time in which no request was answered.
    pub longest_gap: Duration,
}

impl LoadReport {
    /// Asserts that no request failed and no connection was dropped.
    #[track_caller]
    pub fn assert_flawless(&self) {
        let failures: Vec<String> = self
            .failures
            .iter()
            .map(|failure| format!("{:?}: {}", failure.at, failure.description))
            .collect();
        assert!(
            failures.is_empty() && self.dropped_connections == 0,
            "{} answered, {} cut, {failures:#?}",
            self.answered,
            self.dropped_connections
        );
        assert!(self.answered > 0, "nobody asked anything");
    }
}

/// Running clients. Dropping it ends them.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<RequestFailure>>>,
}

struct Shared {
    address: SocketAddr,
    begun: Instant,
    limit: Duration,
    is_over: AtomicBool,
    requests: &'static Requests,
    answered: AtomicU64,
    /// When the last request was answered, in microseconds since the start.
    answered_at: AtomicU64,
    /// The longest time between two answers, in microseconds.
    longest_gap: AtomicU64,
    cut: AtomicU64,
}

impl Shared {
    fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap();
        let before = self.answered_at.fetch_max(now, Ordering::Relaxed);
        let gap = now.saturating_sub(before);
        self.longest_gap.fetch_max(gap, Ordering::Relaxed);
    }
}

impl Load {
    /// Starts clients of `HOST:PORT`.
    pub fn start(host: &str, clients: &LoadProfile) -> Self {
        Self::start_with_limit(MAX_DURATION, host, clients)
    }

    /// Starts clients with another time limit.
    pub fn start_with_limit(limit: Duration, host: &str, clients: &LoadProfile) -> Self {
        Self::spawn(limit, host, clients, PATHS)
    }

    /// Starts clients that send these requests in turn.
    pub fn start_requesting(
        requests: &'static Requests,
        host: &str,
        clients: &LoadProfile,
    ) -> Self {
        Self::spawn(MAX_DURATION, host, clients, requests)
    }

    fn spawn(
        limit: Duration,
        host: &str,
        clients: &LoadProfile,
        requests: &'static Requests,
    ) -> Self {
        let shared = Arc::new(Shared {
            address: host.parse().unwrap(),
            begun: Instant::now(),
            limit,
            is_over: AtomicBool::new(false),
            requests,
            answered: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        let habits = [
            (ClientKind::PerRequest, clients.per_request),
            (ClientKind::Persistent, clients.persistent),
            (ClientKind::Idle, clients.idle),
        ];
        let clients = habits
            .into_iter()
            .flat_map(|(habit, count)| (0..count).map(move |number| (habit, number)))
            .map(|(habit, number)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    LoadClient {
                        shared: &shared,
                        habit,
                        number,
                        connection: None,
                    }
                    .run()
                })
            })
            .collect();
        Self { shared, clients }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests are answered.
    #[track_caller]
    pub fn wait_for_more(&self, requests: u64) {
        let enough = self.answered() + requests;
        super::eventually("requests are answered", || self.answered() >= enough);
    }

    /// Lets each client finish its request, and returns the result.
    pub fn finish(mut self) -> LoadReport {
        let failures = self.join_clients();
        LoadReport {
            answered: self.answered(),
            failures,
            dropped_connections: self.shared.cut.load(Ordering::Relaxed),
            longest_gap: Duration::from_micros(self.shared.longest_gap.load(Ordering::Relaxed)),
        }
    }

    fn join_clients(&mut self) -> Vec<RequestFailure> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients.drain(..) {
            client.thread().unpark();
            failures.extend(client.join().unwrap());
        }
        failures.sort_by_key(|failure| failure.at);
        failures
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join_clients();
    }
}

struct LoadClient<'a> {
    shared: &'a Shared,
    habit: ClientKind,
    number: usize,
    /// Persistent connection of the previous request.
    connection: Option<TcpStream>,
}

/// Reason of a failed request.
enum RequestError {
    /// A persistent connection was closed without `Connection: close`.
    Cut(String),
    Failed(String),
}

impl LoadClient<'_> {
    fn run(mut self) -> Vec<RequestFailure> {
        let mut failures = Vec::new();
        for turn in self.number.. {
            if self.is_over() {
                break;
            }
            let requests = self.shared.requests;
            let (path, body) = requests[turn % requests.len()];
            match self.request(path, body) {
                Ok(()) => self.shared.count_answer(),
                Err(lost) => {
                    let why = match lost {
                        RequestError::Cut(why) => {
                            self.shared.cut.fetch_add(1, Ordering::Relaxed);
                            format!("cut without notice: {why}")
                        }
                        RequestError::Failed(why) => why,
                    };
                    if failures.len() < MAX_FAILURES {
                        failures.push(RequestFailure {
                            at: self.shared.begun.elapsed(),
                            description: format!(
                                "{:?} {}, GET {path}: {why}",
                                self.habit, self.number
                            ),
                        });
                    }
                    thread::sleep(RETRY_DELAY);
                }
            }
            self.pause();
        }
        failures
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
            || self.shared.begun.elapsed() > self.shared.limit
    }

    /// Waits until the next request is due or the load ends.
    fn pause(&self) {
        let pause = match self.habit {
            ClientKind::Idle => IDLE_INTERVAL,
            ClientKind::PerRequest | ClientKind::Persistent => PACE,
        };
        let until = Instant::now() + pause;
        while !self.is_over() && Instant::now() < until {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    fn request(&mut self, path: &str, body: &str) -> Result<(), RequestError> {
        let kept = self.connection.take();
        let is_kept = kept.is_some();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect().map_err(RequestError::Failed)?,
        };
        let close = match self.habit {
            ClientKind::PerRequest => "Connection: close\r\n",
            ClientKind::Persistent | ClientKind::Idle => "",
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{close}\r\n",
            self.shared.address
        );
        let mut received = Vec::with_capacity(1024);
        let answer = stream
            .write_all(request.as_bytes())
            .map_err(|error| format!("sending: {error}"))
            .and_then(|()| read_response(&mut stream, &mut received));
        let answer = answer.map_err(|why| {
            if is_kept && received.is_empty() {
                RequestError::Cut(why)
            } else {
                RequestError::Failed(why)
            }
        })?;
        if !answer.is_ok || !received[answer.body..].starts_with(body.as_bytes()) {
            let text = String::from_utf8_lossy(&received);
            return Err(RequestError::Failed(format!("another answer: {text}")));
        }
        if self.habit == ClientKind::PerRequest {
            expect_end(&mut stream).map_err(RequestError::Failed)
        } else {
            self.connection = (!answer.is_last).then_some(stream);
            Ok(())
        }
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&self.shared.address, IO_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(IO_TIMEOUT))?;
            stream.set_write_timeout(Some(IO_TIMEOUT))?;
            Ok(stream)
        };
        connect().map_err(|error: std::io::Error| format!("connecting: {error}"))
    }
}

struct ResponseHead {
    is_ok: bool,
    /// It contains `Connection: close`.
    is_last: bool,
    /// Offset of the body.
    body: usize,
}

/// Reads one response with a `Content-Length` into `received`.
fn read_response(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<ResponseHead, String> {
    let (answer, end) = loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse::<usize>().ok());
            let answer = ResponseHead {
                is_ok: head.starts_with("http/1.1 200 "),
                is_last: head.lines().any(|line| line == "connection: close"),
                body: end + 4,
            };
            break (answer, end + 4 + length.ok_or("no Content-Length")?);
        }
        read_some(stream, received)?;
    };
    while received.len() < end {
        read_some(stream, received)?;
    }
    if received.len() > end {
        return Err("more than one answer".into());
    }
    Ok(answer)
}

fn read_some(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 2048];
    match stream.read(&mut buffer) {
        Ok(0) => Err(format!("closed after {} bytes", received.len())),
        Ok(read) => {
            received.extend(&buffer[..read]);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(format!("after {} bytes: {error}", received.len())),
    }
}

/// Waits until the server closes the connection, as requested.
fn expect_end(stream: &mut TcpStream) -> Result<(), String> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err("more than one answer".into()),
        Err(error) => Err(format!("behind the answer: {error}")),
    }
}
