//! Requests with consecutive numbers, whose log lines show gaps and repetitions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{DEADLINE, Home, LogFollower};

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

/// Numbered requests while `fullon logs` runs, which has to print each of them once.
pub struct FollowedRequests<'a> {
    home: &'a Home,
    requests: NumberedRequests,
    reader: JoinHandle<(Vec<String>, LogFollower)>,
}

impl<'a> FollowedRequests<'a> {
    const LAST: &'static str = "the-last";

    pub fn start(home: &'a Home) -> Self {
        let mut logs = LogFollower::start(home, &["--lines", "1"]);
        // It has to be connected before the first request.
        let mut read = logs.read_until("/admin/logs/stream");
        // Without a reader, the pipe would fill up and the stream would wait.
        let reader = std::thread::spawn(move || {
            read.extend(logs.read_until(Self::LAST));
            (read, logs)
        });
        let requests = NumberedRequests::start(home.public_address());
        Self {
            home,
            requests,
            reader,
        }
    }

    /// Stops the daemon. Checks that the log files and the followed log contain each request once.
    #[track_caller]
    pub fn finish(self) {
        let sent = self.requests.finish();
        self.home.log_request(Self::LAST);
        let (mut read, logs) = self.reader.join().unwrap();
        self.home.run(["stop"]).succeeds();
        let (rest, outcome) = logs.finish();
        read.extend(rest);
        outcome.succeeds();
        let expected: Vec<usize> = (1..=sent).collect();
        let log = self.home.log_with_rotated();
        assert_eq!(request_numbers(log.lines()), expected, "in the files");
        let followed = request_numbers(read.iter().map(String::as_str));
        assert_eq!(followed, expected, "in the followed log");
    }
}
