//! A log on a real disk that fills up and gets space again, in a mount namespace.

use std::path::PathBuf;

use crate::support::{Connection, Home, Outcome, eventually, running_as_root};

/// A home whose log is on a file system of 1 MiB.
struct SmallDisk {
    home: Home,
    /// The disk, as seen from outside the namespace.
    disk: PathBuf,
}

impl SmallDisk {
    fn started() -> Self {
        let mut home = Home::new();
        let disk = home.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        home.set("LOG_FILE", disk.join("fullon.log").to_str().unwrap());
        let mut command = home.command("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg("mount -t tmpfs -o size=1m tmpfs disk && exec \"$0\" start")
            .arg(env!("CARGO_BIN_EXE_fullon"));
        Outcome::run(&mut command).succeeds();
        let root = PathBuf::from(format!("/proc/{}/root", home.state().pid));
        let disk = root.join(disk.strip_prefix("/").unwrap());
        Self { home, disk }
    }

    fn fill(&self) {
        // Fills the end byte by byte, so that no line fits.
        for size in [64 * 1024, 1024, 1] {
            let filler = self.disk.join(format!("filler-{size}"));
            let mut file = std::fs::File::create(filler).unwrap();
            while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        for size in [64 * 1024, 1024, 1] {
            std::fs::remove_file(self.disk.join(format!("filler-{size}"))).unwrap();
        }
    }

    /// Sends requests, which must succeed whether or not they can be logged.
    fn send_requests(&self, name: &str, numbers: std::ops::Range<usize>) {
        let mut connection = Connection::open(&self.home.public_address());
        for number in numbers {
            let id = format!("{name}-{number}.");
            connection.send("GET", "/", &[("X-Request-Id", &id)], "");
            assert_eq!(connection.read_response("GET").status, 200);
        }
    }

    /// Numbers of the logged requests, in order.
    fn logged_numbers(&self, name: &str) -> Vec<usize> {
        let text = std::fs::read_to_string(self.disk.join("fullon.log")).unwrap();
        text.lines()
            .filter_map(|line| request_number(line, name))
            .collect()
    }

    /// All lines of the log, which must be complete.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.disk.join("fullon.log")).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        let lines = text.lines().map(|line| {
            let is_event = line.starts_with("20") && line.matches("Z  INFO ").count() == 1;
            assert!(is_event || missing_lines(line).is_some(), "{line}");
            line.to_owned()
        });
        lines.collect()
    }

    fn log_check(&self) -> serde_json::Value {
        self.home.call_admin("GET", "/admin/status").json()["checks"][0].clone()
    }

    fn is_log_down(&self) -> bool {
        self.log_check()["state"] == "down"
    }
}

/// The number in a line about a request with this name.
fn request_number(line: &str, name: &str) -> Option<usize> {
    let (_, id) = line.split_once(&format!("request_id=\"{name}-"))?;
    id.strip_suffix(".\"")?.parse().ok()
}

/// The number of missing lines that a line reports.
fn missing_lines(line: &str) -> Option<usize> {
    let (_, note) = line.split_once(" fullon_master_api::logs::write::file: ")?;
    note.strip_suffix(" lines are missing here: the log could not be written")?
        .parse()
        .ok()
}

#[test]
fn buffered_lines_are_written_once_there_is_room() {
    if !running_as_root("buffered_lines_are_written_once_there_is_room") {
        return;
    }
    let small = SmallDisk::started();
    small.send_requests("lines", 0..100);
    small.fill();
    small.send_requests("lines", 100..600);
    eventually("the error is reported", || small.is_log_down());
    let error = small.log_check()["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("lines are buffered"), "{error}");
    let ready = crate::support::request(
        &small.home.public_address(),
        "GET",
        "/health/ready",
        &[],
        "",
    );
    assert_eq!(
        (ready.status, &ready.json()["checks"][0]["state"]),
        (200, &"down".into())
    );
    small
        .home
        .run(["status"])
        .succeeds()
        .stdout_contains(&["No space left"]);

    small.make_room();
    // The daemon retries by itself: nothing is logged meanwhile.
    eventually("all lines are logged", || {
        small.logged_numbers("lines") == (0..600).collect::<Vec<_>>()
    });
    small.lines();
    assert!(!small.is_log_down());
    small.home.run(["stop"]).succeeds();
}

#[test]
fn lines_beyond_the_buffer_are_counted_where_they_are_missing() {
    if !running_as_root("lines_beyond_the_buffer_are_counted_where_they_are_missing") {
        return;
    }
    let small = SmallDisk::started();
    small.fill();
    small.send_requests("lines", 0..4_000);
    eventually("the error is reported", || small.is_log_down());
    small.make_room();
    eventually("the log recovers", || !small.is_log_down());
    small.send_requests("after", 0..3);
    eventually("later lines are logged", || {
        small.logged_numbers("after") == [0, 1, 2]
    });
    let (mut next, mut gap, mut reported, mut lost) = (0, 0, 0, 0);
    for line in small.lines() {
        if let Some(lines) = missing_lines(&line) {
            gap += lines;
            reported += lines;
        } else if let Some(number) = request_number(&line, "lines") {
            assert!(number == next || gap > 0, "{number} after {next}");
            lost += number - next;
            next = number + 1;
            gap = 0;
        }
    }
    lost += 4_000 - next;
    // Requests for the status were logged besides these.
    assert!(
        (lost..lost + 200).contains(&reported),
        "{lost} lines lost, {reported} reported"
    );
    assert!((1..3_000).contains(&lost), "{lost}");
}
