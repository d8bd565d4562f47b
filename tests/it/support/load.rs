//! Clients that ask all the time, and remember everything that went wrong.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Even a test that hangs is not asked for longer, unless it says how long it takes.
const MAX_DURATION: Duration = Duration::from_mins(3);
/// How long one step of a request may take.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle client thinks between two requests.
const IDLE_INTERVAL: Duration = Duration::from_millis(1500);
/// How long the other clients pause between two requests: without pauses sixteen of them would take
/// all the processor time from the daemon that they ask, and from all other tests.
const PACE: Duration = Duration::from_millis(5);
/// After a failure; somebody who refuses would be asked too often to be told from the rest.
const RETRY_DELAY: Duration = Duration::from_millis(2);
/// More failures of one client tell nothing new.
const MAX_FAILURES: usize = 20;

const PATHS: [(&str, &str); 2] = [
    ("/health", r#"{"status":"healthy","version":""#),
    ("/", r#"{"service":"fullon_master_api","version":""#),
];

/// How many clients of each kind there are.
pub struct LoadProfile {
    /// Open a connection for each request.
    pub per_request: usize,
    /// Keep theirs until an answer says `Connection: close`.
    pub persistent: usize,
    /// Keep theirs, too, and ask now and then.
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

/// A request without its answer.
#[derive(Debug)]
pub struct RequestFailure {
    /// When it failed, from the beginning.
    pub at: Duration,
    /// Whose it was, and what happened.
    pub description: String,
}

/// What the clients saw.
#[derive(Debug)]
pub struct LoadReport {
    /// With the right answer.
    pub answered: u64,
    /// The first ones of each client.
    pub failures: Vec<RequestFailure>,
    /// Kept connections that were closed although no answer had said so.
    pub dropped_connections: u64,
}

impl LoadReport {
    /// Nobody noticed anything.
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

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<RequestFailure>>>,
}

struct Shared {
    address: SocketAddr,
    begun: Instant,
    limit: Duration,
    is_over: AtomicBool,
    answered: AtomicU64,
    cut: AtomicU64,
}

impl Load {
    /// Sends clients to `HOST:PORT`.
    pub fn start(host: &str, clients: &LoadProfile) -> Self {
        Self::start_with_limit(MAX_DURATION, host, clients)
    }

    /// The same for longer, or not so long.
    pub fn start_with_limit(limit: Duration, host: &str, clients: &LoadProfile) -> Self {
        let shared = Arc::new(Shared {
            address: host.parse().unwrap(),
            begun: Instant::now(),
            limit,
            is_over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
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

    /// How many requests were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many requests more are answered.
    #[track_caller]
    pub fn wait_for_more(&self, requests: u64) {
        let enough = self.answered() + requests;
        super::eventually("requests are answered", || self.answered() >= enough);
    }

    /// Lets everybody finish the request at hand.
    pub fn finish(mut self) -> LoadReport {
        let failures = self.join_clients();
        LoadReport {
            answered: self.answered(),
            failures,
            dropped_connections: self.shared.cut.load(Ordering::Relaxed),
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
    /// Kept from the request before.
    connection: Option<TcpStream>,
}

/// Why there was no answer.
enum RequestError {
    /// A kept connection was closed without notice.
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
            let (path, body) = PATHS[turn % PATHS.len()];
            match self.request(path, body) {
                Ok(()) => drop(self.shared.answered.fetch_add(1, Ordering::Relaxed)),
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

    /// Waits for the next request, unless the load ends.
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
    /// It says that the connection will be closed.
    is_last: bool,
    /// Where the body begins.
    body: usize,
}

/// Reads one answer with a `Content-Length` into `received`.
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

/// The server closes, as it was asked to.
fn expect_end(stream: &mut TcpStream) -> Result<(), String> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err("more than one answer".into()),
        Err(error) => Err(format!("behind the answer: {error}")),
    }
}
