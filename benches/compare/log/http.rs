//! As much of HTTP/1.1 as a measuring client needs, so that little of what is measured is its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::interrupt;

/// How long one read or write may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A longer head is no answer to any request here.
const MAX_HEAD: usize = 16 * 1024;
const READ: usize = 256 * 1024;

/// Connects to a server on this machine.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A request without its end: headers may follow, then an empty line.
pub fn request(method: &str, path: &str, port: u16, token: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    if let Some(token) = token {
        text.push_str("Authorization: Bearer ");
        text.push_str(token);
        text.push_str("\r\n");
    }
    text
}

/// A kept connection.
pub struct Connection {
    port: u16,
    token: Option<String>,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(port: u16, token: Option<String>) -> Result<Self> {
        Ok(Self {
            port,
            token,
            stream: connect(port)?,
            buffer: vec![0; READ],
        })
    }

    /// Asks, and reads the answer to its end; how many bytes its body has.
    pub fn get(&mut self, path: &str, headers: &str) -> Result<u64> {
        let request = request("GET", path, self.port, self.token.as_deref());
        self.exchange(&format!("{request}{headers}\r\n"), |_| Ok(()))
            .with_context(|| format!("GET {path}"))
    }

    /// The same for a server that sends head and body apart, and the second only when the first was acknowledged: that
    /// is done at once, as it is on a connection that is new.
    pub fn post(&mut self, path: &str, content_type: &str, body: &str) -> Result<u64> {
        let request = request("POST", path, self.port, self.token.as_deref());
        let length = body.len();
        let request = format!(
            "{request}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.exchange(&request, |stream| {
            Ok(rustix::net::sockopt::set_tcp_quickack(stream, true)?)
        })
        .with_context(|| format!("POST {path}"))
    }

    fn exchange(
        &mut self,
        request: &str,
        before_read: impl Fn(&TcpStream) -> Result<()>,
    ) -> Result<u64> {
        self.stream.write_all(request.as_bytes())?;
        let mut answer = Answer::new();
        let mut body = 0;
        while !answer.is_complete() {
            interrupt::check()?;
            before_read(&self.stream)?;
            let read = self.stream.read(&mut self.buffer)?;
            ensure!(read > 0, "the connection was closed within the answer");
            answer.take(&self.buffer[..read], |piece| body += piece.len() as u64)?;
        }
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(body)
    }
}

/// An answer that arrives in pieces.
pub struct Answer {
    status: u16,
    state: State,
}

enum State {
    Head(Vec<u8>),
    /// A body of a known length, and what is missing of it.
    Sized(u64),
    /// A body that ends with the connection.
    Open,
    /// The line before a chunk: its size up to here, and whether that has ended.
    ChunkSize(u64, bool),
    Chunk(u64),
    ChunkEnd,
    /// Behind the last chunk, and whether the line is empty up to here.
    Trailer(bool),
    Complete,
}

impl Answer {
    pub fn new() -> Self {
        Self {
            status: 0,
            state: State::Head(Vec::new()),
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// Takes what arrived, and hands on what of it is body.
    pub fn take(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<()> {
        while let Some(&byte) = bytes.first() {
            match &mut self.state {
                State::Head(head) => {
                    head.push(byte);
                    bytes = &bytes[1..];
                    ensure!(head.len() <= MAX_HEAD, "the head of the answer is too long");
                    if head.ends_with(b"\r\n\r\n") {
                        let head = std::mem::take(head);
                        (self.status, self.state) = read_head(&head)?;
                    }
                }
                State::Open => {
                    body(bytes);
                    bytes = &[];
                }
                State::Sized(missing) | State::Chunk(missing) => {
                    let here = usize::try_from(*missing)?.min(bytes.len());
                    let (piece, rest) = bytes.split_at(here);
                    body(piece);
                    bytes = rest;
                    *missing -= here as u64;
                    if *missing == 0 {
                        self.state = match self.state {
                            State::Sized(_) => State::Complete,
                            _ => State::ChunkEnd,
                        };
                    }
                }
                State::ChunkSize(size, has_ended) => {
                    bytes = &bytes[1..];
                    match (char::from(byte).to_digit(16), byte) {
                        (_, b'\n') if *size == 0 => self.state = State::Trailer(true),
                        (_, b'\n') => self.state = State::Chunk(*size),
                        (Some(digit), _) if !*has_ended => *size = (*size << 4) + u64::from(digit),
                        _ => *has_ended = true,
                    }
                }
                State::ChunkEnd => {
                    bytes = &bytes[1..];
                    if byte == b'\n' {
                        self.state = State::ChunkSize(0, false);
                    }
                }
                State::Trailer(is_empty) => {
                    bytes = &bytes[1..];
                    match byte {
                        b'\n' if *is_empty => self.state = State::Complete,
                        b'\n' => *is_empty = true,
                        b'\r' => {}
                        _ => *is_empty = false,
                    }
                }
                State::Complete => bail!("{} bytes behind the answer", bytes.len()),
            }
        }
        Ok(())
    }
}

fn read_head(head: &[u8]) -> Result<(u16, State)> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let status = head
        .strip_prefix("http/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .context("no answer in HTTP/1.1")?;
    let value = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let state = match (value("transfer-encoding"), value("content-length")) {
        (Some("chunked"), _) => State::ChunkSize(0, false),
        (_, Some("0")) => State::Complete,
        (_, Some(length)) => State::Sized(length.parse()?),
        _ => State::Open,
    };
    Ok((status, state))
}
