//! Requests with consecutive numbers, whose log lines show gaps and repetitions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::DEADLINE;

/// Sends numbered requests to the public API all the time.
pub struct NumberedRequests {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<usize>,
}

impl NumberedRequests {
    pub fn start(host: String) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let pace = Duration::from_millis(2);
            let mut number = 0;
            // The request fails while the daemon is down.
            while stopped.recv_timeout(pace) == Err(mpsc::RecvTimeoutError::Timeout) {
                number += 1;
                let _ = send_numbered(&host, number);
            }
            number
        });
        Self { stop, thread }
    }

    /// Stops, and returns the number of requests.
    pub fn finish(self) -> usize {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

fn send_numbered(host: &str, number: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: mark-{number:06}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

/// Whether the log line belongs to a numbered request.
pub fn is_numbered_request(line: &str) -> bool {
    line.contains("request_id=\"mark-")
}

/// The request numbers in the lines, sorted, because two processes log at the same time.
pub fn request_numbers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut numbers: Vec<usize> = lines
        .filter_map(|line| line.split_once("request_id=\"mark-")?.1.split_once('"'))
        .map(|(number, _)| number.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}
