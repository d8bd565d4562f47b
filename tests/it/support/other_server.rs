//! Another web server on this machine.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

const PAGE: &str = "<!doctype html><title>neighbour</title>";
/// Paths with this prefix redirect to the URL behind it, by a 307, which keeps method and body.
const REDIRECT: &str = "/redirect?";

/// Serves one page for every path, and records the request headers.
pub struct OtherServer {
    address: SocketAddr,
    pub requests: mpsc::Receiver<String>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Whole responses by path.
    responses: Mutex<HashMap<String, String>>,
    /// The server that responds instead.
    relay_target: Mutex<Option<String>>,
}

impl OtherServer {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Listens on a port that a daemon has left.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let (shared, sender) = (Arc::clone(&shared), sender.clone());
                    // The client may have closed the connection.
                    thread::spawn(move || drop(answer(stream, &shared, &sender)));
                }
            }
        });
        Self {
            address,
            requests,
            shared,
            thread: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, responds to requests for this path with these headers and this body.
    pub fn answer(&self, path: &str, head: &str, body: &str) {
        let length = body.len();
        let response = format!(
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut responses = self.shared.responses.lock().unwrap();
        responses.insert(path.to_owned(), response);
    }

    /// From now on, relays connections to another server. To a browser this is the same origin, as
    /// with DNS rebinding.
    pub fn relay_to(&self, host: &str) {
        *self.shared.relay_target.lock().unwrap() = Some(host.to_owned());
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn answer(stream: TcpStream, shared: &Shared, heads: &mpsc::Sender<String>) -> std::io::Result<()> {
    // A browser also opens connections before it needs them.
    stream.peek(&mut [0])?;
    if shared.is_over.load(Ordering::Relaxed) {
        return Ok(());
    }
    let behind = shared.relay_target.lock().unwrap().clone();
    match behind {
        Some(host) => relay(&stream, &host),
        None => serve(stream, shared, heads),
    }
}

fn serve(stream: TcpStream, shared: &Shared, heads: &mpsc::Sender<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    reader.read_exact(&mut vec![0; length])?;
    let path = head.split(' ').nth(1);
    let prepared = path.and_then(|path| shared.responses.lock().unwrap().get(path).cloned());
    if let Some(response) = prepared {
        let _ = heads.send(head);
        return reader.get_mut().write_all(response.as_bytes());
    }
    let target = path.and_then(|path| path.split_once(REDIRECT));
    let status = match target {
        Some((_, url)) => format!("307 Temporary Redirect\r\nLocation: {url}"),
        None => "200 OK".to_owned(),
    };
    let length = PAGE.len();
    // The test may not read them.
    let _ = heads.send(head);
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PAGE}"
    )
}

fn relay(mut client: &TcpStream, host: &str) -> std::io::Result<()> {
    let server = TcpStream::connect(host)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &server, &mut &*client);
            let _ = client.shutdown(Shutdown::Write);
        });
        let copied = std::io::copy(&mut client, &mut &server);
        let _ = server.shutdown(Shutdown::Write);
        copied.map(drop)
    })
}
