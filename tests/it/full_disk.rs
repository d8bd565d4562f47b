//! A log on a disk that fills up and gets room again: a real one, in a mount namespace of the daemon's own.

use std::path::PathBuf;

use crate::support::{Connection, Home, Outcome, eventually, needs_root};

/// A home whose daemon's log is on a file system of 1 MiB.
struct SmallDisk {
    home: Home,
    /// The disk, as it is seen from here.
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
        Outcome::of(&mut command).succeeds();
        let root = PathBuf::from(format!("/proc/{}/root", home.state().pid));
        let disk = root.join(disk.strip_prefix("/").unwrap());
        Self { home, disk }
    }

    fn fill(&self) {
        // Byte by byte at the end, so that no line fits.
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

    /// Requests that are answered as ever, whatever becomes of their lines.
    fn request(&self, name: &str, numbers: std::ops::Range<usize>) {
        let mut connection = Connection::open(&self.home.public());
        for number in numbers {
            let id = format!("{name}-{number}.");
            connection.send("GET", "/", &[("X-Request-Id", &id)], "");
            assert_eq!(connection.answer("GET").status, 200);
        }
    }

    /// The numbers of those of the requests that are in the log, in its order.
    fn logged(&self, name: &str) -> Vec<usize> {
        let text = std::fs::read_to_string(self.disk.join("fullon.log")).unwrap();
        text.lines().filter_map(|line| number(line, name)).collect()
    }

    /// The lines of the log, which are whole.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.disk.join("fullon.log")).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        let lines = text.lines().map(|line| {
            let is_event = line.starts_with("20") && line.matches("Z  INFO ").count() == 1;
            assert!(is_event || missing(line).is_some(), "{line}");
            line.to_owned()
        });
        lines.collect()
    }

    fn log_check(&self) -> serde_json::Value {
        self.home.ask("GET", "/admin/status").json()["checks"][0].clone()
    }

    fn is_down(&self) -> bool {
        self.log_check()["state"] == "down"
    }
}

/// Which of the requests with this name the line is about.
fn number(line: &str, name: &str) -> Option<usize> {
    let (_, id) = line.split_once(&format!("request_id=\"{name}-"))?;
    id.strip_suffix(".\"")?.parse().ok()
}

/// How many lines are missing where this one stands.
fn missing(line: &str) -> Option<usize> {
    let (_, note) = line.split_once(" fullon_master_api::logs::writer: ")?;
    note.strip_suffix(" lines are missing here: the log could not be written")?
        .parse()
        .ok()
}

#[test]
fn buffered_lines_are_written_once_there_is_room() {
    if !needs_root("buffered_lines_are_written_once_there_is_room") {
        return;
    }
    let small = SmallDisk::started();
    small.request("lines", 0..100);
    small.fill();
    small.request("lines", 100..600);
    eventually("it is told", || small.is_down());
    let error = small.log_check()["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("lines wait for room"), "{error}");
    let ready = crate::support::request(&small.home.public(), "GET", "/health/ready", &[], "");
    assert_eq!(
        (ready.status, &ready.json()["checks"][0]["state"]),
        (200, &"down".into())
    );
    small
        .home
        .run(["status"])
        .succeeds()
        .prints(&["No space left"]);

    small.make_room();
    // By itself: nothing is logged meanwhile.
    eventually("all lines are there", || {
        small.logged("lines") == (0..600).collect::<Vec<_>>()
    });
    small.lines();
    assert!(!small.is_down());
    small.home.run(["stop"]).succeeds();
}

#[test]
fn lines_beyond_the_buffer_are_counted_where_they_are_missing() {
    if !needs_root("lines_beyond_the_buffer_are_counted_where_they_are_missing") {
        return;
    }
    let small = SmallDisk::started();
    small.fill();
    small.request("lines", 0..4_000);
    eventually("it is told", || small.is_down());
    small.make_room();
    eventually("it recovers", || !small.is_down());
    small.request("after", 0..3);
    eventually("it goes on", || small.logged("after") == [0, 1, 2]);
    let (mut next, mut gap, mut told, mut lost) = (0, 0, 0, 0);
    for line in small.lines() {
        if let Some(lines) = missing(&line) {
            gap += lines;
            told += lines;
        } else if let Some(number) = number(&line, "lines") {
            assert!(number == next || gap > 0, "{number} after {next}");
            lost += number - next;
            next = number + 1;
            gap = 0;
        }
    }
    lost += 4_000 - next;
    // Beside these requests, those for the status were logged.
    assert!(
        (lost..lost + 200).contains(&told),
        "{lost} were lost, {told} told"
    );
    assert!((1..3_000).contains(&lost), "{lost}");
}
