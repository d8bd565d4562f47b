//! A minimal HTTP client. A test sees and controls every byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;

use super::DEADLINE;

/// A persistent connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(there, _)| there.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The cookie that the response sets, as a browser sends it back: `NAME=VALUE`.
    pub fn cookie(&self) -> String {
        let cookie = self.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Asserts a problem (RFC 9457) with this status whose detail contains the text.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:#?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self:#?}");
        assert!(
            problem["type"].is_string() && problem["title"].is_string(),
            "{self:#?}"
        );
        assert!(
            problem["detail"].as_str().unwrap().contains(text),
            "no `{text}` in {self:#?}"
        );
    }
}

impl Connection {
    pub fn open(host: &str) -> Self {
        Self::over(TcpStream::connect(host).unwrap(), host)
    }

    /// Opens a connection from this address of the machine.
    pub fn open_from(source: &str, host: &str) -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        bind(&socket, &address(&format!("{source}:0"))).unwrap();
        connect(&socket, &address(host)).unwrap();
        Self::over(TcpStream::from(socket), host)
    }

    fn over(stream: TcpStream, host: &str) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            reader: BufReader::new(stream),
            host: host.to_owned(),
        }
    }

    /// Opens a connection with a small receive buffer, for a client that does not read.
    pub fn with_small_buffer(host: &str) -> Self {
        let connection = Self::open(host);
        let stream = connection.reader.get_ref();
        rustix::net::sockopt::set_socket_recv_buffer_size(stream, 64 * 1024).unwrap();
        connection
    }

    /// Reading fails when nothing comes for this time.
    pub fn set_read_timeout(&self, timeout: Duration) {
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(timeout)).unwrap();
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.extend(["Host: ", &self.host, "\r\n"]);
        }
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() {
            let length = body.len().to_string();
            text.extend([
                "Content-Length: ",
                &length,
                "\r\nContent-Type: application/json\r\n",
            ]);
        }
        self.send_bytes(format!("{text}\r\n{body}").as_bytes());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Closes the sending side.
    pub fn shutdown_write(&mut self) {
        self.reader
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// Reads status and headers of the next response.
    pub fn read_head(&mut self) -> Response {
        let status = self.read_line();
        let status = status
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no status: {status:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.read_line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_owned(), value.trim_ascii().to_owned()));
        }
        Response {
            status: status.parse().unwrap(),
            headers,
            body: String::new(),
        }
    }

    /// Reads the next response with its body.
    pub fn read_response(&mut self, to: &str) -> Response {
        let mut answer = self.read_head();
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = String::from_utf8(self.read_chunks()).unwrap();
            return answer;
        }
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        if to != "HEAD" {
            answer.body = self.read_text(length);
        }
        answer
    }

    /// Reads so many bytes of text.
    pub fn read_text(&mut self, length: usize) -> String {
        String::from_utf8(self.read_bytes(length)).unwrap()
    }

    pub fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a chunked body (RFC 9112, section 7.1).
    pub fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.read_line(), 16).unwrap();
            let start = body.len();
            body.resize(start + length, 0);
            self.reader.read_exact(&mut body[start..]).unwrap();
            assert_eq!(self.read_line(), "");
            if length == 0 {
                return body;
            }
        }
    }

    /// Reads a line without its end. Empty at the end of the connection.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads until the server closes or resets the connection.
    pub fn read_rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        rest
    }

    /// Reads until the server closes the connection.
    pub fn read_to_end(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Sends one request on a new connection.
pub fn request(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut connection = Connection::open(host);
    connection.send(method, path, headers, body);
    connection.read_response(method)
}
