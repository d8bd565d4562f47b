//! A minimal HTTP/1.1 client, so that its own cost hardly affects the figures.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::interrupt;

/// Timeout of each read and write.
const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_HEADERS: usize = 16 * 1024;
const BUFFER_SIZE: usize = 256 * 1024;

/// Connects to a server on this machine.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The start of a request. More headers and an empty line have to follow.
pub fn request_headers(method: &str, path: &str, port: u16, token: Option<&str>) -> String {
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
            buffer: vec![0; BUFFER_SIZE],
        })
    }

    /// Sends a request and reads the whole response. Returns the size of its body.
    pub fn get(&mut self, path: &str, headers: &str) -> Result<u64> {
        let request = request_headers("GET", path, self.port, self.token.as_deref());
        self.exchange(&format!("{request}{headers}\r\n"), |_| Ok(()))
            .with_context(|| format!("GET {path}"))
    }

    /// Like [`Self::get`], for a server that sends the body after the headers are acknowledged.
    /// They are acknowledged at once, as on a new connection.
    pub fn post(&mut self, path: &str, content_type: &str, body: &str) -> Result<u64> {
        let request = request_headers("POST", path, self.port, self.token.as_deref());
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
        let mut response = ResponseParser::new();
        let mut body = 0;
        while !response.is_complete() {
            interrupt::check()?;
            before_read(&self.stream)?;
            let read = self.stream.read(&mut self.buffer)?;
            ensure!(read > 0, "the connection was closed within the answer");
            response.parse(&self.buffer[..read], |piece| body += piece.len() as u64)?;
        }
        ensure!(response.status == 200, "status {}", response.status);
        Ok(body)
    }
}

/// Parses a response that arrives in pieces.
pub struct ResponseParser {
    status: u16,
    state: ResponseState,
}

enum ResponseState {
    Headers(Vec<u8>),
    /// A body of a known length, with the number of missing bytes.
    FixedLength(u64),
    /// A body that ends with the connection.
    UntilClose,
    /// The line before a chunk: the size so far, and whether its digits have ended.
    ChunkSize(u64, bool),
    Chunk(u64),
    ChunkEnd,
    /// After the last chunk, and whether the line is empty so far.
    Trailer(bool),
    Complete,
}

impl ResponseParser {
    pub fn new() -> Self {
        Self {
            status: 0,
            state: ResponseState::Headers(Vec::new()),
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.state, ResponseState::Complete)
    }

    /// Parses the next bytes. Passes the body to `body`.
    pub fn parse(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<()> {
        while let Some(&byte) = bytes.first() {
            match &mut self.state {
                ResponseState::Headers(headers) => {
                    headers.push(byte);
                    bytes = &bytes[1..];
                    ensure!(
                        headers.len() <= MAX_HEADERS,
                        "the head of the answer is too long"
                    );
                    if headers.ends_with(b"\r\n\r\n") {
                        let headers = std::mem::take(headers);
                        (self.status, self.state) = parse_headers(&headers)?;
                    }
                }
                ResponseState::UntilClose => {
                    body(bytes);
                    bytes = &[];
                }
                ResponseState::FixedLength(missing) | ResponseState::Chunk(missing) => {
                    let here = usize::try_from(*missing)?.min(bytes.len());
                    let (piece, rest) = bytes.split_at(here);
                    body(piece);
                    bytes = rest;
                    *missing -= here as u64;
                    if *missing == 0 {
                        self.state = match self.state {
                            ResponseState::FixedLength(_) => ResponseState::Complete,
                            _ => ResponseState::ChunkEnd,
                        };
                    }
                }
                ResponseState::ChunkSize(size, has_ended) => {
                    bytes = &bytes[1..];
                    match (char::from(byte).to_digit(16), byte) {
                        (_, b'\n') if *size == 0 => self.state = ResponseState::Trailer(true),
                        (_, b'\n') => self.state = ResponseState::Chunk(*size),
                        (Some(digit), _) if !*has_ended => *size = (*size << 4) + u64::from(digit),
                        _ => *has_ended = true,
                    }
                }
                ResponseState::ChunkEnd => {
                    bytes = &bytes[1..];
                    if byte == b'\n' {
                        self.state = ResponseState::ChunkSize(0, false);
                    }
                }
                ResponseState::Trailer(is_empty) => {
                    bytes = &bytes[1..];
                    match byte {
                        b'\n' if *is_empty => self.state = ResponseState::Complete,
                        b'\n' => *is_empty = true,
                        b'\r' => {}
                        _ => *is_empty = false,
                    }
                }
                ResponseState::Complete => bail!("{} bytes behind the answer", bytes.len()),
            }
        }
        Ok(())
    }
}

fn parse_headers(headers: &[u8]) -> Result<(u16, ResponseState)> {
    let headers = std::str::from_utf8(headers)?.to_ascii_lowercase();
    let status = headers
        .strip_prefix("http/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .context("no answer in HTTP/1.1")?;
    let value = |name: &str| {
        headers
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let state = match (value("transfer-encoding"), value("content-length")) {
        (Some("chunked"), _) => ResponseState::ChunkSize(0, false),
        (_, Some("0")) => ResponseState::Complete,
        (_, Some(length)) => ResponseState::FixedLength(length.parse()?),
        _ => ResponseState::UntilClose,
    };
    Ok((status, state))
}
